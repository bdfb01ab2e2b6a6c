"""`files.check`: the storage and the rows are compared both ways: files that no row owns, rows whose file is missing.

Both are read in the order of their keys, side by side and while others write. So what looks wrong is looked at again: a
file is an orphan that is a day old and that no row names and no note is about; one is missing that the storage does not
have, and that a row still names. Archives are the last that are compared.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, ClassVar
from uuid import UUID

from db import audit, files, standings
from db.connection import Connection
from db.files import Named
from pipelines.care.rounds import care_task
from pipelines.outcomes import Done, Outcome, Snooze
from pipelines.payload import Payload
from pipelines.retention.archive.store import ArchiveStore
from pipelines.retention.archived_files import Compared, compare, require_own
from pipelines.retention.files import TIME_LIMIT, is_older, is_temporary, noting
from pipelines.schedule import Schedule
from pipelines.storage import Found, Storage
from pipelines.storage.base import MARK, in_bytes, tenant_of
from pipelines.storage.discarding import discard
from pipelines.storage.errors import FileVanishedError, StoragePathError
from pipelines.storage.owning import claim
from pipelines.task import TaskContext
from pipelines.transaction import Transaction

_PAGE = 500
_SECONDS = 60.0
_YOUNG = timedelta(hours=24)
"""A file is stored before the row that names it."""
_LISTED, _LENGTH = 100, 200
_ARCHIVES = "archives/"
_TALLIES = ("orphans", "missing", "removed")


class CheckFiles(Payload):
    """Compare storage and rows, of a tenant or of all; `remove` takes the files away that no row owns."""

    task_type: ClassVar[str] = "files.check"

    tenant_id: UUID | None = None
    remove: bool = False


@dataclass(slots=True)
class _Tally:
    """How many, of how many bytes, and the first of them."""

    count: int = 0
    bytes: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, key: str, size: int) -> None:
        """Count one; its key is shown as far as it is text."""
        self.count += 1
        self.bytes += size
        if len(self.first) < _LISTED:
            self.first.append(in_bytes(key).decode("utf-8", "backslashreplace")[:_LENGTH])


@dataclass(slots=True)
class _Standing:
    """How far a check is, behind the stored file `stored` (hex of its key) and the named key `named`; what it found.

    `elsewhere` counts files in no tenant's folder, which are left alone; `failed` those that could not be removed.
    """

    stored: str = ""
    named: str = ""
    objects: int = 0
    bytes: int = 0
    elsewhere: int = 0
    failed: int = 0
    orphans: _Tally = field(default_factory=_Tally)
    missing: _Tally = field(default_factory=_Tally)
    removed: _Tally = field(default_factory=_Tally)

    @classmethod
    def of(cls, noted: dict[str, Any]) -> "_Standing":
        """Return what was noted."""
        tallies: dict[str, Any] = {name: _Tally(**noted[name]) for name in _TALLIES if name in noted}
        return cls(**(noted | tallies))

    @property
    def result(self) -> dict[str, Any]:
        """What was found, as it is told."""
        told = asdict(self)
        return {name: told[name] for name in told if name not in ("stored", "named")}


def check(context: TaskContext, payload: CheckFiles) -> Outcome:
    """Compare for a minute; done behind the last file and the last row, which the audit says."""
    with context.read() as transaction:
        now = _Standing.of(standings.read(transaction.connection, context.task_id, "files"))
    storage, deadline = context.resources.get(Storage), time.monotonic() + _SECONDS
    with context.outside() as connection:
        young = files.now(connection) - _YOUNG
        if payload.remove:
            _require_own(context, connection, storage)
        checking = _Checking(connection, storage, now, young, payload.remove)
        pairs = _paired(*_streams(connection, storage, now, payload.tenant_id))
        while page := list(islice(pairs, _PAGE)):
            checking.look(page)
            context.progress(0.5, f"{now.objects} files, {now.orphans.count} of no row, {now.missing.count} missing")
            if time.monotonic() > deadline:
                return Snooze(timedelta(0), noting(context, now))
        if payload.tenant_id is None:
            store = context.resources.get(ArchiveStore)
            checking.add_archives(store, compare(connection, store, young))
    return Done(now.result, lambda transaction: _record(transaction, payload.tenant_id, now))


def _require_own(context: TaskContext, connection: Connection, storage: Storage) -> None:
    """Raise ForeignStoreError where files or archives may be another installation's, whose rows are not here."""

    def is_ours() -> bool:
        first = islice((found.key for found in storage.walk() if tenant_of(found.key) and _is_text(found.key)), _PAGE)
        keys = list(first)
        return not keys or any(files.is_named(connection, UUID(key.partition("/")[0]), key) for key in keys)

    claim(connection, storage, is_ours)
    require_own(connection, context.resources.get(ArchiveStore))


def _streams(
    connection: Connection, storage: Storage, now: _Standing, tenant_id: UUID | None
) -> tuple[Iterator[Found], Iterator[Named]]:
    after = bytes.fromhex(now.stored).decode("utf-8", "surrogateescape")
    if tenant_id is None:
        return storage.walk("", after), files.named(connection, now.named)
    # behind a slash comes the digit nought
    named = files.named(connection, now.named or f"{tenant_id}/", f"{tenant_id}0")
    return storage.walk(str(tenant_id), after), named


