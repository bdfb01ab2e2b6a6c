"""`health.rollup`: hours that are over, persona by persona, from all their measures.

How far it came stands in the hours themselves: one is due while it was rolled up from fewer measures than there are. So
a late measure has its hour rolled up again, and one that was killed goes on at what is left. What retention takes away
of an hour's measures leaves the hour as it is.
"""

from datetime import timedelta
from typing import ClassVar
from uuid import UUID

from pydantic import AwareDatetime

from db import persona_health, standings
from pipelines.outcomes import Done, Outcome, Snooze
from pipelines.payload import Payload
from pipelines.registry import AnyTask
from pipelines.schedule import Schedule
from pipelines.task import UNCOUNTED, Task, TaskContext
from pipelines.transaction import Transaction

_PERSONAS, _HOURS = 200, 500


class RollUpHealth(Payload):
    """Roll up hours: of each persona from a day before its last one on, or all from `since` on."""

    task_type: ClassVar[str] = "health.rollup"

    since: AwareDatetime | None = None


def roll_up(context: TaskContext, payload: RollUpHealth) -> Outcome:
    """Roll up the next hours; done behind the last persona."""
    with context.read() as transaction:
        standing = standings.read(transaction.connection, context.task_id, "rolling")
        after, count = UUID(standing.get("after", standings.FIRST)), standing.get("hours", 0)
        found = persona_health.personas(transaction.connection, after, _PERSONAS)
        due = persona_health.hours_due(transaction.connection, found, payload.since, _HOURS)
    is_whole = len(due) < _HOURS
    is_last = is_whole and len(found) < _PERSONAS
    reached = str(found[-1]) if is_whole and found else str(after)

    def apply(transaction: Transaction) -> None:
        persona_health.roll_up(transaction.connection, due)
        if not is_last:
            now = {"after": reached, "hours": count + len(due)}
            standings.note(transaction.connection, context.task_id, "rolling", now)

    return Done({"hours": count + len(due)}, apply) if is_last else Snooze(timedelta(0), apply)


TASKS: tuple[AnyTask, ...] = (
    Task(payload=RollUpHealth, run=roll_up, scope="system", batch_size=1, max_snoozes=UNCOUNTED),
)
SCHEDULES = (
    Schedule(
        name="health-rollup",
        payload=RollUpHealth(),
        cron="5 * * * *",
        missed="once",
        overlap="skip",
        design="000",
        description="Rolls up personas' measures of hours that are over.",
    ),
)
