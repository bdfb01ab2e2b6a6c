"""`indexes.rebuild`: indexes of tables that change all the time are rebuilt, one by one, beside the work.

An index of a queue grows with the longest backlog that it has held and does not shrink by itself. While it is rebuilt
the old one serves; one that a killed rebuild left behind is dropped first, since every write would go on paying for it.
"""

from datetime import timedelta
from typing import ClassVar

from pydantic import Field

from db import maintenance
from db.connection import Connection
from pipelines.care.rounds import care_task, work_off
from pipelines.outcomes import Outcome
from pipelines.payload import Payload
from pipelines.schedule import Schedule
from pipelines.task import TaskContext

HOT = (
    "assistants.conversations",
    "billing.tenant_quotas",
    "identity.api_keys",
    "identity.user_sessions",
    "identity.users",
    "knowledge.term_changes",
    "knowledge.term_statistics",
    "mail.folders",
    "queue.limit_tokens",
    "queue.limits",
    "queue.processes",
    "queue.schedules",
    "queue.settlements",
    "queue.task_dependencies",
    "queue.tasks_live",
)
"""Tables whose rows are updated, or come and go, all the time; one that is not there yet has no index."""


class RebuildIndexes(Payload):
    """Rebuild indexes of at least so many bytes."""

    task_type: ClassVar[str] = "indexes.rebuild"

    least_bytes: int = Field(10_000_000, ge=0)


def rebuild(context: TaskContext, payload: RebuildIndexes) -> Outcome:
    """Drop what is left over, then rebuild; fails where an index could not be, whose old one serves on."""

    def choose(connection: Connection) -> list[str]:
        found = maintenance.indexes(connection, HOT, payload.least_bytes)
        return [*maintenance.leftovers(connection), *found]

    advice = "their old ones serve on; see who held them, and enqueue indexes.rebuild again"
    return work_off(context, choose, maintenance.rebuild, advice=advice)


TASKS = (care_task(RebuildIndexes, rebuild),)
SCHEDULES = (
    Schedule(
        name="indexes",
        payload=RebuildIndexes(),
        cron="0 4 * * SUN#1",
        jitter=timedelta(minutes=15),
        design="004",
        description="Rebuilds indexes of tables that change all the time.",
    ),
)
