"""A part without the rows of somebody: what goes and what is emptied, by what each row says (`_subjects`).

`-user:…` in a row says that it goes with that user, `~user:…` that it is emptied of them (ops.archive_subjects_of); a
link goes with the row that it refers to. The others are written as they were, page by page, under keys of their own.
"""

import hashlib
import tempfile
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from db import forgetting
from db.forgetting import Anew, Part, Subject
from pipelines.retention.archive.columns import TEXT, Column, to_text
from pipelines.retention.archive.errors import ChangedArchiveError
from pipelines.retention.archive.manifest import NAME, ArchivedFile, Manifest
from pipelines.retention.archive.reading import FileReader
from pipelines.retention.archive.store import ArchiveStore
from pipelines.retention.archive.writing import ROW_HASH, SUBJECTS, FileWriter, described, span
from pipelines.transaction import Transaction

Read = Callable[[], AbstractContextManager[Transaction]]
_KEY: Final = "id"
_NOTES: Final = "audit.audit_log"
_NOTED: Final = ("old_values", "new_values")


@dataclass(frozen=True, slots=True)
class Rewritten:
    """What a part is to be without somebody; `part` is None where it stays as it is.

    `gone` and `emptied` count rows of all its files. `holds` keep rows that would have gone; `hold_state` is what
    `forgetting.holds` said of the part's `tables` before they were looked at.
    """

    part: Anew | None
    subjects: Counter[tuple[str, str]]
    gone: int
    emptied: int
    holds: tuple[str, ...]
    tables: list[str]
    hold_state: str


@dataclass(slots=True)
class _File:
    """A file of the old part, and the numbers of its rows that go and that are emptied."""

    file: ArchivedFile
    reader: FileReader
    going: dict[int, str | None] = field(default_factory=dict)
    """By a row's number its key, as others refer to it."""
    emptying: set[int] = field(default_factory=set)

    @property
    def columns(self) -> list[Column]:
        return [Column(each.name, each.type) for each in self.file.columns]

    def texts(self, numbers: Sequence[int]) -> list[list[str | None]]:
        """Return some rows, by their numbers in order."""
        found: list[list[str | None]] = []
        for _, first, rows in self.numbered():
            places = [number - first for number in numbers if first <= number < first + len(rows)]
            found += texts_of(rows.take(places), self.columns) if places else []
        return found

    def keep(self, number: int) -> None:
        """Let a row stay as it is."""
        self.going.pop(number, None)
        self.emptying.discard(number)

    def numbered(self, names: Sequence[str] | None = None) -> Iterator[tuple[int, int, pa.Table]]:
        """Yield each page with the number of its first row."""
        first = 0
        for page, rows in self.reader.groups(names):
            yield page, first, rows
            first += len(rows)


@dataclass(frozen=True, slots=True)
class _Job:
    """What is written anew, without whom, and where."""

    read: Read
    store: ArchiveStore
    subject: Subject
    local: Path
    folder: str

    @property
    def goes(self) -> str:
        """What a row says that goes: of these three each that names them."""
        sign = "" if self.subject.kind in ("tenant", "person", "client") else "-"
        return f"{sign}{self.subject.kind}:{self.subject.id}"

    @property
    def is_emptied(self) -> str:
        """What a row says that is emptied."""
        return f"~{self.subject.kind}:{self.subject.id}"


