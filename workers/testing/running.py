"""Run tasks in the test's own thread, by the executor that a worker runs them by: all that is due, or one."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Unpack
from uuid import UUID

from core import events
from core.errors import UsageError
from db import processes, queue
from db.queries import Queries
from pipelines.enqueue import Options, enqueue
from pipelines.payload import Payload
from pipelines.registry import AnyTask, Registry
from pipelines.resources import Resources
from workers.testing.database import Database
from workers.testing.line import Line

QUERIES = Queries("testing")


@dataclass(frozen=True, slots=True)
class Drained:
    """The attempts that were run, in the order of their ends."""

    attempts: tuple[events.AttemptEnded, ...]

    @property
    def outcomes(self) -> dict[tuple[str, str], int]:
        """How many attempts of a task type had an outcome: `{("customer.greet", "done"): 3}`."""
        return dict(Counter((attempt.task_type, attempt.outcome) for attempt in self.attempts))


@dataclass(frozen=True, slots=True)
class TaskRun:
    """One attempt: its outcome (done, retry, snooze, fail, cancel, or lost) and what the task's row says after it."""

    task_id: UUID
    outcome: str
    status: str
    result: Any
    error: str | None


def drain(database: Database, registry: Registry, *, resources: Resources | None = None, limit: int = 1000) -> Drained:
    """Run what is due, and what becomes due by that, until nothing is; tasks that wait for a later time go on waiting.

    A failed attempt waits by its retry policy. Raises AssertionError, which says what is still due, after `limit`
    attempts.
    """
    with _line(database, registry, resources) as line, _ends() as ended:
        while claims := line.claim():
            if len(ended) + len(claims) > limit:
                queue.give_back(line.relay, [(claim.task_id, claim.claim_number) for claim in claims])
                raise AssertionError(_endless(line, len(ended)))
            line.run(claims)
    return Drained(tuple(ended))


def run_task(
    database: Database,
    task: AnyTask,
    payload: Payload,
    *,
    attempt: int = 1,
    registry: Registry | None = None,
    resources: Resources | None = None,
    **options: Unpack[Options],
) -> TaskRun:
    """Enqueue one task and run its handler once, as its `attempt`-th attempt; return what came of it.

    What it writes, it writes: look in `database`. `registry` has the types that the handler enqueues, if it does; they
    are not run. Raises UsageError for a payload of another type, an attempt that is none, and a task that is not due.
    """
    if type(payload) is not task.payload or attempt < 1:
        raise UsageError(f"run_task takes a payload of {task.name} and an attempt from 1 on")
    with _line(database, registry or Registry([task]), resources) as line, _ends() as ended:
        task_id = enqueue(database.connect(), payload, **options)
        QUERIES.run(database.connect(), "pretend_attempts", {"id": task_id, "attempts": attempt - 1})
        claims = line.claim()
        line.run([claim for claim in claims if claim.task_id == task_id])
        queue.give_back(line.relay, [(c.task_id, c.claim_number) for c in claims if c.task_id != task_id])
        [row] = QUERIES.run(database.connect(), "came_to", {"id": task_id})
    outcomes = [end.outcome for end in ended if end.task_id == task_id]
    if not outcomes:
        raise UsageError(f"the task was not run: it is {row[0]}, and due later, held, or of a paused queue")
    return TaskRun(task_id, outcomes[-1], *row)


@contextmanager
def _line(database: Database, registry: Registry, resources: Resources | None) -> Iterator[Line]:
    line = Line(database, registry, resources=resources)
    try:
        yield line
    finally:
        processes.unregister_process(line.worker, line.process.id)
        line.close()


@contextmanager
def _ends() -> Iterator[list[events.AttemptEnded]]:
    """Collect the ends of attempts."""
    found: list[events.AttemptEnded] = []

    def keep(event: events.Event) -> None:
        if isinstance(event, events.AttemptEnded):
            found.append(event)

    forget = events.subscribe(keep)
    try:
        yield found
    finally:
        forget()


def _endless(line: Line, count: int) -> str:
    due = ", ".join(f"{count} × {name}" for name, count in QUERIES.run(line.database.connect(), "still_due"))
    return f"{count} attempts were run and more is due: {due}; raise `limit`, or look for a task that enqueues itself"
