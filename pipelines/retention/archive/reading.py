"""A part's files as they are read: row group by row group, back into the text that COPY takes."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from pipelines.retention.archive.columns import TEXT, Column, to_text
from pipelines.retention.archive.errors import ChangedArchiveError
from pipelines.retention.archive.writing import PAGE


class FileReader:
    """A file of a part on the local disk. Raises ChangedArchiveError for one that is no whole Parquet file."""

    def __init__(self, path: Path, key: str) -> None:
        self._key = key
        try:
            self._file = pq.ParquetFile(path)
        except (pa.ArrowException, OSError):
            raise ChangedArchiveError(key, "is no whole Parquet file") from None
        place = self._file.schema_arrow.get_field_index(PAGE)
        count = self._file.metadata.num_row_groups
        groups = (self._file.metadata.row_group(number).column(place) for number in range(count))
        self.pages = [int(group.statistics.min) for group in groups]

    @property
    def rows(self) -> int:
        """How many rows the file has."""
        return int(self._file.metadata.num_rows)

    def groups(self, names: Sequence[str] | None = None) -> Iterator[tuple[int, pa.Table]]:
        """Yield each row group with its page; only some columns where they are named."""
        for number, page in enumerate(self.pages):
            yield page, self._read(number, names)

    def page(self, page: int, names: Sequence[str] | None = None) -> pa.Table | None:
        """Return the rows of one page; None where the file has none of it."""
        return self._read(self.pages.index(page), names) if page in self.pages else None

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _read(self, number: int, names: Sequence[str] | None) -> pa.Table:
        try:
            return self._file.read_row_group(number, columns=None if names is None else list(names))
        except (pa.ArrowException, OSError):
            raise ChangedArchiveError(self._key, "cannot be read") from None


def copy_text(rows: pa.Table, columns: Sequence[Column]) -> bytes:
    """Return some columns of rows as the CSV that COPY reads as the values they were: all quoted, but NULL."""
    texts = pa.table({each.name: _written(to_text(rows[each.name].combine_chunks(), each)) for each in columns})
    buffer = io.BytesIO()
    csv.write_csv(texts, buffer, csv.WriteOptions(include_header=False, quoting_style="all_valid"))
    return buffer.getvalue()


def _written(array: pa.Array) -> pa.Array:
    """Spell floats in full, whatever the writer of CSV would make of them."""
    return array.cast(TEXT) if pa.types.is_floating(array.type) else array