def rewrite(read: Read, store: ArchiveStore, part: Part, subject: Subject, folder: str) -> Rewritten:
    """Write a part without somebody's rows below a folder of the store, read it back, and say what it is.

    `read` opens short transactions of the system role. Raises ChangedArchiveError where the store gives something else
    than was written, UnavailableError where it does not answer.
    """
    manifest = Manifest.decode(store.read(part.manifest_key), part.manifest_key, part.manifest_sha256)
    tables = sorted({file.table for file in manifest.files})
    with read() as transaction:
        hold_state = forgetting.holds(transaction.connection, tables)
    with tempfile.TemporaryDirectory(prefix="greenroom-archive-") as local, ExitStack() as closing:
        job = _Job(read, store, subject, Path(local), folder)
        files = [_opened(job, closing, number, file) for number, file in enumerate(manifest.files)]
        for each in files:
            _judge(job, each)
        holds = _keep_held(job, files) if hold_state else ()
        _follow_links(job, files)
        gone, emptied = sum(len(each.going) for each in files), sum(len(each.emptying) for each in files)
        writers = [_write(job, each) for each in files] if gone or emptied else []
        anew = _whole(job, manifest, part, files, writers) if writers else None
        subjects = sum((writer.subjects for writer in writers), Counter())
        return Rewritten(anew, subjects, gone, emptied, holds, tables, hold_state)


def _opened(job: _Job, closing: ExitStack, number: int, file: ArchivedFile) -> _File:
    reader = FileReader(job.store.fetch(file.key, job.local / f"old-{number}", file.sha256), file.key)
    closing.callback(reader.close)
    return _File(file, reader)


def _judge(job: _Job, file: _File) -> None:
    """Find the rows that go, and those that are emptied."""
    if file.file.kind == "links":
        return
    key = [_KEY] if _KEY in {each.name for each in file.columns} else []
    for _, first, rows in file.numbered([SUBJECTS, *key]):
        said = pc.fill_null(rows[SUBJECTS], "")
        goes = pc.match_substring(said, job.goes)
        is_emptied = pc.and_not(pc.match_substring(said, job.is_emptied), goes)
        for place in pc.indices_nonzero(goes).to_pylist():
            file.going[first + place] = rows[_KEY][place].as_py() if key else None
        file.emptying.update(first + place for place in pc.indices_nonzero(is_emptied).to_pylist())


def _keep_held(job: _Job, files: Sequence[_File]) -> tuple[str, ...]:
    """Let rows stay that a hold speaks of, and those that such a row needs; return the holds."""
    holds: dict[str, None] = {}
    needed: set[str | None] = set()
    for each in files:
        numbers = sorted(each.going.keys() | each.emptying)
        texts = each.texts(numbers)
        with job.read() as transaction:
            names = [column.name for column in each.columns]
            held = forgetting.held(transaction.connection, each.file.table, names, texts)
        for place, hold in held.items():
            holds[hold] = None
            needed.update(texts[place])
            each.keep(numbers[place])
    while kept := [(each, number) for each in files for number, key in each.going.items() if key and key in needed]:
        for each, number in kept:
            needed.update(*each.texts([number]))
            each.keep(number)
    return tuple(holds)


def _follow_links(job: _Job, files: Sequence[_File]) -> None:
    """Find the links of rows that go, and of whom goes."""
    gone = {str(job.subject.id)}.union(*({key for key in each.going.values() if key} for each in files))
    for each in files:
        if each.file.kind != "links":
            continue
        names = [column.name for column in each.columns if column.arrow == TEXT]
        for _, first, rows in each.numbered(names):
            named = (pc.is_in(rows[name], pa.array(gone, TEXT)) for name in names)
            for found in named:
                each.going.update((first + place, None) for place in pc.indices_nonzero(found).to_pylist())


def _write(job: _Job, file: _File) -> FileWriter:
    """Write a file without the rows that go."""
    writer = FileWriter(job.local / Path(file.file.key).name, file.file.table, file.file.kind, tuple(file.columns))
    for _, first, rows in file.numbered():
        numbers = range(first, first + len(rows))
        emptied = [number - first for number in numbers if number in file.emptying]
        both = pa.concat_tables([rows, _emptied(job, file, rows.take(emptied))]) if emptied else rows
        instead = {place: len(rows) + order for order, place in enumerate(emptied)}
        kept = [number - first for number in numbers if number not in file.going]
        if kept:
            writer.append(both.take([instead.get(place, place) for place in kept]))
    writer.close()
    return writer


