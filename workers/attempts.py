"""One message's tasks on their way through a worker: the record that the executor's steps fill in, and the context."""

import json
import threading
import time
import traceback as traceback_module
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
from psycopg.pq import TransactionStatus
from pydantic import ValidationError
from pydantic_core import from_json

from core import events, traces
from core.errors import (
    AttemptLostError,
    PermanentError,
    RateLimitedError,
    TaskCancelledError,
    UnavailableError,
    raised_at,
)
from db import leases, queue
from db.connection import Connection, KeptConnection, bind_tenant, patient, tenant_reading
from db.queries import transaction
from pipelines.outcomes import Cancel, Done, Fail, Outcome, Retry, Snooze
from pipelines.payload import Payload
from pipelines.registry import AnyTask
from pipelines.resources import Resources
from pipelines.transaction import Transaction

if TYPE_CHECKING:
    from pipelines.keyring import KeyRing
    from workers.attemptlogs import AttemptLog
    from workers.running import RunningAttempts

_PROGRESS_PAUSE = 0.2
_ERROR_LIMIT = 10_000
TRACEBACK_LIMIT = 20_000
_RESULT_LIMIT = 1_000_000


@dataclass(slots=True)
class Run:
    """One attempt: what was taken, what it decoded to, what came of it."""

    attempt: queue.Attempt
    payload: Payload | None = None
    outcome: Outcome | None = None
    traceback: str | None = None
    started: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    secret_fields: tuple[str, ...] = ()
    named_fields: tuple[str, ...] = ()
    encrypted_fields: tuple[str, ...] = ()
    log: "AttemptLog | None" = None
    refusal: RateLimitedError | None = None

    @property
    def claim(self) -> tuple[UUID, int]:
        """The task's id and the claim number that guards this attempt."""
        return self.attempt.task_id, self.attempt.claim_number

    def end(self, outcome: Outcome) -> None:
        """Set the outcome, once computed; raises PermanentError for what is none, or cannot be stored."""
        match outcome:
            case Done(result=result):
                _require_json(result)
            case Retry(after=after) if after is not None and not isinstance(after, timedelta):
                raise PermanentError("Retry(after=…) takes a timedelta")
            case Retry() | Fail() | Cancel():
                outcome = replace(outcome, reason=scrub(str(outcome.reason), self.secrets())[:_ERROR_LIMIT])
            case Snooze(duration=duration):
                if not isinstance(duration, timedelta):
                    raise PermanentError("Snooze(…) takes a timedelta")
                if outcome.reason is not None:
                    outcome = replace(outcome, reason=scrub(str(outcome.reason), self.secrets())[:_ERROR_LIMIT])
            case _:
                raise PermanentError(f"the handler returned {type(outcome).__name__}, which is no outcome")
        self.outcome = outcome
        self.seconds = time.monotonic() - self.started

    def secrets(self) -> set[str]:
        """Return what an error must not repeat: texts and numbers of the payload, secret fields however short."""
        try:
            fields = from_json(self.attempt.payload_json)  # read once more, since few attempts fail
        except ValueError:
            return set()  # what cannot be read was refused by `decode`, and its error names no value
        if not isinstance(fields, dict):
            return _values(fields)
        if self.encrypted_fields and self.payload is not None:  # what the handler saw of them
            fields |= self.payload.model_dump(mode="json", include=set(self.encrypted_fields))
        secret = (_values(fields.get(name), shortest=1) for name in (*self.secret_fields, *self.encrypted_fields))
        return _values({name: fields[name] for name in fields.keys() - self.named_fields}).union(*secret)


