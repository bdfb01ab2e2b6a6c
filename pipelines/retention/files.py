"""`files.remove`: stored files go with the last row that named them; `files.expire`: temporary ones by their age.

Triggers note what rows named that go, whoever deletes them. A file goes under its lock, by itself and before its notes:
an attempt that was killed is followed by one that goes on, and removing again what is gone does nothing.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from uuid import UUID

from core.settings import Settings
from db import files, standings
from db.connection import Connection
from pipelines.care.rounds import care_task
from pipelines.outcomes import Done, Fail, Outcome, Snooze
from pipelines.payload import Payload
from pipelines.resources import Resources
from pipelines.schedule import Schedule
from pipelines.storage import Found, Storage
from pipelines.storage.base import TEMPORARY, tenant_of
from pipelines.storage.discarding import discard
from pipelines.storage.errors import StoragePathError
from pipelines.storage.owning import refuse_foreign
from pipelines.task import TaskContext
from pipelines.transaction import Transaction

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

TIME_LIMIT = timedelta(minutes=15)
"""Of an attempt that ends after a minute, and a page in which a store hangs."""
_PAGE, _SECONDS = 200, 60.0
# A disk that refuses all is not asked a million times.
_MOST_FAILED = 100
End = Literal["removed", "kept", "refused", "failed"]
"""What became of a file: a row names it (kept), it is none of its tenant's (refused), or it could not be removed."""


class RemoveFiles(Payload):
    """Remove the stored files that rows named which are gone, and that no other row names."""

    task_type: ClassVar[str] = "files.remove"


class ExpireFiles(Payload):
    """Remove temporary files that are older than the setting `storage.temporary_hours` says."""

    task_type: ClassVar[str] = "files.expire"


@dataclass(frozen=True, slots=True)
class TemporaryFiles:
    """For how long temporary files stay."""

    age: timedelta


@dataclass(slots=True)
class _Sweep:
    """How far a task is: behind `after`, with what became of the files before; `reason` is of the last that failed."""

    after: str = ""
    ends: dict[End, int] = field(default_factory=dict)
    reason: str = ""

    def take(self, connection: Connection, storage: Storage, tenant_id: UUID, key: str, notes: Sequence[int]) -> None:
        """Remove a file in a transaction of its own, unless a row names it."""
        end: End
        try:
            with connection.transaction():
                end = "removed" if discard(connection, storage, tenant_id, key, notes) else "kept"
        except StoragePathError:
            end = "refused"  # whatever it names, no file of ours stands there
            files.forget(connection, notes)
        except OSError as error:
            end, self.reason = "failed", f"{key} ({error.strerror})"
        self.ends[end] = self.ends.get(end, 0) + 1

    @property
    def is_hopeless(self) -> bool:
        """Whether so much failed that the rest would."""
        return self.ends.get("failed", 0) >= _MOST_FAILED

    def outcome(self, context: TaskContext, *, is_over: bool) -> Outcome:
        """Go on, or end; fails where files could not be removed, which the next task tries again."""
        if not is_over and not self.is_hopeless:
            return Snooze(timedelta(0), noting(context, self))
        if failed := self.ends.get("failed", 0):
            return Fail(f"{failed} files could not be removed, the last {self.reason}: mend the storage's permissions")
        return Done({end: self.ends.get(end, 0) for end in ("removed", "kept", "refused")})


def remove(context: TaskContext, payload: RemoveFiles) -> Outcome:
    """Remove what was let go of, note by note, for a minute; done behind the last note."""
    storage, sweep, deadline = context.resources.get(Storage), _begun(context), time.monotonic() + _SECONDS
    with context.outside() as connection:
        refuse_foreign(connection, storage)
        while page := files.released(connection, int(sweep.after or 0), _PAGE):
            notes: dict[tuple[UUID, str], list[int]] = {}
            for each in page:
                notes.setdefault((each.tenant_id, each.key), []).append(each.id)
            for (tenant_id, key), of_key in notes.items():
                sweep.take(connection, storage, tenant_id, key, of_key)
            sweep.after = str(page[-1].id)
            context.progress(0.5, f"{sweep.ends.get('removed', 0)} files")
            if sweep.is_hopeless or time.monotonic() > deadline:
                return sweep.outcome(context, is_over=False)
    return sweep.outcome(context, is_over=True)


def expire(context: TaskContext, payload: ExpireFiles) -> Outcome:
    """Remove old temporary files, tenant by tenant, for a minute; done behind the last one's folder."""
    storage, sweep, deadline = context.resources.get(Storage), _begun(context), time.monotonic() + _SECONDS
    age = context.resources.get(TemporaryFiles).age
    with context.outside() as connection:
        refuse_foreign(connection, storage)
        before = files.now(connection) - age
        found = _temporary(storage, sweep.after)
        while page := list(islice(found, _PAGE)):
            for tenant_id, each in page:
                if is_older(each, before):
                    sweep.take(connection, storage, tenant_id, each.key, ())
            sweep.after = page[-1][1].key
            context.progress(0.5, f"{sweep.ends.get('removed', 0)} files")
            if sweep.is_hopeless or time.monotonic() > deadline:
                return sweep.outcome(context, is_over=False)
    return sweep.outcome(context, is_over=True)


def is_older(found: Found, than: datetime) -> bool:
    """Return whether a file was written before a moment; one of which the store does not say it was not."""
    return found.modified is not None and found.modified < than


def is_temporary(key: str) -> bool:
    """Return whether a key of a tenant's is that of a file which goes by its age."""
    return key.split("/", 2)[1:2] == [TEMPORARY]


def _temporary(storage: Storage, after: str) -> Iterator[tuple[UUID, Found]]:
    for folder in storage.folders():
        tenant_id = tenant_of(f"{folder}/{TEMPORARY}")
        if tenant_id is not None and folder >= after.partition("/")[0]:
            for found in storage.walk(f"{folder}/{TEMPORARY}", after):
                yield tenant_id, found


def noting(context: TaskContext, standing: "DataclassInstance") -> Callable[[Transaction], None]:
    """Return what notes where a task stands, as it does now."""
    noted = asdict(standing)
    return lambda transaction: standings.note(transaction.connection, context.task_id, "files", noted)


def _begun(context: TaskContext) -> _Sweep:
    with context.read() as transaction:
        noted: dict[str, Any] = standings.read(transaction.connection, context.task_id, "files")
    return _Sweep(**noted)


def provide(resources: Resources, settings: Settings) -> None:
    """Say for how long temporary files stay."""
    lifetime = TemporaryFiles(timedelta(hours=settings.storage.temporary_hours))
    resources.provide(TemporaryFiles, lambda: lifetime)


TASKS = (care_task(RemoveFiles, remove, TIME_LIMIT), care_task(ExpireFiles, expire, TIME_LIMIT))
SCHEDULES = (
    Schedule(
        name="released-files",
        payload=RemoveFiles(),
        cron="25 * * * *",
        jitter=timedelta(minutes=5),
        design="003",
        description="Removes stored files that no row names any more.",
    ),
    Schedule(
        name="temporary-files",
        payload=ExpireFiles(),
        cron="50 * * * *",
        jitter=timedelta(minutes=5),
        design="003",
        description="Removes downloads and generated speech after a day.",
    ),
)
