"""Task types of the tests: one for each way in which an attempt can go. `GREENROOM_TASK_MODULES` may name this module.

`test.write` and its like add rows to the table `effects`, which has no unique key that would hide a double effect.
"""

import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Literal
from uuid import UUID

from pydantic import Field
from sqlalchemy import text

from core.backoff import Backoff
from core.errors import PermanentError, RetryableError
from pipelines.outcomes import Apply, Cancel, Done, Fail, Outcome, Retry, Snooze
from pipelines.payload import Payload
from pipelines.task import BatchItem, RetryPolicy, Task, TaskContext
from pipelines.transaction import Transaction

SLOW_SECONDS = 60.0
_AT_ONCE = RetryPolicy(Backoff(base=0.0, jitter=0.0))

# What a test in this process may hold back or be told by: `test.gate` runs between the two.
entered = threading.Semaphore(0)
gate = threading.Event()


class Noop(Payload):
    """Does nothing."""

    task_type = "test.noop"
    n: int = 0


class Write(Payload):
    """Writes one effect."""

    task_type = "test.write"
    n: int


class WriteMany(Payload):
    """Writes one effect; a hundred travel together. `bad` refuses in the apply, `late` at the commit."""

    task_type = "test.write_many"
    n: int
    bad: bool = False


class Insert(Payload):
    """Inserts `n` into `checked`, whose constraints may refuse it, at once or at the commit."""

    task_type = "test.insert"
    n: int


class Raise(Payload):
    """Raises: `kind` says what."""

    task_type = "test.raise"
    kind: Literal["plain", "permanent", "retryable", "later"] = "plain"
    text: str = "it failed"


class Answer(Payload):
    """Returns the outcome that `outcome` names; all but retry and fail write an effect first."""

    task_type = "test.answer"
    outcome: Literal["done", "retry", "snooze", "fail", "cancel"]
    seconds: float = 0.0
    n: int = 0


class Slow(Payload):
    """Sleeps in small steps, then writes one effect."""

    task_type = "test.slow"
    seconds: float = SLOW_SECONDS
    n: int = 0


class Gate(Payload):
    """Says that it has entered, waits for the gate, then writes one effect."""

    task_type = "test.gate"
    n: int = 0


class Grip(Payload):
    """Holds the interpreter in one C call for about `seconds`, then writes one effect."""

    task_type = "test.grip"
    seconds: float
    n: int = 0


class Report(Payload):
    """Reports progress and returns a result."""

    task_type = "test.report"
    text: str = "hello"


class Spawn(Payload):
    """Enqueues `count` more and writes an effect."""

    task_type = "test.spawn"
    count: int


class Misbehave(Payload):
    """Tries to end the worker's transaction after writing an effect; `how` is the statement or `method:<name>`."""

    task_type = "test.misbehave"
    how: str


class Orm(Payload):
    """Writes one effect through a SQLAlchemy session, left to the worker to flush."""

    task_type = "test.orm"
    n: int


class Look(Payload):
    """Returns which tenants' collections a read transaction and an apply see."""

    task_type = "test.look"


class Roll(Payload):
    """A system task: works across tenants."""

    task_type = "test.roll"


class Strict(Payload):
    """A payload with one field of each kind that the published schema knows."""

    task_type = "test.strict"
    payload_version = 2
    aliases = ("test.stern",)
    secret_fields = ("token",)

    word: str = Field(min_length=1, max_length=20)
    amount: int = Field(ge=0, le=100)
    ref: UUID
    kind: Literal["a", "b"] = "a"
    token: str | None = None
    tags: list[str] = Field(default_factory=list, max_length=3)

    @classmethod
    def upgrade(cls, fields: dict[str, Any], version: int) -> dict[str, Any]:
        """Version 1 called `word` `name`."""
        if version < 2 and "name" in fields:
            fields["word"] = fields.pop("name")
        return fields


def effect(n: int, note: str = "") -> Apply:
    """Return an apply that adds a row to `effects`."""

    def apply(transaction: Transaction) -> None:
        transaction.execute("INSERT INTO public.effects (n, note) VALUES (%s, %s)", (n, note))

    return apply


def _noop(context: TaskContext, payload: Noop) -> Outcome:
    return Done()


def _write(context: TaskContext, payload: Write) -> Outcome:
    return Done({"n": payload.n}, apply=effect(payload.n))


def _write_many(jobs: Sequence[BatchItem[WriteMany]]) -> Sequence[Outcome]:
    def apply_of(payload: WriteMany) -> Any:
        def apply(transaction: Transaction) -> None:
            effect(payload.n)(transaction)
            if payload.bad:
                transaction.execute("SELECT 1 / 0")

        return apply

    return [Done(apply=apply_of(job.payload)) for job in jobs]