def decode(task: AnyTask, run: Run, keyring: "KeyRing | None") -> None:
    """Validate the stored payload; one that does not fit fails its task, naming fields and never their values."""
    run.secret_fields = task.payload.secret_fields
    run.named_fields = task.payload.named_fields
    run.encrypted_fields = task.payload.encrypted_fields
    if (task.scope == "system") != (run.attempt.tenant_id is None):
        run.end(Fail(f"a task of scope {task.scope} {'has no' if task.scope == 'system' else 'needs a'} tenant"))
        return
    try:
        run.payload = task.decode(run.attempt.payload_json, run.attempt.payload_version, keyring)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, item['loc']))}: {item['msg']}".lstrip(": ")
            for item in error.errors(include_input=False, include_url=False, include_context=False)
        )
        run.end(Fail(f"invalid payload: {problems}"[:_ERROR_LIMIT]))
    except PermanentError as error:
        run.end(Fail(f"invalid payload: {error}"))
    except Exception as error:
        # The type's own `upgrade` raised: no later attempt would fare better with this program.
        run.end(Fail(f"the payload cannot be upgraded: {type(error).__name__}"))


def fail(task: AnyTask, run: Run, raised: BaseException) -> None:
    """Turn an exception into the outcome that the task's policy gives it, and say what raised and where."""
    error = raised if isinstance(raised, Exception) else RuntimeError(f"the handler raised {type(raised).__name__}")
    run.end(task.outcome_of(error))
    run.refusal = error if isinstance(error, RateLimitedError) else None
    # Frames show our source and never values; the message is the outcome's reason, scrubbed.
    run.traceback = "".join(traceback_module.format_tb(raised.__traceback__))[-TRACEBACK_LIMIT:]
    attempt, kind = run.attempt, type(error).__name__
    events.emit(events.AttemptRaised(task.name, attempt.task_id, attempt.number, kind, raised_at(raised)))


def attempt_span(task: AnyTask, run: Run) -> AbstractContextManager[None]:
    """Make the attempt's span the current one of this thread, where tracing is on."""
    attempt = run.attempt
    return traces.attempt_span(task.name, attempt.task_id, attempt.number, attempt.trace_context, run.started)


