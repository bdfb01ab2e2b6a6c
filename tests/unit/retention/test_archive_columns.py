"""Postgres' text becomes Arrow's values and text again that says the same; a file says when it is none."""

import random
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pyarrow as pa
import pytest

from pipelines.retention.archive.columns import TEXT, Column, from_text, to_text
from pipelines.retention.archive.errors import ChangedArchiveError, UnfitValueError
from pipelines.retention.archive.manifest import ArchivedFile, FileColumn, Manifest, folder_of
from pipelines.retention.archive.reading import FileReader, copy_text
from pipelines.retention.archive.writing import FileWriter, parse, subjects_of

MOMENT, DAY = Column("at", "timestamp with time zone"), Column("on", "date")
ID = UUID(int=7)


def there_and_back(texts: list[str | None], column: Column) -> list[str | None]:
    array = from_text(pa.chunked_array([pa.array(texts, TEXT)]), column)
    back: list[str | None] = to_text(array, column).to_pylist()
    return back


def test_times_of_all_years_come_back() -> None:
    chosen = random.Random(7)
    first = datetime(1, 1, 1, tzinfo=UTC)
    for _ in range(500):
        moment = first + timedelta(days=chosen.randrange(3_652_000), microseconds=chosen.randrange(86_400_000_000))
        text = f"{moment:%H:%M:%S.%f}+00"
        plain = f"{moment.year:04}-{moment:%m-%d} {text}"
        era = f"{moment.year:04}-{moment:%m}-{min(moment.day, 28):02} {text} BC"
        far = f"{moment.year + 280_000}-{moment:%m}-{min(moment.day, 28):02} {text}"
        assert there_and_back([plain], MOMENT) == [plain.replace("+00", "Z")]
        assert there_and_back([plain, era, far, None], MOMENT)[1:] == [era, far, None]


def test_days_and_infinities_come_back() -> None:
    days = ["infinity", "-infinity", "0044-03-15 BC", "0001-01-01", "9999-12-31", "10000-02-29", None]
    assert there_and_back(days, DAY) == days
    assert there_and_back(["infinity", "-infinity"], MOMENT) == ["infinity", "-infinity"]


@pytest.mark.parametrize("text", ["294276-01-01 00:00:00+00", "03.02.2020", "0044-03-15 12:00:00+01 BC"])
def test_a_time_that_has_no_room_is_refused(text: str) -> None:
    with pytest.raises(UnfitValueError, match="column at has a time"):
        there_and_back([text], MOMENT)


def test_null_is_not_an_empty_text() -> None:
    columns = (Column("a", "text"), Column("b", "integer"))
    rows = parse(b'"",1\n,\n', columns)
    assert rows is not None
    assert rows.to_pydict() == {"a": ["", None], "b": [1, None]}
    assert copy_text(rows, columns) == b'"","1"\n,\n'
    assert parse(b"", columns) is None


def test_a_row_that_names_somebody_twice_is_one_row() -> None:
    named = pa.chunked_array([["user:a user:a tenant:b", None, "", "tenant:b"]], pa.large_string())
    assert subjects_of(named) == {("user", "a"): 1, ("tenant", "b"): 2}


def test_pages_are_read_as_they_were_written(tmp_path: Path) -> None:
    columns = (Column("a", "text"),)
    writer = FileWriter(tmp_path / "file", "s.t", "rows", columns)
    assert writer.add(b"x,5,tenant:b\ny,-2,tenant:b\n", 0) is not None
    assert writer.add(b"", 1) is None
    assert writer.add(b"z,1,\n", 2) is not None
    assert writer.close()
    assert (writer.rows, writer.hash_sum, writer.subjects) == (3, 4, {("tenant", "b"): 2})
    reader = FileReader(tmp_path / "file", "a key")
    assert (reader.rows, reader.pages) == (3, [0, 2])
    pages = [(page, copy_text(rows, columns)) for page, rows in reader.groups()]
    assert pages == [(0, b'"x"\n"y"\n'), (2, b'"z"\n')]
    assert reader.page(1) is None
    reader.close()


def test_a_file_without_rows_is_none(tmp_path: Path) -> None:
    assert not FileWriter(tmp_path / "file", "s.t", "rows", (Column("a", "text"),)).close()
    assert not (tmp_path / "file").exists()


def test_what_is_no_parquet_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"PAR1 and no more")
    with pytest.raises(ChangedArchiveError, match="no whole Parquet file"):
        FileReader(tmp_path / "file", "a key")


def test_a_manifest_is_read_back_or_refused() -> None:
    file = ArchivedFile(
        key="k",
        table="s.t",
        kind="rows",
        rows=1,
        bytes=2,
        sha256="0" * 64,
        columns=(FileColumn(name="a", type="text"),),
    )
    now = datetime(2020, 2, 3, tzinfo=UTC)
    manifest = Manifest(
        archive_id=ID, policy_name="p", tenant_id=None, table="s.t", age_column="at", key_columns=("a",),
        month=date(2020, 2, 1), part=1, rows=1, hash_sum=-5, since=now, until=now,
        schema_revision="0039", files=(file,),
    )  # fmt: skip
    assert Manifest.decode(manifest.encode(), "k") == manifest
    for content in (b"", b"{}", manifest.encode().replace(b'"format": 1', b'"format": 2'), manifest.encode()[:-2]):
        with pytest.raises(ChangedArchiveError, match="no manifest that this program reads"):
            Manifest.decode(content, "k")
    with pytest.raises(ChangedArchiveError, match="other bytes"):
        Manifest.decode(manifest.encode(), "k", "0" * 64)
    assert folder_of("s.t", date(2020, 2, 1), 3, ID) == f"s.t/2020-02/0003-{ID}"
