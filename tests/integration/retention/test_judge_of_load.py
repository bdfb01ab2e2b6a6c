"""The judge of `make retention-load` against archives made by hand: what is lost, doubled or changed is seen."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from psycopg import sql
from psycopg.types.json import Jsonb

from db.connection import connect
from db.embedded import EmbeddedServer
from tests.benchmarks.retention.judging import LINKS, judge, strays
from tests.benchmarks.retention.plan import KEPT, MESSAGES, QUICK, TASKS, Kept
from tests.benchmarks.retention.seeding import PINNED, seed
from tests.support.database import Database, cloned
from tests.support.tenants import named

Rows = list[dict[str, Any]]
Change = Callable[[Rows], Rows]
_PLAN = replace(QUICK, rows=600, held=5, months=1)
_AGED = "FROM {relation} t JOIN book.{book} b ON b.id = t.id WHERE NOT b.is_held"
_DELETE = "DELETE FROM {relation} t USING book.{book} b WHERE b.id = t.id"
_LINKS = "SELECT id::text, message_id::text FROM tools.tool_executions WHERE message_id IS NOT NULL"
_NOTE = """
INSERT INTO ops.archives (policy_name, table_schema, table_name, month, part, status, row_count, files, manifest_key,
    manifest_sha256, schema_revision, since, until, left_behind, verified_at, emptied_at)
VALUES ('by hand', %s, %s, '2020-01-01', %s, 'emptied', %s, %s, %s, %s, '1', now(), now(), %s, now(), now())
"""


@pytest.fixture(scope="module")
def seeded(server_without_fsync: EmbeddedServer, template_database: str) -> Iterator[Database]:
    """Aged rows and their book."""
    with cloned(server_without_fsync, template_database) as database:
        seed(database, _PLAN, lambda line: None)
        yield database


@pytest.fixture
def archives(server_without_fsync: EmbeddedServer, seeded: Database, tmp_path: Path) -> Iterator["ByHand"]:
    """A copy of it, whose rows are to be archived."""
    with cloned(server_without_fsync, seeded.name) as database:
        yield ByHand(database, tmp_path)


class ByHand:
    """Archives whose values all stand as text, a part for each table."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database, self.folder = database, folder

    def archive_all(self, kept: Kept, change: Change = lambda rows: rows, left_behind: tuple[int, ...] = ()) -> None:
        """Write one part with a table's rows, changed, and delete them from the table as the book knows them."""
        rows = self._rows(kept)
        links = self.database.rows(_LINKS) if kept is MESSAGES else []
        self.part(
            kept, change(rows), [dict(zip(("id", "message_id"), link, strict=True)) for link in links], left_behind
        )
        self.delete(kept)

    def part(self, kept: Kept, rows: Rows, links: Rows, left_behind: tuple[int, ...] = ()) -> None:
        """Write one part's files, manifest and note."""
        schema, _, name = kept.relation.partition(".")
        files = [self._file(kept.relation, "rows", rows)] + ([self._file(LINKS, "links", links)] if links else [])
        manifest = self.folder / f"{uuid4()}.json"
        manifest.write_bytes(b"{}")
        count = int(self.database.value("SELECT count(*) FROM ops.archives"))
        checksum = hashlib.sha256(b"{}").hexdigest()
        values = (schema, name, count + 1, len(rows), Jsonb(files), manifest.name, checksum, list(left_behind))
        self.database.rows(_NOTE, values)

    def delete(self, kept: Kept, condition: str = " AND NOT b.is_held") -> None:
        """Delete what is aged and not held, or what a condition names."""
        self.database.rows(_DELETE.format(relation=kept.relation, book=kept.book) + condition)

    def judge(self) -> list[str]:
        """What the judge says."""
        return judge(self.database, self.folder)

    def _rows(self, kept: Kept) -> Rows:
        with connect(self.database.owner_url, name="by hand") as owner:
            owner.execute(PINNED)
            cursor = owner.execute(sql.SQL("SELECT * FROM {} LIMIT 0").format(named(kept.relation)))
            columns = [column.name for column in cursor.description or ()]
            texts = sql.SQL(", ").join(sql.SQL("t.{}::text").format(sql.Identifier(name)) for name in columns)
            aged = sql.SQL(_AGED.format(relation=kept.relation, book=kept.book))
            query = sql.SQL("SELECT {}, hashtextextended(t::text, 0) {} ORDER BY t.id").format(texts, aged)
            return [dict(zip([*columns, "_row_hash"], row, strict=True)) for row in owner.execute(query).fetchall()]

    def _file(self, relation: str, kind: str, rows: Rows) -> dict[str, Any]:
        path = self.folder / f"{uuid4()}.parquet"
        pq.write_table(pa.Table.from_pylist(rows), path)
        content = path.read_bytes()
        columns = [{"name": name, "type": "text"} for name in rows[0] if not name.startswith("_")]
        checksum = hashlib.sha256(content).hexdigest()
        return {
            "key": path.name, "table": relation, "kind": kind, "rows": len(rows), "bytes": len(content),
            "sha256": checksum, "columns": columns,
        }  # fmt: skip