def scrub(text: str, secrets: set[str]) -> str:
    """Replace values of a payload in an error's text (invariant I7)."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "[payload]")
    # Postgres text holds neither NUL nor half a surrogate pair.
    whole = text.encode("utf-8", "replace").decode("utf-8")
    return whole.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _require_json(result: Any) -> None:
    """Raise PermanentError for a result that Postgres could not store as JSON."""
    if result is None:
        return
    try:
        text = json.dumps(result, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise PermanentError(f"the result is not JSON: {type(error).__name__}") from error
    if len(text) > _RESULT_LIMIT:
        raise PermanentError(
            f"the result has {len(text)} characters of JSON, more than {_RESULT_LIMIT}: store it elsewhere"
        )
    if "\\u0000" in text:
        raise PermanentError("the result holds a NUL character, which Postgres does not store")


def _values(value: Any, *, shortest: int | None = None) -> set[str]:
    """Return the texts and numbers of a payload that are long enough to be recognised (6 characters, 4 digits)."""
    match value:
        case str():
            # Ids say which row an error is about and are no content.
            if len(value) < (shortest or 6) or _is_uuid(value):
                return set()
            # as it is, and as an error's text may quote it
            return {value, repr(value)[1:-1], json.dumps(value)[1:-1]}
        case bool():
            return set()
        case int() | float():
            return {str(value)} if len(str(value)) >= (shortest or 4) else set()
        case dict():
            return set().union(*(_values(inner, shortest=shortest) for inner in value.values()))
        case list():
            return set().union(*(_values(inner, shortest=shortest) for inner in value))
        case _:
            return set()


def _is_uuid(value: str) -> bool:
    try:
        UUID(value)
    except ValueError:
        return False
    return True


class Progress:
    """Reports progress over a connection of its own, at most a few times a second for each attempt."""

    def __init__(self, url: str, *, pooled: bool) -> None:
        self._connection = KeptConnection(url, name="progress", pooled=pooled)
        self._lock = threading.Lock()
        self._last: dict[UUID, float] = {}

    def report(self, attempt: queue.Attempt, fraction: float, message: str | None) -> None:
        """Store progress unless it was stored just now; a database that does not answer loses no more than that."""
        now = time.monotonic()
        clean = scrub(str(message), set())[:1000] if message else None
        # NaN compares with nothing: it becomes 0
        clipped = min(max(fraction, 0.0), 1.0) if fraction == fraction else 0.0
        if fraction < 1 and now - self._last.get(attempt.task_id, 0.0) < _PROGRESS_PAUSE:
            return
        self._last[attempt.task_id] = now
        with self._lock:
            try:
                leases.report_progress(self._connection.get(), attempt, clipped, clean)
            except (UnavailableError, psycopg.Error):
                self._connection.close()  # what cannot be stored is lost, and the attempt goes on

    def forget(self, task_id: UUID) -> None:
        """Drop what is known of an attempt that ended."""
        self._last.pop(task_id, None)

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._connection.close()


@dataclass(slots=True)
class Context:
    """What a handler is given (`pipelines.task.TaskContext`)."""

    attempt_row: queue.Attempt
    resources: Resources
    connection: KeptConnection
    reporter: Progress
    running: "RunningAttempts"
    worker_id: UUID
    keyring: "KeyRing | None" = None
    outward: KeptConnection | None = None
    time_limit: timedelta = timedelta(0)

    @property
    def task_id(self) -> UUID:
        """The task's id: the idempotency key for effects outside of Postgres."""
        return self.attempt_row.task_id

    @property
    def tenant_id(self) -> UUID | None:
        """The tenant whose rows this handler sees; None for system tasks."""
        return self.attempt_row.tenant_id

    def require_tenant_id(self) -> UUID:
        """The tenant, for a handler that cannot do without; raises PermanentError where the task has none."""
        if self.tenant_id is None:
            raise PermanentError("the task belongs to no tenant")
        return self.tenant_id

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1."""
        return self.attempt_row.number

    @property
    def is_last_attempt(self) -> bool:
        """Whether the task fails if this attempt asks for another one."""
        return self.attempt_row.number >= self.attempt_row.max_attempts

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """Open a short read-only transaction, bound to the task's tenant."""
        connection = self.connection.get()  # asked for at each read: the one before may have gone with its server
        with patient(connection), tenant_reading(connection, self.tenant_id):
            yield Transaction(connection, self.tenant_id)

    @contextmanager
    def mark(self) -> Iterator[Transaction]:
        """Open a short transaction that commits when the block ends; AttemptLostError where the attempt was lost."""
        connection = self.connection.get()
        if connection.info.transaction_status != TransactionStatus.IDLE:
            raise PermanentError("a marker is a transaction of its own: end the read, or the marker, around it first")
        with patient(connection), transaction(connection):
            bind_tenant(connection, self.tenant_id)
            if not leases.hold(connection, self.attempt_row, self.worker_id):
                raise AttemptLostError
            marking = Transaction(connection, self.tenant_id, self.keyring)
            yield marking
            marking.flush()

    @contextmanager
    def outside(self) -> Iterator[Connection]:
        """A connection on which each statement commits by itself; PermanentError where that was not declared."""
        if self.outward is None:
            raise PermanentError("this task type works within transactions: declare it with Task(…, outside=True)")
        connection = self.outward.get()
        with patient(connection, self.time_limit.total_seconds()):
            yield connection

    def progress(self, fraction: float, message: str | None = None) -> None:
        """Report progress (0 to 1); raises TaskCancelledError when the task is not wanted any more."""
        if self.is_cancelled():
            raise TaskCancelledError
        self.reporter.report(self.attempt_row, fraction, message)

    def is_cancelled(self) -> bool:
        """Return whether the task is not wanted any more, for a handler that shields itself from interruptions."""
        return self.running.is_cancelled(self.task_id)
