"""`partitions.maintain`: months are made ahead, and those that a retention policy takes are let go, one at a time.

Each step is a transaction of its own and whole by itself, so an attempt that was killed between any two is followed by
one that goes on: what was counted and dropped stands in `ops.retention_runs`. A month that somebody uses is let be and
tried again later, ever more seldom.
"""

import time
from collections.abc import Iterator
from datetime import timedelta
from typing import ClassVar
from uuid import UUID

from db import months
from db.connection import Connection
from pipelines.outcomes import Done, Outcome, Snooze
from pipelines.payload import Payload
from pipelines.registry import AnyTask
from pipelines.schedule import Schedule
from pipelines.task import Task, TaskContext

_PAGE = 10_000
# An attempt's own time; a statement that it began before may take the system role's 300 s on top.
_SECONDS = 300.0
# A reader of a minute is outlasted in a dozen looks, one of a day in a hundred.
_SOONEST, _SHARE, _LATEST = 2.0, 10.0, 300.0


class MaintainPartitions(Payload):
    """Make the months that are missing, and let those go that a policy (`drop_partition`) takes."""

    task_type: ClassVar[str] = "partitions.maintain"


def maintain(context: TaskContext, payload: MaintainPartitions) -> Outcome:
    """Do what can be done now; done when no table lacks a month and none is left that may go."""
    with context.outside() as connection:
        left = months.make_missing(connection)
        deadline = time.monotonic() + _SECONDS
        for policy in months.policies(connection):
            left += _let_go(context, connection, policy, deadline)
        came_to = months.came_to(connection, context.task_id)
    if left:
        pause = min(max(came_to.seconds / _SHARE, _SOONEST), _LATEST)
        return Snooze(timedelta(seconds=pause), reason=f"in use: {', '.join(left)}")
    return Done({"dropped": came_to.dropped, "rows_held": came_to.rows_held})


def _let_go(context: TaskContext, connection: Connection, policy: str, deadline: float) -> list[str]:
    """Run one policy; return the months that are left for later, which keeps its run open."""
    run_id = months.begin(connection, policy, context.task_id)
    if run_id is None:
        return []
    ends = list(_each(context, connection, run_id, deadline))
    left = [leaf for leaf, outcome, _ in ends if outcome in ("busy", "filled")]
    if not left:
        months.end(connection, run_id, sum(held for _, _, held in ends))
    return left


def _each(
    context: TaskContext, connection: Connection, run_id: UUID, deadline: float
) -> Iterator[tuple[str, months.MonthOutcome, int]]:
    """Let each month of a run go; yield its name, what came of it, and how many of its rows a hold keeps."""
    leaves = months.to_go(connection, run_id)
    for number, leaf in enumerate(leaves):
        context.progress(number / len(leaves), leaf)
        while months.clear(connection, run_id, leaf, _PAGE) == _PAGE and time.monotonic() < deadline:
            context.progress(number / len(leaves), f"rows of {leaf}")
        yield leaf, *months.drop(connection, run_id, leaf)


SCHEDULES = (
    Schedule(
        name="partitions",
        payload=MaintainPartitions(),
        cron="10 1 * * *",
        jitter=timedelta(minutes=5),
        design="004",
        description="Makes months ahead, and lets those go that a retention policy takes.",
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
