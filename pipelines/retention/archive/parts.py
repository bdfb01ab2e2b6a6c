"""One part of an archive, from its first row to `verified`: gathered page by page, put, read back, compared.

Until it is verified nothing is deleted and nothing of it is kept: what was broken off is forgotten and begun anew.
"""

import hashlib
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import ClassVar, Final

from db import archives, forgetting
from db.connection import Connection
from pipelines.retention.archive.columns import Column
from pipelines.retention.archive.errors import ChangedArchiveError
from pipelines.retention.archive.manifest import NAME, ArchivedFile, Manifest, folder_of
from pipelines.retention.archive.reading import FileReader, copy_text
from pipelines.retention.archive.store import ArchiveStore
from pipelines.retention.archive.writing import OWN, FileWriter, Subject, described, span
from pipelines.retention.runs import Pacer, Run

MOST_ROWS: Final = 200_000
# Whatever a page takes: what it costs by itself, however few its rows, is some 20 ms, and far more on a busy machine.
_LEAST_ROWS, _PAGE_ROWS, _PAGE_BYTES = 2_000, 10_000, 16_000_000
# A part that makes way for tasks that wait has so many rows at the least: each costs some files.
_LEAST_PART = 20_000
# A page stands in memory, several times over: one of more text is gathered again from fewer blocks.
_MOST_BYTES = 64_000_000
# A page is of so many blocks of the table at first, and at most: 8 MB of them.
_FIRST_BLOCKS, _MOST_BLOCKS = 16, 1024


class OffError(Exception):
    """The run takes nothing any more: its policy was switched off, held or changed. `reason` says so to people."""

    reason: ClassVar[str] = "its policy is off, held or another by now"


class LostError(OffError):
    """The part is not as this worker knows it: another one is at the run, or somebody was erased from the part."""

    reason = "another worker is at it, or somebody is erased from it"


@dataclass(frozen=True, slots=True)
class Layout:
    """The files that parts of a table have, each with its columns, and the table's key."""

    files: Mapping[archives.PartFile, tuple[Column, ...]]
    key: tuple[Column, ...]

    @classmethod
    def of(cls, connection: Connection, table: str) -> "Layout":
        """Ask the database how a table is archived now."""
        found = archives.files(connection, table)
        columns = {name: archives.columns(connection, name) for name in {file.table for file in found}}
        typed = {name: {each.name: Column(each.name, each.type) for each in listed} for name, listed in columns.items()}
        return cls(
            {file: tuple(typed[file.table][name] for name in file.columns) for file in found},
            tuple(typed[table][each.name] for each in columns[table] if each.is_key),
        )


@dataclass(frozen=True, slots=True)
class Job:
    """A run at work: its connection (autocommit, the system role's), where archives stand, its pace."""

    connection: Connection
    store: ArchiveStore
    run: Run
    pacer: Pacer
    layout: Layout


class _WidePageError(Exception):
    """The blocks of a page hold more text than is read at once."""


class PartWriter:
    """The files of one part in a local folder."""

    def __init__(self, job: Job, folder: Path) -> None:
        self._age_column = job.run.age_column
        self.files = {
            file: FileWriter(
                folder / f"{file.place:02}-{file.table}-{file.kind}.parquet", file.table, file.kind, columns
            )
            for file, columns in job.layout.files.items()
        }
        self.times: tuple[datetime, datetime] | None = None
        self._pages = 0

    @property
    def own(self) -> FileWriter:
        """The file of the table's own rows."""
        return next(iter(self.files.values()))

    def add(self, texts: Mapping[archives.PartFile, bytes]) -> None:
        """Append a page: what COPY gave for each file."""
        for file, text in texts.items():
            rows = self.files[file].add(text, self._pages)
            if file.place == 0 and rows is not None:
                first, last = span(rows, self._age_column)
                known = self.times or (first, last)
                self.times = min(known[0], first), max(known[1], last)
        self._pages += 1

    def subjects(self) -> Counter[Subject]:
        """Count the rows of all files by whom they speak of."""
        return sum((file.subjects for file in self.files.values()), Counter())


def write(job: Job, month: date) -> bool:
    """Write and verify the next part of a month; false where the whole month was looked through and has no row.

    Raises OffError, LostError, UnavailableError of the store, ChangedArchiveError where it gives back something else,
    LockNotAvailable while somebody is deleted of whom it may speak; the part is left as `writing` then, for `forget`.
    """
    begun = archives.begin(job.connection, job.run.id, month)
    forgetting.await_deletions(job.connection)
    with tempfile.TemporaryDirectory(prefix="greenroom-archive-") as folder:
        writer = PartWriter(job, Path(folder))
        goes_on_at = _fill(job, begun, month, writer)
        if writer.times is None:
            archives.end_scan(job.connection, job.run.id, month)
            archives.discard(job.connection, begun.id)
            return begun.first_block > 0
        manifest = _manifest(job, begun, month, writer, writer.times)
        for each in manifest.files:
            _compare(job, each, Path(folder) / "back")
        try:
            _note(job, manifest, writer.subjects(), goes_on_at)
        except LostError:
            job.store.clear(folder_of(job.run.table, month, begun.part, begun.id))  # no row says whose it holds
            raise
    return True