def _insert(context: TaskContext, payload: Insert) -> Outcome:
    def apply(transaction: Transaction) -> None:
        transaction.execute("INSERT INTO public.checked (n) VALUES (%s)", (payload.n,))

    return Done(apply=apply)


def _raise(context: TaskContext, payload: Raise) -> Outcome:
    match payload.kind:
        case "plain":
            raise RuntimeError(payload.text)
        case "permanent":
            raise PermanentError(payload.text)
        case "retryable":
            raise RetryableError(payload.text)
        case "later":
            raise RetryableError(payload.text, retry_after=timedelta(days=30))


def _answer(context: TaskContext, payload: Answer) -> Outcome:
    duration = timedelta(seconds=payload.seconds)
    match payload.outcome:
        case "done":
            return Done({"said": "done"}, apply=effect(payload.n))
        case "retry":
            return Retry("try again", duration)
        case "snooze":
            return Snooze(duration, apply=effect(payload.n))
        case "fail":
            return Fail("no use")
        case "cancel":
            return Cancel("not wanted", apply=effect(payload.n))


def _slow(context: TaskContext, payload: Slow) -> Outcome:
    until = time.monotonic() + payload.seconds
    while time.monotonic() < until:
        time.sleep(0.01)
    return Done(apply=effect(payload.n))


def _gate(context: TaskContext, payload: Gate) -> Outcome:
    entered.release()
    gate.wait(30)
    return Done(apply=effect(payload.n))


def _grip(context: TaskContext, payload: Grip) -> Outcome:
    # CPython's integer power runs in C from end to end and never gives the interpreter up; 3.6 times the work a step.
    digits, took = 40_000, 0.0
    while took < payload.seconds:
        started = time.monotonic()
        pow(3, digits)
        took = time.monotonic() - started
        digits = int(digits * max(1.1, min(4.0, (payload.seconds * 1.2 / max(took, 1e-3)) ** 0.63)))
    return Done({"longest": took}, apply=effect(payload.n))


def _report(context: TaskContext, payload: Report) -> Outcome:
    context.progress(0.5, "half way")
    return Done({"text": payload.text, "attempt": context.attempt})


def _spawn(context: TaskContext, payload: Spawn) -> Outcome:
    def apply(transaction: Transaction) -> None:
        effect(payload.count)(transaction)
        transaction.enqueue_many([Noop(n=n) for n in range(payload.count)])

    return Done(apply=apply)


def _misbehave(context: TaskContext, payload: Misbehave) -> Outcome:
    def apply(transaction: Transaction) -> None:
        effect(0)(transaction)
        kind, _, name = payload.how.partition(":")
        if kind == "method":
            getattr(transaction.connection, name)()
        elif kind == "session":
            transaction.session.execute(text("INSERT INTO public.effects (n) VALUES (1)"))
            getattr(transaction.session, name)()
        else:
            transaction.execute(payload.how.encode())

    return Done(apply=apply)


def _orm(context: TaskContext, payload: Orm) -> Outcome:
    def apply(transaction: Transaction) -> None:
        transaction.session.execute(text("INSERT INTO public.effects (n) VALUES (:n)"), {"n": payload.n})

    return Done(apply=apply)


def _look(context: TaskContext, payload: Look) -> Outcome:
    query = "SELECT array_agg(DISTINCT tenant_id::text) FROM knowledge.collections"
    with context.read() as transaction:
        seen = transaction.execute(query).fetchone()
    return Done({"read": seen[0] if seen else None})


def _roll(context: TaskContext, payload: Roll) -> Outcome:
    with context.read() as transaction:
        seen = transaction.execute("SELECT count(DISTINCT tenant_id) FROM knowledge.collections").fetchone()
    return Done({"tenants": seen[0] if seen else None})


def _strict(context: TaskContext, payload: Strict) -> Outcome:
    return Done({"word": payload.word})


TASKS: Sequence[Task[Any]] = (
    Task(payload=Noop, run=_noop, batch_size=100),
    Task(payload=Write, run=_write, batch_size=10),
    Task(payload=WriteMany, run_batch=_write_many, batch_size=100),
    Task(payload=Insert, run=_insert, batch_size=100, max_attempts=1),
    Task(payload=Raise, run=_raise, retry=_AT_ONCE, max_attempts=3),
    Task(payload=Answer, run=_answer, max_snoozes=3),
    Task(payload=Slow, run=_slow, time_limit=timedelta(minutes=5)),
    Task(payload=Gate, run=_gate),
    Task(payload=Grip, run=_grip),
    Task(payload=Report, run=_report),
    Task(payload=Spawn, run=_spawn),
    Task(payload=Misbehave, run=_misbehave, max_attempts=2, retry=_AT_ONCE),
    Task(payload=Orm, run=_orm, batch_size=10),
    Task(payload=Look, run=_look),
    Task(payload=Roll, run=_roll, scope="system"),
    Task(payload=Strict, run=_strict, queue="strict", priority=3, max_attempts=7),
)
