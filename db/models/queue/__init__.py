"""The queue: tasks and their attempts, what they wait for, what they may occupy, and what is told of them."""

from db.models.queue.limits import Limit as Limit
from db.models.queue.limits import LimitToken as LimitToken
from db.models.queue.registry import Process as Process
from db.models.queue.registry import Queue as Queue
from db.models.queue.registry import TaskType as TaskType
from db.models.queue.schedules import Fire as Fire
from db.models.queue.schedules import Schedule as Schedule
from db.models.queue.tasks import Attempt as Attempt
from db.models.queue.tasks import Batch as Batch
from db.models.queue.tasks import OutboxTask as OutboxTask
from db.models.queue.tasks import Settlement as Settlement
from db.models.queue.tasks import TaskDependency as TaskDependency
from db.models.queue.watch import Alert as Alert
from db.models.queue.watch import Chore as Chore
from db.models.queue.watch import Gauge as Gauge
from db.models.queue.watch import Statistic as Statistic