def _emptied(job: _Job, file: _File, rows: pa.Table) -> pa.Table:
    """Return rows without the name of whom goes: of notes in the log of changes without what they hold."""
    name = pa.scalar(str(job.subject.id), TEXT)
    cleared = {each: rows[each] for each in rows.column_names}
    for column in file.columns:
        if file.file.table == _NOTES and column.name in _NOTED:
            cleared[column.name] = pa.nulls(len(rows), column.arrow)
        elif file.file.table != _NOTES and column.type == "uuid":
            is_named = pc.fill_null(pc.equal(rows[column.name], name), False)
            cleared[column.name] = pc.if_else(is_named, pa.scalar(None, TEXT), rows[column.name])
    said = [set(text.split()) - {job.is_emptied} for text in rows[SUBJECTS].to_pylist()]
    cleared[SUBJECTS] = pa.array([" ".join(sorted(words)) for words in said], TEXT)
    changed = pa.table(list(cleared.values()), rows.schema)
    with job.read() as transaction:
        names = [column.name for column in file.columns]
        hashes = forgetting.hashes(transaction.connection, file.file.table, names, texts_of(changed, file.columns))
    place = rows.schema.get_field_index(ROW_HASH)
    return changed.set_column(place, rows.schema.field(place), pa.array(hashes, pa.int64()))


def _whole(job: _Job, manifest: Manifest, part: Part, files: Sequence[_File], writers: Sequence[FileWriter]) -> Anew:
    """Put the new files, read them back, and say what the part is then; no file where no row of its own is left."""
    own = writers[0]
    if not own.rows:
        return Anew([], None, None, 0, 0, 0, [], 0)
    left = sorted(files[0].going)
    written = tuple(_put(job, writer) for writer in writers if writer.rows)
    since, until = _times(own.path, manifest.age_column)
    anew = manifest.model_copy(
        update={"rows": own.rows, "hash_sum": own.hash_sum, "since": since, "until": until, "files": written}
    )
    content, key = anew.encode(), f"{job.folder}/{NAME}"
    job.store.write(key, content)
    if job.store.read(key) != content:
        raise ChangedArchiveError(key, "has other bytes than were written")
    return Anew(
        files=[each.model_dump() for each in written],
        manifest_key=key,
        manifest_sha256=hashlib.sha256(content).hexdigest(),
        rows=own.rows,
        bytes=sum(each.bytes for each in written),
        hash_sum=own.hash_sum,
        left_behind=[number - bisect(left, number) for number in part.left_behind if number not in files[0].going],
        pages_emptied=_pages(files[0], part.pages_emptied),
    )


def _put(job: _Job, writer: FileWriter) -> ArchivedFile:
    """Put a file, and read it back."""
    written = described(writer, f"{job.folder}/{writer.path.name}")
    job.store.put(written.key, writer.path)
    job.store.fetch(written.key, job.local / "back", written.sha256)
    return written


def _times(path: Path, age_column: str) -> tuple[datetime, datetime]:
    """Return the least and the greatest time of a written file's age column."""
    reader = FileReader(path, path.name)
    spans = [span(rows, age_column) for _, rows in reader.groups([age_column])]
    reader.close()
    return min(first for first, _ in spans), max(last for _, last in spans)


def _pages(file: _File, emptied: int) -> int:
    """Return how many of the pages that were emptied are pages still."""
    pages = [(first, len(rows)) for _, first, rows in file.numbered([ROW_HASH])][:emptied]
    return sum(any(number not in file.going for number in range(first, first + count)) for first, count in pages)


def texts_of(rows: pa.Table, columns: Sequence[Column]) -> list[list[str | None]]:
    """Return rows as Postgres' own texts, value by value."""
    texts = [to_text(rows[each.name].combine_chunks(), each).cast(TEXT).to_pylist() for each in columns]
    return [list(row) for row in zip(*texts, strict=True)]