def _paired(stored: Iterator[Found], named: Iterator[Named]) -> Iterator[tuple[Found | None, Named | None]]:
    """Yield what is stored beside what names it, in the order of keys; what has no partner stands alone.

    Where a store keeps another order, partners may stand alone both.
    """
    mine, theirs = next(stored, None), next(named, None)
    while mine is not None or theirs is not None:
        order = [in_bytes(each.key) for each in (mine, theirs) if each is not None]
        is_mine = mine is not None and in_bytes(mine.key) == min(order)
        is_theirs = theirs is not None and in_bytes(theirs.key) == min(order)
        yield (mine if is_mine else None), (theirs if is_theirs else None)
        mine = next(stored, None) if is_mine else mine
        theirs = next(named, None) if is_theirs else theirs


class _Checking:
    """Looks at pairs, and counts what is wrong; files written since `young` are let be."""

    def __init__(
        self, connection: Connection, storage: Storage, now: _Standing, young: datetime, is_removing: bool
    ) -> None:
        self._connection = connection
        self._storage = storage
        self._now = now
        self._young = young
        self._is_removing = is_removing

    def look(self, page: Sequence[tuple[Found | None, Named | None]]) -> None:
        """Look at a page."""
        alone: list[Found] = []
        for stored, named in page:
            is_pair = stored is not None and named is not None and tenant_of(named.key) == named.tenant_id
            if stored is not None:
                self._now.stored = in_bytes(stored.key).hex()
                alone += self._counted(stored, is_pair)
            if named is not None:
                self._now.named = named.key
                if not is_pair and self._is_missing(named):
                    self._now.missing.add(named.key, 0)
        for orphan in self._orphans(alone):
            self._now.orphans.add(orphan.key, orphan.size)
            if self._is_removing:
                self._remove(orphan)

    def _counted(self, stored: Found, is_pair: bool) -> list[Found]:
        """Count a file, unless archives count it; return it where no row of its tenant's stands beside it."""
        if stored.key.startswith(_ARCHIVES) or stored.key == MARK:
            return []
        self._now.objects += 1
        self._now.bytes += stored.size
        return [] if is_pair else [stored]

    def add_archives(self, store: ArchiveStore, found: Compared) -> None:
        """Count what was found of archives, under their folder's name."""
        self._now.objects += found.objects
        self._now.bytes += found.bytes
        self._now.elsewhere += found.elsewhere
        for key in found.missing:
            self._now.missing.add(f"{_ARCHIVES}{key}", 0)
        for orphan in found.orphans:
            self._now.orphans.add(f"{_ARCHIVES}{orphan.key}", orphan.size)
            if self._is_removing:
                store.delete(orphan.key)
                self._now.removed.add(f"{_ARCHIVES}{orphan.key}", orphan.size)

    def _orphans(self, alone: Sequence[Found]) -> list[Found]:
        self._now.elsewhere += sum(tenant_of(each.key) is None for each in alone)
        old = [each for each in alone if is_older(each, self._young) and not is_temporary(each.key)]
        asked = [
            Named(tenant_id, each.key)
            for each in old
            if (tenant_id := tenant_of(each.key)) is not None and _is_text(each.key)
        ]
        unowned = files.unowned(self._connection, asked) if asked else set()
        # what is no text, no row can name
        return [each for each in old if each.key in unowned or (tenant_of(each.key) and not _is_text(each.key))]

    def _is_missing(self, named: Named) -> bool:
        try:
            self._storage.size(named.tenant_id, named.key)
        except (FileVanishedError, StoragePathError):
            return files.is_named(self._connection, named.tenant_id, named.key)
        return False

    def _remove(self, orphan: Found) -> None:
        tenant_id = tenant_of(orphan.key)
        try:
            with self._connection.transaction():
                is_removed = tenant_id is not None and self._discard(tenant_id, orphan.key)
        except OSError:
            self._now.failed += 1
            return
        if is_removed:
            self._now.removed.add(orphan.key, orphan.size)

    def _discard(self, tenant_id: UUID, key: str) -> bool:
        if _is_text(key):
            return discard(self._connection, self._storage, tenant_id, key)
        self._storage.delete(tenant_id, key)
        return True


def _is_text(key: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in key)


def _record(transaction: Transaction, tenant_id: UUID | None, now: _Standing) -> None:
    """Say what was found and removed, in numbers: keys may hold names."""
    counts = {
        "objects": now.objects,
        "bytes": now.bytes,
        "orphans": now.orphans.count - now.removed.count,
        "orphan_bytes": now.orphans.bytes - now.removed.bytes,
        "missing": now.missing.count,
        "removed": now.removed.count,
    }
    told = f"{now.orphans.count} files of no row, {now.missing.count} missing, {now.removed.count} removed"
    resource = audit.Resource("storage", "files", tenant_id)
    audit.record(transaction.connection, "files.checked", told, resource, category="system", metadata=counts)


TASKS = (care_task(CheckFiles, check, TIME_LIMIT),)
SCHEDULES = (
    Schedule(
        name="storage-orphans",
        payload=CheckFiles(),
        cron="20 5 * * SUN",
        jitter=timedelta(minutes=15),
        design="003",
        description="Compares storage and rows both ways, and removes nothing.",
    ),
)
