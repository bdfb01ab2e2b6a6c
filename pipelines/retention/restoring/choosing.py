"""The rows of a part that are asked for: of one tenant, one row, or all; and of what went along, what is theirs.

A part's files belong together page by page, so what went along with rows of a page is found in the same page.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from pipelines.retention.archive.writing import ROW_HASH, SUBJECTS
from pipelines.retention.restoring.encoding import COPIES, COPY
from pipelines.retention.restoring.verifying import require_named

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

    `keys` has the keys of tables in which rows may be equal. Raises ChangedArchiveError for a file that is gone or has
    other bytes than were written, and where the manifest speaks of others than the database.
    """

    def __init__(self, part: Part, store: ArchiveStore, keys: Mapping[str, Sequence[str]]) -> None:
        self.part, self._store, self._keys = part, store, keys
        self._copies: dict[int, pa.Table] | None = None
        require_named(store, part.manifest_key, part.manifest_sha256, part.files)
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

    def count(self, choice: Choice) -> None:
        """Count the chosen rows of the part's own that are equal, where they may be: before a page is asked for."""
        root = self.part.files[0]
        if (key := self._keys.get(root.table)) is None:
            return
        read = self.reader(root)
        pages = [(page, numbers, read.page(page, [*key, ROW_HASH])) for page, numbers in self.roots(choice)]
        chosen = {page: rows if numbers is None else rows.take(numbers) for page, numbers, rows in pages if rows}
        self._copies = _counted(chosen, key)

    def page(
        self, page: int, numbers: Numbers, references: Sequence[Reference], leaving: Iterable[str]
    ) -> list[tuple[File, pa.Table]]:
        """Return the chosen rows of a page, with what went along with them and then the links, parents first.

        `leaving` names tables that are left out. Rows that may be equal are numbered.
        """
        left_out = set(leaving)
        files = [file for file in ordered(self.part, references) if file.table not in left_out]
        tables = {file: rows for file in files if (rows := self.reader(file).page(page)) is not None}
        if numbers is not None:
            chosen = _follow(self.part.files[0], tables, numbers, references)
            tables = {file: rows.take(sorted(chosen[file])) for file, rows in tables.items()}
        return [(file, self._numbered(page, file, rows)) for file, rows in tables.items() if len(rows)]

    def _numbered(self, page: int, file: File, rows: pa.Table) -> pa.Table:
        if file.kind == "links" or file.table not in self._keys:
            return rows
        copies = _counted({page: rows}, self._keys[file.table])
        if file == self.part.files[0] and self._copies is not None:
            copies = self._copies
        return rows.append_column(COPY, copies[page][COPY]).append_column(COPIES, copies[page][COPIES])


def ordered(part: Part, references: Sequence[Reference]) -> list[File]:
    """Return a part's files in the order in which their rows can be written, links last."""
    depths: dict[str, int] = {}
    for each in references:
        depths[each.child] = max(each.depth, depths.get(each.child, 0))
    deepest = max(depths.values(), default=0) + 1
    root, *others = part.files
    others.sort(key=lambda file: (file.kind == "links", depths.get(file.table, deepest)))
    return [root, *others]


def _counted(pages: Mapping[int, pa.Table], key: Sequence[str]) -> dict[int, pa.Table]:
    """Return by page, for each row, the how-manieth of its equals it is, and how many rows have its key."""
    keys = {page: _keys(rows, key) for page, rows in pages.items()}
    of_key = Counter(each for listed in keys.values() for each in listed)
    seen: Counter[tuple[Any, ...]] = Counter()
    found = {}
    for page, rows in pages.items():
        copies = []
        for known in zip(keys[page], rows[ROW_HASH].to_pylist(), strict=True):
            seen[known] += 1
            copies.append(seen[known])
        found[page] = pa.table({COPY: copies, COPIES: [of_key[each] for each in keys[page]]})
    return found


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
