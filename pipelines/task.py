"""Task definitions: one task type in one place — payload, handler, and how it is queued, limited and retried."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Generic, Literal, Protocol, TypeVar
from uuid import UUID

from pydantic_core import from_json

from core.backoff import Backoff
from core.errors import PermanentError, RateLimitedError, RegistrationError, RetryableError
from pipelines.outcomes import Fail, Outcome, Retry, Snooze
from pipelines.payload import Payload
from pipelines.resources import Resources
from pipelines.transaction import Transaction

if TYPE_CHECKING:
    from db.connection import Connection
    from pipelines.keyring import KeyRing

P = TypeVar("P", bound=Payload)
Scope = Literal["tenant", "system"]
MOST_TOGETHER = 250
"""Tasks of a type without a batch size in one message; figures in docs/decisions/0006-hot-path.md."""
UNCOUNTED = 10_000_000
"""`max_snoozes` of a task that snoozes once a page or a look: it ends by its work, never by their number."""


class TaskContext(Protocol):
    """What a handler is given beside its payload."""

    resources: Resources

    @property
    def task_id(self) -> UUID:
        """The task's id: the idempotency key for effects outside of Postgres."""
        ...

    @property
    def tenant_id(self) -> UUID | None:
        """The tenant whose rows the handler sees; None for system tasks."""
        ...

    def require_tenant_id(self) -> UUID:
        """The tenant, for a handler that cannot do without; raises PermanentError where the task has none."""
        ...

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1."""
        ...

    @property
    def is_last_attempt(self) -> bool:
        """Whether the task fails if this attempt asks for another one."""
        ...

    def read(self) -> AbstractContextManager[Transaction]:
        """Open a short read-only transaction, bound to the task's tenant. Close it before computing."""
        ...

    def mark(self) -> AbstractContextManager[Transaction]:
        """Open a short transaction, bound to the task's tenant, that commits when the block ends.

        For what has to stand in Postgres before an effect outside of it, or of which a later attempt must know; all
        else belongs into an outcome's `apply`. The attempt is this worker's until it commits: raises AttemptLostError
        where it is not any more, and nothing is written then. It stays when the attempt fails or is repeated, so a
        handler looks for the marker of an attempt before it. Raises UnavailableError where the commit's answer was
        lost: the marker may stand then. Each task of a batch marks for itself. Refused (PermanentError) inside another
        transaction of the handler's. docs/decisions/0013-marker.md says why.
        """
        ...

    def outside(self) -> AbstractContextManager["Connection"]:
        """A connection on which each statement commits by itself, for a type that is declared with `outside`.

        What the worker's end does not undo, nor a lost lease: for what cannot wait for the end of the attempt, since it
        locks what all others use, or cannot run in a transaction. Past the pooler where its address is known; an answer
        is waited for as long as the type's time limit. Raises PermanentError for a type that is not declared so.
        """
        ...

    def progress(self, fraction: float, message: str | None = None) -> None:
        """Report progress (0 to 1) over a connection of its own; shown by `tasks show` and `wait_for`.

        Raises TaskCancelledError when the task is not wanted any more.
        """
        ...

    def is_cancelled(self) -> bool:
        """Return whether the task is not wanted any more, for a handler that shields itself from interruptions.

        Any other is interrupted where it stands, by a TaskCancelledError that no `except Exception` holds up.
        """
        ...


