"""What a column may hold: numbers and times that readers can hold, and texts that fit into their indexes."""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from db.connection import Connection
from db.models import Base
from tests.support.database import Database
from tests.support.factory import Factory, Row
from tests.support.statements import value
from tests.support.tenants import acting, named

# Times are the products' to write but for the queue's; what parts a table has its months.
COLUMNS = """
SELECT c.relnamespace::regnamespace || '.' || c.relname, a.attname
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
LEFT JOIN pg_partitioned_table p ON p.partrelid = c.oid
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND a.attnum > 0 AND NOT a.attisdropped
    AND a.atttypid = ANY (%s::regtype[]) AND c.relnamespace::regnamespace::text <> ALL (%s)
    AND a.attnum IS DISTINCT FROM p.partattrs[0] ORDER BY 1, 2
"""
NOT_OURS = ["public", "pg_catalog", "information_schema", "pg_toast"]
REQUIRED = """
SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND attnotnull AND attidentity = ''
"""
LETTERS = "".join(chr(20000 + (index * 7919) % 20000) for index in range(1000))


def emptied(owner: Connection, table: str) -> sql.Identifier:
    """Make a table that has a table's checks, and requires nothing; it goes with the transaction."""
    copy = sql.Identifier("pg_temp", "copied")
    owner.execute(
        sql.SQL("CREATE TEMP TABLE copied (LIKE {} INCLUDING CONSTRAINTS) ON COMMIT DROP").format(named(table))
    )
    for (column,) in owner.execute(REQUIRED, ("pg_temp.copied",)).fetchall():
        owner.execute(sql.SQL("ALTER TABLE {} ALTER {} DROP NOT NULL").format(copy, sql.Identifier(column)))
    return copy


def taken(owner: Connection, columns: list[tuple[str, str]], values: tuple[str, ...]) -> Iterator[tuple[str, str, str]]:
    """Yield the columns that take one of the values, and which."""
    for table, column in columns:
        with owner.transaction():
            insert = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
                emptied(owner, table), sql.Identifier(column), sql.Placeholder()
            )
            for each in values:
                try:
                    with owner.transaction():
                        owner.execute(insert, (each,))
                except (psycopg.errors.CheckViolation, psycopg.errors.NumericValueOutOfRange):
                    continue
                yield table, column, each


def test_no_number_is_none(shared: Database) -> None:
    owner = shared.connect()
    kinds = ["numeric", "real", "double precision"]
    columns = owner.execute(COLUMNS, (kinds, NOT_OURS)).fetchall()
    lists = owner.execute(COLUMNS, ([f"{kind}[]" for kind in kinds], NOT_OURS)).fetchall()
    assert len(columns) > 30
    assert lists
    assert list(taken(owner, columns, ("NaN", "Infinity", "-Infinity"))) == []
    assert list(taken(owner, lists, ("{0.5,NaN}", "{Infinity}", "{-Infinity}"))) == []


def test_no_time_is_one_that_a_reader_cannot_hold(shared: Database) -> None:
    owner = shared.connect()
    columns = owner.execute(COLUMNS, (["timestamptz", "timestamp", "date"], [*NOT_OURS, "queue"])).fetchall()
    assert len(columns) > 150
    assert list(taken(owner, columns, ("infinity", "-infinity", "12000-01-01", "0044-03-15 BC"))) == []


def test_a_time_at_the_edge_can_be_read_in_each_time_zone(shared: Database, ours: Factory) -> None:
    key = ours.row("identity.api_keys", expires_at="9998-12-31 23:59:59+00")["id"]
    owner = shared.connect()
    for zone in ("Pacific/Kiritimati", "Etc/GMT+12"):
        owner.execute(sql.SQL("SET timezone = {}").format(sql.Literal(zone)))
        assert value(owner, "SELECT expires_at FROM identity.api_keys WHERE id = %s", key).year in {9998, 9999}


@pytest.mark.parametrize(
    ("table", "given"),
    [
        ("assistants.voice_personas", {"youtube_url": LETTERS}),
        ("knowledge.transcript_segments", {"youtube_url": LETTERS}),
        ("mail.attachments", {"file_path": LETTERS}),
        ("mail.emails", {"message_id": LETTERS[:998]}),
        ("mail.emails", {"folder": LETTERS, "uidvalidity": 1, "uid": 1}),
        ("mail.folders", {"name": LETTERS}),
        ("people.narratives", {"tags": ["short", LETTERS]}),
        ("knowledge.products", {"description": " ".join(f"word{index}" for index in range(60_000))}),
        ("tools.tools", {"description": " ".join(f"word{index}" for index in range(60_000))}),
    ],
)
def test_a_text_that_does_not_fit_into_an_index_breaks_a_rule(ours: Factory, table: str, given: Row) -> None:
    with pytest.raises(psycopg.errors.CheckViolation) as caught:
        ours.row(table, **given)
    assert caught.value.diag.constraint_name == f"{table.split('.')[1]}_{next(iter(given))}_check"


def test_a_profile_is_as_deep_as_it_can_be_merged(ours: Factory) -> None:
    def nested(levels: int) -> Row:
        deep: Row = {}
        for _ in range(levels):
            deep = {"a": deep}
        return deep

    profile = ours.row("assistants.persona_profiles", auto_extracted=nested(63), manual_overrides=nested(63))
    merged = value(ours.owner, "SELECT assistants.effective_profile(%s)", profile["persona_id"])
    assert str(merged).count("a") == 63
    with pytest.raises(psycopg.errors.CheckViolation, match="persona_profiles_manual_overrides_check"):
        ours.row("assistants.persona_profiles", manual_overrides=nested(64))


def test_models_say_which_times_are_in_range() -> None:
    checked = {
        f"{table.schema}.{each.name}"
        for table in Base.metadata.tables.values()
        for each in table.constraints
        if str(each.name).endswith("_range_check")
    }
    assert "identity.users_created_at_range_check" in checked
    assert "assistants.messages_created_at_range_check" not in checked
    assert not any(name.startswith("queue.") for name in checked)


@pytest.mark.parametrize(
    ("query", "most"),
    [
        ("SELECT count(*) FROM knowledge.find_products(%s, %s)", 2000),
        ("SELECT count(*) FROM knowledge.search(%s, %s, NULL, NULL, 'lexical')", 10000),
    ],
    ids=["products", "chunks"],
)
def test_a_query_is_no_longer_than_anybody_asks(shared: Database, ours: Factory, query: str, most: int) -> None:
    ours.row("knowledge.chunks")
    with acting(shared, "reader", ours.tenant_id) as reader:
        assert value(reader, query, ours.tenant_id, "x " * (most // 2)) == 0
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="a query of"):
            value(reader, query, ours.tenant_id, "x " * (most // 2 + 1))