def test_archives_of_all_rows_as_they_were_are_well(archives: ByHand) -> None:
    for kept in KEPT:
        archives.archive_all(kept)
    assert archives.judge() == []
    assert strays(archives.database, archives.folder) == []


def _lose(rows: Rows) -> Rows:
    return rows[1:]


def _double(rows: Rows) -> Rows:
    return [*rows, rows[0]]


def _change(rows: Rows) -> Rows:
    return [rows[0] | {"metadata": '{"from": "elsewhere"}'}, *rows[1:]]


def _empty(rows: Rows) -> Rows:
    """Of one row a text that was empty is none, as a reader of CSV may take it."""
    [place, *_] = [place for place, row in enumerate(rows) if "" in row.values()]
    return [*rows[:place], {name: value or None for name, value in rows[place].items()}, *rows[place + 1 :]]


def _invent(rows: Rows) -> Rows:
    return [*rows, rows[0] | {"id": str(uuid4())}]


@pytest.mark.parametrize("kept", KEPT, ids=lambda kept: kept.book)
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_lose, ["is lost"]),
        (_double, ["is archived more than once"]),
        (_change, ["is archived, and not as it was", "is archived with a hash that is not its own"]),
        (_invent, ["is archived with a hash that is not its own", "is archived, and nobody wrote it"]),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_row_that_is_lost_doubled_changed_or_invented_is_seen(
    archives: ByHand, kept: Kept, change: Change, said: list[str]
) -> None:
    for each in KEPT:
        archives.archive_all(each, change if each is kept else lambda rows: rows)
    found = archives.judge()
    assert [each.split(": ")[0] for each in found] == [f"1 × of {kept.relation} {what}" for what in said]


def test_an_empty_text_that_became_none_is_seen(archives: ByHand) -> None:
    archives.archive_all(MESSAGES, _empty)
    archives.archive_all(TASKS)
    assert "1 × of assistants.messages is archived, and not as it was" in [
        each.split(": ")[0] for each in archives.judge()
    ]


def test_a_row_that_stays_though_it_is_archived_is_seen(archives: ByHand) -> None:
    archives.archive_all(MESSAGES)
    archives.part(TASKS, archives._rows(TASKS), [])
    [said] = archives.judge()
    assert said.startswith(f"{_PLAN.rows} × of queue.tasks_history is archived and was not deleted: ")


def test_a_row_that_stays_and_is_not_archived_is_seen(archives: ByHand) -> None:
    archives.archive_all(MESSAGES)
    archives.part(TASKS, archives._rows(TASKS)[1:], [])
    first = "(SELECT min(id::text)::uuid FROM book.tasks WHERE NOT is_held)"
    archives.delete(TASKS, f" AND NOT b.is_held AND t.id <> {first}")
    [said] = archives.judge()
    assert said.startswith("1 × of queue.tasks_history is old, free and not archived: ")


def test_a_row_that_changed_since_belongs_to_the_later_part(archives: ByHand) -> None:
    archives.archive_all(MESSAGES)
    rows = archives._rows(TASKS)
    archives.part(TASKS, [rows[0] | {"metadata": "{}"}, *rows[1:]], [], left_behind=(0,))
    archives.part(TASKS, rows[:1], [])
    archives.delete(TASKS)
    assert archives.judge() == []


@pytest.mark.parametrize("kept", KEPT, ids=lambda kept: kept.book)
def test_a_held_row_that_went_is_seen(archives: ByHand, kept: Kept) -> None:
    for each in KEPT:
        archives.archive_all(each)
    archives.delete(kept, "")
    found = [each.split(": ")[0] for each in archives.judge()]
    assert f"{_PLAN.held} × of {kept.relation} is held, and did not stay as it was" in found


def test_another_byte_in_a_file_is_seen(archives: ByHand) -> None:
    for kept in KEPT:
        archives.archive_all(kept)
    [path, *_] = sorted(archives.folder.glob("*.parquet"), key=lambda path: -path.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert any("that were noted" in each for each in archives.judge())


def test_a_link_that_is_not_archived_is_seen(archives: ByHand) -> None:
    archives.archive_all(TASKS)
    archives.part(MESSAGES, archives._rows(MESSAGES), [])
    archives.delete(MESSAGES)
    [said] = archives.judge()
    assert said.startswith("1 × is a link that is not archived once, as it was: ")


def test_a_part_that_is_not_emptied_and_a_stray_file_are_seen(archives: ByHand) -> None:
    for kept in KEPT:
        archives.archive_all(kept)
    archives.database.rows(
        "UPDATE ops.archives SET status = 'verified', emptied_at = NULL WHERE table_name = 'messages'"
    )
    (archives.folder / "stray").write_bytes(b"")
    assert archives.judge() == ["assistants.messages 2020-01 part 2 is verified"]
    assert strays(archives.database, archives.folder) == ["stray"]