@dataclass(frozen=True, slots=True)
class BatchItem(Generic[P]):
    """One task of a batch, as a batch handler sees it."""

    context: TaskContext
    payload: P


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When a failed attempt is repeated: exponential with jitter; a Retry-After is honoured up to `longest`."""

    backoff: Backoff = field(default_factory=lambda: Backoff(base=2.0, factor=2.0, maximum=3600.0, jitter=0.2))
    longest: timedelta = timedelta(hours=6)

    def delay(self, attempt: int, wanted: timedelta | None = None) -> float:
        """Return the seconds to wait after the `attempt`-th attempt; `wanted` is what the other side asked for."""
        own = self.backoff.delay(attempt)
        return own if wanted is None else min(max(wanted.total_seconds(), own), self.longest.total_seconds())


@dataclass(frozen=True, kw_only=True)
class Task(Generic[P]):
    """The definition of a task type. Give `run` for one task at a time, or `run_batch` for many in one call.

    `batch_size` tasks of one tenant may travel in one message, each with its own outcome (`run_batch` may return an
    exception in an outcome's place: that task ends as if it had raised it, and no other); left out, it follows what
    they are measured to take, so that small tasks travel together and long ones alone.
    `limit_key` is what its tasks have in common that a limit goes by, such as the provider that they call; an enqueue
    may name another.
    `scope` is `tenant` (the handler sees its tenant's rows only) or `system` (works across tenants).
    `pending_limit` is for what somebody waits for: a task that was due, and that nothing happened to, for longer than
    that ends as cancelled, also where it is held or its queue is paused. Left out, it waits for as long as it takes.
    `outside` says that its handler writes by `context.outside()`, where statements commit one by one: after a kill they
    are repeated. It takes scope `system`, and its tasks travel alone.
    """

    payload: type[P]
    run: Callable[[TaskContext, P], Outcome] | None = None
    run_batch: Callable[[Sequence[BatchItem[P]]], Sequence[Outcome | Exception]] | None = None
    queue: str = "default"
    scope: Scope = "tenant"
    priority: int = 0
    max_attempts: int = 5
    max_snoozes: int = 1000
    time_limit: timedelta = timedelta(minutes=10)
    batch_size: int | None = None
    limit_key: str | None = None
    pending_limit: timedelta | None = None
    outside: bool = False
    retry: RetryPolicy = field(default_factory=RetryPolicy)

    def __post_init__(self) -> None:
        """Refuse a definition that cannot work."""
        if unknown := set(self.payload.encrypted_fields) - set(self.payload.model_fields):
            raise RegistrationError(f"task type {self.name}: there is no field {min(unknown)!r} to encrypt")
        if (self.run is None) == (self.run_batch is None):
            raise RegistrationError(f"task type {self.name}: give exactly one of run and run_batch")
        if self.batch_size is not None and not 1 <= self.batch_size <= 1000:
            raise RegistrationError(f"task type {self.name}: batch_size must be 1 to 1000")
        if self.limit_key is not None and (not 1 <= len(self.limit_key) <= 200 or self.limit_key == "*"):
            raise RegistrationError(f"task type {self.name}: limit_key must be 1 to 200 characters and not *")
        if self.time_limit <= timedelta(0):
            raise RegistrationError(f"task type {self.name}: time_limit must be positive")
        if self.pending_limit is not None and self.pending_limit <= timedelta(0):
            raise RegistrationError(f"task type {self.name}: pending_limit must be positive")
        self._refuse_outside()

    def _refuse_outside(self) -> None:
        """Refuse a type whose statements would commit beside row security, or beside tasks of others."""
        if self.outside and self.scope != "system":
            raise RegistrationError(f"task type {self.name}: outside=True takes scope='system', as no tenant is bound")
        if self.outside and (self.run is None or self.batch_size != 1):
            raise RegistrationError(f"task type {self.name}: outside=True takes run and batch_size=1")

    @property
    def most_together(self) -> int:
        """The most tasks of the type that travel in one message."""
        return self.batch_size or MOST_TOGETHER

    @property
    def name(self) -> str:
        """The task type's name, which the payload owns."""
        return self.payload.task_type

    def decode(self, text: str, version: int, keyring: "KeyRing | None" = None) -> P:
        """Validate a stored payload's JSON, opening what is encrypted and upgrading one of an older version.

        Raises pydantic.ValidationError, and PermanentError for an encrypted field that no key opens.
        """
        if version >= self.payload.payload_version and not self.payload.encrypted_fields:
            return self.payload.model_validate_json(text)
        fields = from_json(text)
        if isinstance(fields, dict) and self.payload.encrypted_fields:
            if keyring is None:
                raise PermanentError(f"{self.name} has encrypted fields: set GREENROOM_ENCRYPTION_KEYS for the workers")
            fields = keyring.open(self.name, self.payload.encrypted_fields, fields)
        if version >= self.payload.payload_version:
            return self.payload.model_validate(fields)
        return self.payload.model_validate(
            self.payload.upgrade(fields, version) if isinstance(fields, dict) else fields
        )

    def outcome_of(self, error: Exception) -> Retry | Snooze | Fail:
        """Turn an exception of the handler into an outcome."""
        text = f"{type(error).__name__}: {_message_of(error)}"
        if isinstance(error, PermanentError):
            return Fail(text)
        if isinstance(error, RateLimitedError):
            return Snooze(error.pause, reason=text)
        return Retry(text, error.retry_after if isinstance(error, RetryableError) else None)


def _message_of(error: Exception) -> str:
    """Return an error's message; of Postgres' only the first line, since its DETAIL quotes the values of the row."""
    diagnostics = getattr(getattr(error, "orig", error), "diag", None)
    if diagnostics is None:
        return str(error)
    constraint = f" ({diagnostics.constraint_name})" if diagnostics.constraint_name else ""
    return f"{diagnostics.message_primary or 'database error'}{constraint}"
