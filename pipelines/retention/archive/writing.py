"""A part's files as they are written: COPY's text of one page after the other becomes row groups of Parquet."""

import io
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq

from pipelines.retention.archive.columns import TEXT, Column, from_text
from pipelines.retention.archive.manifest import ArchivedFile, FileColumn
from pipelines.storage.base import hash_of

ROW_HASH, SUBJECTS, PAGE = "_row_hash", "_subjects", "_page"
OWN: Final = (Column(ROW_HASH, "bigint"), Column(SUBJECTS, "text"))
FATES: Final = "-~"
"""Before a name: the row goes with whom it names, or is emptied of them (ops.archive_subjects_of)."""
Subject = tuple[str, str]
"""A kind and an id."""


class FileWriter:
    """One file of a part, on the local disk until it is closed: rows or links of a table, a row group a page.

    Made at its first rows: a file without any is none.
    """

    def __init__(self, path: Path, table: str, kind: Literal["rows", "links"], columns: tuple[Column, ...]) -> None:
        self.path, self.table, self.kind, self.columns = path, table, kind, columns
        self.rows, self.hash_sum = 0, 0
        self.subjects: Counter[Subject] = Counter()
        self._written = (*columns, *OWN)
        self._writer: pq.ParquetWriter | None = None

    def add(self, text: bytes, page: int) -> pa.Table | None:
        """Append what COPY gave of a page: the columns, then `_row_hash` and `_subjects`; returns it as it stands."""
        parsed = parse(text, self._written)
        if parsed is None:
            return None
        arrays = [from_text(parsed[each.name], each) for each in self._written]
        rows = pa.table(
            [*arrays, pa.array([page] * len(parsed), pa.int32())],
            pa.schema([*((each.name, each.arrow) for each in self._written), (PAGE, pa.int32())]),
        )
        self.append(rows)
        return rows

    def append(self, rows: pa.Table) -> None:
        """Append a page as it is to stand in the file."""
        if self._writer is None:
            self._writer = pq.ParquetWriter(self.path, rows.schema, compression="zstd")
        self._writer.write_table(rows, row_group_size=len(rows))
        self.rows += len(rows)
        self.hash_sum += sum(rows[ROW_HASH].to_pylist())
        self.subjects.update(subjects_of(rows[SUBJECTS]))

    def close(self) -> bool:
        """Finish the file; returns whether there is one."""
        if self._writer is None:
            return False
        self._writer.close()
        return True


def described(file: FileWriter, key: str) -> ArchivedFile:
    """Return what a manifest says of a file that is closed, under its key in storage."""
    size, digest = hash_of(file.path)
    return ArchivedFile(
        key=key,
        table=file.table,
        kind=file.kind,
        rows=file.rows,
        bytes=size,
        sha256=digest.hex(),
        columns=tuple(FileColumn(name=each.name, type=each.type) for each in file.columns),
    )


def parse(text: bytes, columns: tuple[Column, ...]) -> pa.Table | None:
    """Return COPY's CSV as a table of the columns' `parsed` types; None where it has no row. NULL is not ''."""
    if not text:
        return None
    return csv.read_csv(
        io.BytesIO(text),
        # one block: a row may be of any length
        read_options=csv.ReadOptions(
            column_names=[each.name for each in columns], block_size=len(text) + 1, use_threads=False
        ),
        parse_options=csv.ParseOptions(newlines_in_values=True),
        convert_options=csv.ConvertOptions(
            column_types={each.name: each.parsed for each in columns},
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            true_values=["t"],
            false_values=["f"],
        ),
    )


def subjects_of(values: pa.ChunkedArray) -> Counter[Subject]:
    """Count the rows of each subject that a `_subjects` column names; a row that names one twice is one row."""
    counted: Counter[Subject] = Counter()
    for each in pc.value_counts(values.cast(TEXT).drop_null()).to_pylist():
        for kind, _, subject in {word.lstrip(FATES).partition(":") for word in each["values"].split()}:
            counted[kind, subject] += each["counts"]
    return counted


def span(rows: pa.Table, age_column: str) -> tuple[datetime, datetime]:
    """Return the least and the greatest time of a column that is finite and never NULL."""
    found: dict[str, Any] = pc.min_max(rows[age_column]).as_py()
    return found["min"], found["max"]
