"""`partitions.maintain`: months are made ahead. Those that a retention policy takes go by `retention.enforce`.

Each month is a transaction of its own. A table that somebody uses is let be and tried again later.
"""

from datetime import timedelta
from typing import ClassVar

from db import months
from pipelines.outcomes import Done, Outcome, Snooze
from pipelines.payload import Payload
from pipelines.registry import AnyTask
from pipelines.schedule import Schedule
from pipelines.task import Task, TaskContext

_PAUSE = timedelta(minutes=1)


class MaintainPartitions(Payload):
    """Make the months that are missing."""

    task_type: ClassVar[str] = "partitions.maintain"


def maintain(context: TaskContext, payload: MaintainPartitions) -> Outcome:
    """Make what can be made now; done when no table lacks a month."""
    with context.outside() as connection:
        left = months.make_missing(connection)
    return Snooze(_PAUSE, reason=f"in use: {', '.join(left)}") if left else Done({})


SCHEDULES = (
    Schedule(
        name="partitions",
        payload=MaintainPartitions(),
        cron="10 1 * * *",
        jitter=timedelta(minutes=5),
        design="004",
        description="Makes months ahead.",
    ),
)
TASKS: tuple[AnyTask, ...] = (
    Task(
        payload=MaintainPartitions,
        run=maintain,
        scope="system",
        outside=True,
        batch_size=1,
        time_limit=timedelta(minutes=15),
    ),
)
