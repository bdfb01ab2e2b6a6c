"""The step of a run that archives: part after part is written and verified, then its rows leave the table.

Where a run takes all of a month, and nothing refers to the table, the month is dropped as it stands once all of it is
in verified parts; else each part is emptied page by page before the next is written. Each call takes up what
`ops.archives` says, so that a run that was killed between any two statements goes on: what was being written is begun
anew, what was verified is emptied.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa

from db import archives
from db.archives import Pending
from db.connection import Connection
from pipelines.retention.archive.columns import to_text
from pipelines.retention.archive.errors import ChangedArchiveError
from pipelines.retention.archive.manifest import ArchivedFile, Manifest
from pipelines.retention.archive.parts import Job, Layout, LostError, OffError, forget, write
from pipelines.retention.archive.reading import FileReader
from pipelines.retention.archive.store import ArchiveStore
from pipelines.retention.archive.writing import ROW_HASH
from pipelines.retention.archived_files import require_own
from pipelines.retention.runs import Pacer, Run
from pipelines.task import TaskContext

_TIME = "the attempt's time is up"
_CHANGING = "rows change while they are archived"


def step(context: TaskContext, connection: Connection, run: Run, pacer: Pacer) -> str | None:
    """Archive what a run takes: None when nothing is left of it, else why to come back.

    Raises ForeignStoreError for a store of another installation, UnavailableError where it does not answer or is full,
    ChangedArchiveError where it gives
    back other bytes than it was given: no row is deleted for such a part.
    """
    store = context.resources.get(ArchiveStore)
    require_own(connection, store)
    job = Job(connection, store, run, pacer, Layout.of(connection, run.table))
    for part in archives.pending(connection, run.id, run.table):
        if part.status == "writing":
            forget(job, part)
    try:
        while True:
            parts = archives.pending(connection, run.id, run.table)
            month = parts[0].month if parts else archives.next_month(connection, run.id)
            if month is None:
                return _drop_emptied(job)
            context.progress(0.0, f"{run.table} {month:%Y-%m}")
            reason = _advance(job, month, [part for part in parts if part.month == month])
            if reason is not None or pacer.is_over:
                return reason or _TIME
    except OffError as off:
        return f"{off.reason}: {run.table}"
    except psycopg.errors.LockNotAvailable:
        return f"in use: {run.table}"


def _advance(job: Job, month: date, parts: list[Pending]) -> str | None:
    """Bring one month forward: write its next part, or let go of what its verified parts hold."""
    if not parts or _goes_on(job, month, parts):
        return None if write(job, month) else f"{_CHANGING}: {job.run.table} {month:%Y-%m}"
    if _is_whole(job, month, parts):
        _fetch_all(job, parts)
        outcome = archives.drop_month(job.connection, job.run.id, month)
        if outcome == "busy":
            return f"in use: {job.run.table} {month:%Y-%m}"
        if outcome == "dropped":
            return None
    return next((reason for part in parts if (reason := _empty(job, part))), None)


def _goes_on(job: Job, month: date, parts: list[Pending]) -> bool:
    """Whether all parts of a month are written before any is emptied, and one is still to be written."""
    return parts[-1].goes_on_at is not None and all(part.is_own for part in parts) and _is_whole(job, month, parts)


def _is_whole(job: Job, month: date, parts: list[Pending]) -> bool:
    """Whether a month may go as it stands, when all of it is in its parts."""
    return not any(part.pages_emptied for part in parts) and archives.is_whole(job.connection, job.run.id, month)


def _fetch_all(job: Job, parts: list[Pending]) -> None:
    """See that parts, which may have been verified long ago, stand in storage as they were written."""
    with tempfile.TemporaryDirectory(prefix="greenroom-archive-") as folder:
        for part in parts:
            manifest = Manifest.decode(job.store.read(part.manifest_key), part.manifest_key, part.manifest_sha256)
            for file in manifest.files:
                job.store.fetch(file.key, Path(folder) / "file", file.sha256)


def _drop_emptied(job: Job) -> str | None:
    """Drop the months that stand empty now."""
    for month in archives.emptied_months(job.connection, job.run.id):
        if archives.drop_month(job.connection, job.run.id, month) == "busy":
            return f"in use: {job.run.table} {month:%Y-%m}"
    return None


def _empty(job: Job, part: Pending) -> str | None:
    """Delete what a verified part holds and is as it was; return why to come back, if not all was looked at."""
    manifest = Manifest.decode(job.store.read(part.manifest_key), part.manifest_key, part.manifest_sha256)
    with _opened(job, manifest) as (own, others):
        first = 0
        for number, (page, rows) in enumerate(own.groups([*manifest.key_columns, ROW_HASH])):
            if number >= part.pages_emptied:
                if job.pacer.is_over and number > part.pages_emptied:
                    return _TIME  # each call gets further, however little time it has
                _empty_page(job, part, number, first, rows, _hashes(others, page))
            first += len(rows)
    deleted = archives.end_part(job.connection, part)
    if deleted is None:
        raise LostError
    if deleted == 0:
        forget(job, part)
        return f"{_CHANGING}: {job.run.table} {part.month:%Y-%m}"
    return None


def _empty_page(job: Job, part: Pending, number: int, first: int, rows: pa.Table, known: list[int]) -> None:
    """Delete a page, and note with it which of its rows stay."""
    with job.pacer.page(), job.connection.transaction():
        gone = archives.empty(job.connection, job.run.id, part.id, _keyed(job, rows, first), known)
        if gone is None:
            raise OffError
        left = [place for place in range(first, first + len(rows)) if place not in gone]
        if not archives.note(job.connection, job.run.id, part, number + 1, len(gone), left):
            raise LostError


def _keyed(job: Job, rows: pa.Table, first: int) -> list[dict[str, Any]]:
    """Return a page's rows by their key, hash and number in the file."""
    keys = [to_text(rows[each.name].combine_chunks(), each).to_pylist() for each in job.layout.key]
    hashes = rows[ROW_HASH].to_pylist()
    names = [each.name for each in job.layout.key]
    return [
        {"n": first + number, "h": hashed, **dict(zip(names, key, strict=True))}
        for number, (hashed, *key) in enumerate(zip(hashes, *keys, strict=True))
    ]


def _hashes(readers: list[FileReader], page: int) -> list[int]:
    """Return the hashes of what goes along with a page."""
    found = (reader.page(page, [ROW_HASH]) for reader in readers)
    return [hashed for rows in found if rows is not None for hashed in rows[ROW_HASH].to_pylist()]


@contextmanager
def _opened(job: Job, manifest: Manifest) -> Iterator[tuple[FileReader, list[FileReader]]]:
    """Fetch a part's files for the block, the table's own first; a part that is not whole any more empties nothing."""
    with tempfile.TemporaryDirectory(prefix="greenroom-archive-") as folder:

        def fetched(number: int, file: ArchivedFile) -> FileReader:
            return FileReader(job.store.fetch(file.key, Path(folder) / str(number), file.sha256), file.key)

        own, *others = [fetched(number, file) for number, file in enumerate(manifest.files)]
        if own.rows != manifest.rows:
            raise ChangedArchiveError(manifest.files[0].key, "has not all of its rows")
        try:
            yield own, others
        finally:
            for reader in (own, *others):
                reader.close()