def forget(job: Job, part: archives.Pending) -> None:
    """Remove what is there of a part for which no row was deleted, files first.

    The part is locked meanwhile: one that another worker has verified by then, or emptied, stays as it is.
    """
    with job.connection.transaction():
        if not archives.is_void(job.connection, part.id):
            return
        job.store.clear(folder_of(job.run.table, part.month, part.part, part.id))
        if part.manifest_key:  # of one that was written anew
            job.store.clear(part.manifest_key.rpartition("/")[0])
        archives.discard(job.connection, part.id)


def _fill(job: Job, begun: archives.Begun, month: date, writer: PartWriter) -> int | None:
    """Gather pages until the part is full, the time up or the table at its end; return where the next part begins."""
    block, blocks = begun.first_block, _FIRST_BLOCKS
    end = archives.blocks(job.connection, job.run.id, month)
    while block < end and not (job.pacer.is_over and writer.own.rows):
        with job.pacer.page(keeps_on=writer.own.rows < _LEAST_PART) as wanted:
            try:
                texts = _gather(job, begun, writer, block, block + blocks)
            except _WidePageError:
                blocks = max(blocks // 8, 1)
                continue
            if texts is None:
                return block
            before = writer.own.rows
            writer.add(texts)
        block += blocks
        blocks = _next_blocks(
            blocks,
            writer.own.rows - before,
            min(max(wanted, _LEAST_ROWS), _PAGE_ROWS),
            sum(len(text) for text in texts.values()),
        )
    return block if block < end else None


def _gather(
    job: Job, begun: archives.Begun, writer: PartWriter, first: int, last: int
) -> dict[archives.PartFile, bytes] | None:
    """Return what COPY gives of some blocks, by file; None where the part has no room for it.

    Raises _WidePageError where that is too much to be read at once, and fewer blocks would give less.
    """
    with job.connection.transaction(force_rollback=True):
        counted = archives.gather(job.connection, begun.id, first, last)
        if not counted:
            raise OffError
        if writer.own.rows and writer.own.rows + counted[0] > MOST_ROWS:
            return None
        texts: dict[archives.PartFile, bytes] = {}
        room = _MOST_BYTES if last - first > 1 else None
        for file in (each for each in writer.files if counted.get(each.place)):
            text = archives.copied(job.connection, file, room)
            if text is None:
                raise _WidePageError
            texts[file] = text
            room = None if room is None else room - len(text)
        return texts


def _next_blocks(blocks: int, rows: int, wanted: int, size: int) -> int:
    """Return how many blocks the next page takes, as many rows as are wanted in them, and not too many bytes."""
    share = min(wanted / rows, _PAGE_BYTES / max(size, 1), 2.0) if rows else 2.0
    return min(max(int(blocks * share), 1), _MOST_BLOCKS)


def _manifest(
    job: Job, begun: archives.Begun, month: date, writer: PartWriter, times: tuple[datetime, datetime]
) -> Manifest:
    """Put the files, and say what they are."""
    folder = folder_of(job.run.table, month, begun.part, begun.id)
    files = tuple(_put(job, folder, each) for each in writer.files.values() if each.close())
    return Manifest(
        archive_id=begun.id,
        policy_name=job.run.policy_name,
        tenant_id=job.run.tenant_id,
        table=job.run.table,
        age_column=job.run.age_column,
        key_columns=tuple(each.name for each in job.layout.key),
        month=month,
        part=begun.part,
        rows=writer.own.rows,
        hash_sum=writer.own.hash_sum,
        since=times[0],
        until=times[1],
        schema_revision=begun.schema_revision,
        files=files,
    )


def _put(job: Job, folder: str, file: FileWriter) -> ArchivedFile:
    key = f"{folder}/{file.path.name}"
    job.store.put(key, file.path)
    return described(file, key)


def _compare(job: Job, file: ArchivedFile, target: Path) -> None:
    """Read a file back from storage and let Postgres tell by each row's hash that it is what it was."""
    reader = FileReader(job.store.fetch(file.key, target, file.sha256), file.key)
    columns = [Column(each.name, each.type) for each in file.columns]
    found = 0
    for _, rows in reader.groups():
        with job.pacer.page(), job.connection.transaction(force_rollback=True):
            text = copy_text(rows, [*columns, OWN[0]])
            total, wrong = archives.check(job.connection, file.table, [each.name for each in columns], [text])
        if wrong or total != len(rows):
            raise ChangedArchiveError(file.key, "gives rows that are not what they were")
        found += total
    reader.close()
    if found != file.rows:
        raise ChangedArchiveError(file.key, "has not all of its rows")


def _note(job: Job, manifest: Manifest, subjects: Counter[Subject], goes_on_at: int | None) -> None:
    """Put the manifest, read it back, and note that the part is whole."""
    content = manifest.encode()
    key = f"{folder_of(manifest.table, manifest.month, manifest.part, manifest.archive_id)}/{NAME}"
    job.store.write(key, content)
    if job.store.read(key) != content:
        raise ChangedArchiveError(key, "has other bytes than were written")
    verified = archives.Verified(
        rows=manifest.rows,
        bytes=sum(each.bytes for each in manifest.files),
        hash_sum=manifest.hash_sum,
        files=[each.model_dump() for each in manifest.files],
        manifest_key=key,
        manifest_sha256=hashlib.sha256(content).hexdigest(),
        since=manifest.since,
        until=manifest.until,
        goes_on_at=goes_on_at,
    )
    with job.connection.transaction():
        if not archives.verify(job.connection, manifest.archive_id, job.run.id, verified, subjects):
            raise LostError
