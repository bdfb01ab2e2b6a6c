"""The rows of a part that are asked for: of one tenant, one row, or all; and of what went along, what is theirs.

A part's files belong together page by page, so what went along with rows of a page is found in the same page.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

import pyarrow as pa

from db.restores import File, Part, Reference
from pipelines.retention.archive.reading import FileReader
from pipelines.retention.archive.store import ArchiveStore
from pipelines.retention.archive.writing import SUBJECTS

Numbers = list[int] | None
"""Rows of a page by their place in it; None for all of them."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Whose rows, or which one, by its `id` or the parts of its key, parted by commas; all where neither is set."""

    tenant_id: UUID | None
    row_id: str | None
    key: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """What of a row tells whether it is chosen."""
        return (SUBJECTS, *self.key)

    def takes(self, subjects: str | None, *key: Any) -> bool:
        """Whether a row with these values of `columns` is chosen."""
        if self.row_id is not None and self.row_id != ",".join(str(value) for value in key):
            return False
        return self.tenant_id is None or f"tenant:{self.tenant_id}" in (subjects or "").split()


class OpenPart(AbstractContextManager["OpenPart"]):
    """A part's files on the local disk, each fetched when it is first asked for.

    Raises ChangedArchiveError for a file that is gone or has other bytes than were written.
    """

    def __init__(self, part: Part, store: ArchiveStore) -> None:
        self.part, self._store = part, store
        self._stack = ExitStack()
        self._folder = Path(self._stack.enter_context(TemporaryDirectory(prefix="greenroom-restore-")))
        self._readers: dict[str, FileReader] = {}

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def reader(self, file: File) -> FileReader:
        """Return the reader of one of its files."""
        if file.key not in self._readers:
            path = self._folder / str(len(self._readers))
            opened = FileReader(self._store.fetch(file.key, path, file.sha256), file.key)
            self._stack.callback(opened.close)
            self._readers[file.key] = opened
        return self._readers[file.key]

    def roots(self, choice: Choice) -> Iterator[tuple[int, Numbers]]:
        """Yield each page with those of its rows that are the part's own and chosen; no page without any."""
        is_all = choice.tenant_id is None and choice.row_id is None and not self.part.left_behind
        start = 0
        for page, rows in self.reader(self.part.files[0]).groups(choice.columns):
            values = zip(*(rows[name].to_pylist() for name in choice.columns), strict=True)
            numbers = [
                number
                for number, row in enumerate(values)
                if start + number not in self.part.left_behind and choice.takes(*row)
            ]
            start += len(rows)
            if numbers:
                yield page, None if is_all else numbers

    def page(
        self, page: int, numbers: Numbers, references: Sequence[Reference], leaving: Iterable[str]
    ) -> list[tuple[File, pa.Table]]:
        """Return the chosen rows of a page, with what went along with them and then the links, parents first.

        `leaving` names tables that are left out.
        """
        left_out = set(leaving)
        files = [file for file in ordered(self.part, references) if file.table not in left_out]
        tables = {file: rows for file in files if (rows := self.reader(file).page(page)) is not None}
        if numbers is not None:
            chosen = _follow(self.part.files[0], tables, numbers, references)
            tables = {file: rows.take(sorted(chosen[file])) for file, rows in tables.items()}
        return [(file, rows) for file, rows in tables.items() if len(rows)]


def ordered(part: Part, references: Sequence[Reference]) -> list[File]:
    """Return a part's files in the order in which their rows can be written, links last."""
    depths: dict[str, int] = {}
    for each in references:
        depths[each.child] = max(each.depth, depths.get(each.child, 0))
    deepest = max(depths.values(), default=0) + 1
    root, *others = part.files
    others.sort(key=lambda file: (file.kind == "links", depths.get(file.table, deepest)))
    return [root, *others]


def _follow(
    root: File, tables: dict[File, pa.Table], numbers: list[int], references: Sequence[Reference]
) -> dict[File, set[int]]:
    """Return which rows of a page's files are chosen: some of the first, and all that go along or refer to them."""
    chosen: dict[File, set[int]] = {file: set() for file in tables}
    chosen[root] = set(numbers)
    grows = True
    while grows:
        before = sum(map(len, chosen.values()))
        for reference in references:
            parents = _keys_of(reference.parent, reference.parent_columns, tables, chosen)
            for file, rows in tables.items():
                if file != root and _is_of(file, reference):
                    own = enumerate(_keys(rows, reference.child_columns))
                    chosen[file] |= {number for number, key in own if key in parents}
        grows = sum(map(len, chosen.values())) > before
    return chosen


def _is_of(file: File, reference: Reference) -> bool:
    wanted = "rows" if reference.action == "cascade" else "links"
    return file.table == reference.child and file.kind == wanted and _has(file, reference.child_columns)


def _has(file: File, columns: Iterable[str]) -> bool:
    return set(columns) <= {name for name, _ in file.columns}


def _keys_of(
    table: str, columns: Sequence[str], tables: dict[File, pa.Table], chosen: dict[File, set[int]]
) -> set[tuple[Any, ...]]:
    found = set[tuple[Any, ...]]()
    for file, rows in tables.items():
        if file.table == table and file.kind == "rows" and _has(file, columns):
            found |= set(_keys(rows.take(sorted(chosen[file])), columns))
    return {key for key in found if None not in key}


def _keys(rows: pa.Table, columns: Sequence[str]) -> list[tuple[Any, ...]]:
    """Return the values of some columns, row by row; moments as numbers, which may be infinite."""
    values = (rows[name] for name in columns)
    plain = (each.cast(pa.int64()) if pa.types.is_timestamp(each.type) else each for each in values)
    return list(zip(*(each.to_pylist() for each in plain), strict=True))
