"""`tasks.replay`: failed tasks that a filter names live again, so many a second, as a task of Greenroom's own.

Each attempt revives one slice in the transaction that ends the attempt, and snoozes until the next is due. Where it
stands is kept on its own row in that transaction: whatever is killed, no task is replayed twice and none is left out.
It comes to tasks in the order of their ends, up to the moment when it was asked for: what fails again meanwhile has
ended later.
"""

from dataclasses import replace
from datetime import timedelta
from typing import ClassVar
from uuid import UUID

from pydantic import AwareDatetime, Field

from core.backoff import Backoff
from db import replays
from db.tasks import TaskFilter
from pipelines.outcomes import Done, Outcome, Snooze
from pipelines.payload import Payload
from pipelines.registry import AnyTask
from pipelines.task import RetryPolicy, Task, TaskContext
from pipelines.transaction import Transaction

LEAST_RATE, RATE, MOST_RATE = 0.01, 100.0, 1000.0
"""Tasks a second: a slice is what the rate gives in a second, and one of 1,000 takes half a second to write."""


class ReplayTasks(Payload):
    """Replay failed tasks, and cancelled ones if asked to: those that the filter names, oldest first.

    `of_type` is their task type, `error` a part of their last error; `since` and `until` say when they ended. At most
    `count` are replayed, `rate` a second.
    """

    task_type: ClassVar[str] = "tasks.replay"

    cancelled: bool = False
    of_type: str | None = None
    queue: str | None = None
    tenant_id: UUID | None = None
    owner_id: UUID | None = None
    error: str | None = None
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    count: int = Field(replays.MOST, ge=1, le=replays.MOST)
    rate: float = Field(RATE, ge=LEAST_RATE, le=MOST_RATE)

    def wanted(self) -> TaskFilter:
        """Return the filter."""
        return TaskFilter(
            statuses=("failed", "cancelled") if self.cancelled else ("failed",),
            task_type=self.of_type,
            queue=self.queue,
            tenant_id=self.tenant_id,
            owner_id=self.owner_id,
            error=self.error,
            since=self.since,
            until=self.until,
        )


def replay(context: TaskContext, payload: ReplayTasks) -> Outcome:
    """Replay the next slice; done when nothing is left of what had ended before it was asked for."""
    with context.read() as transaction:
        standing = replays.standing(transaction.connection, context.task_id)
        left = payload.count - standing.seen
        size = min(max(int(payload.rate), 1), left)
        until = min(standing.asked_at, payload.until or standing.asked_at)
        found = replays.following(transaction.connection, replace(payload.wanted(), until=until), size, standing)
    context.progress(standing.seen / payload.count, _told(standing, payload.count))
    if not found:
        return Done({"replayed": standing.replayed, "skipped": standing.skipped})

    def apply(transaction: Transaction) -> None:
        replays.replay_slice(transaction.connection, context.task_id, standing, found, until)

    is_last = len(found) < size or size == left
    return Snooze(timedelta(seconds=0 if is_last else len(found) / payload.rate), apply)


def _told(standing: replays.Standing, count: int) -> str:
    skipped = f", {standing.skipped} skipped" if standing.skipped else ""
    return f"{standing.replayed} of {count} replayed{skipped}"


TASKS: tuple[AnyTask, ...] = (
    Task(
        payload=ReplayTasks,
        run=replay,
        scope="system",
        batch_size=1,
        time_limit=timedelta(minutes=1),
        # Each snooze comes to one task or more. One that goes on for days outlives many a worker, and goes on soon.
        max_snoozes=replays.MOST,
        max_attempts=100,
        retry=RetryPolicy(Backoff(base=1.0, maximum=30.0, jitter=0.2)),
    ),
)
