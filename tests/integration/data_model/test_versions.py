"""`version`, in every table that counts its changes: a writer who gives another than there is is refused, typed."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from core.errors import DuplicateError, StaleVersionError
from db.connection import bind_tenant, connect
from db.constraints import rules
from db.models import Base
from tests.support.database import Database
from tests.support.factory import Factory, Row
from tests.support.statements import changed, rows, value
from tests.support.tenants import named
from tests.support.waiting import eventually

# A number that is called version and is no part of a key: what a key holds tells rows apart and counts nothing.
COUNTED = """
SELECT a.attrelid::regclass::text FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE a.attname = 'version' AND a.atttypid = 'integer'::regtype AND c.relkind IN ('r', 'p') AND NOT c.relispartition
    AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisunique AND a.attnum = ANY (i.indkey))
ORDER BY 1
"""
GUARDED = """
SELECT tgrelid::regclass::text FROM pg_trigger
WHERE tgfoid = 'ops.check_version'::regproc AND tgtype & 19 = 19 AND tgqual IS NULL AND tgattr = '' AND tgenabled = 'O'
ORDER BY 1
"""
TABLES = {
    f"{mapper.class_.__table__.schema}.{mapper.class_.__table__.name}": mapper.class_
    for mapper in Base.registry.mappers
    if mapper.version_id_col is not None
}
WAITS = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid = %s"
NUMBER = """
INSERT INTO people.mapper_configs (tenant_id, config_id, configuration) SELECT %s, 'm', '{}' FROM generate_series(1, 3)
RETURNING version
"""
ACTIVATE = "UPDATE people.mapper_configs SET status = 'active' WHERE id = %s"


def write(connection: psycopg.Connection[Any], table: str, row: Row, read: int) -> int:
    """Write a row of which a version was read; return the version that it has then."""
    update = sql.SQL("UPDATE {} SET version = %s WHERE id = %s RETURNING version").format(named(table))
    found: int = value(connection, update, read, row["id"])
    return found


@pytest.fixture
def sessions(shared: Database) -> Iterator[tuple[Session, Session]]:
    engine = create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(shared.owner_url), poolclass=NullPool
    )
    with Session(engine) as one, Session(engine) as other:
        yield one, other
    engine.dispose()


def test_every_table_that_counts_its_changes_refuses_stale_writes(shared: Database) -> None:
    counted = [table for (table,) in shared.rows(COUNTED)]
    assert counted == [table for (table,) in shared.rows(GUARDED)] == sorted(TABLES)
    assert len(counted) > 3


@pytest.mark.parametrize("table", sorted(TABLES))
def test_every_write_is_counted_and_a_stale_one_refused(ours: Factory, table: str) -> None:
    row = ours.row(table)
    assert row["version"] == 1
    assert [write(ours.owner, table, row, read) for read in (1, 2)] == [2, 3]
    silent = sql.SQL("UPDATE {} SET id = id WHERE id = %s RETURNING version").format(named(table))
    assert value(ours.owner, silent, row["id"]) == 4
    for read in (1, 3, 5):
        with pytest.raises(StaleVersionError) as caught, rules():
            write(ours.owner, table, row, read)
        assert caught.value.table == table


@pytest.mark.parametrize("table", sorted(TABLES))
def test_of_two_writers_at_once_the_second_is_refused(shared: Database, ours: Factory, table: str) -> None:
    row = ours.row(table)
    with (
        connect(shared.url("worker"), name="test one") as one,
        connect(shared.url("worker"), name="test other") as other,
        ThreadPoolExecutor(1) as threads,
    ):

        def second() -> int:
            with other.transaction():
                bind_tenant(other, ours.tenant_id)
                return write(other, table, row, 1)

        with one.transaction():
            bind_tenant(one, ours.tenant_id)
            write(one, table, row, 1)
            waiting = threads.submit(second)
            eventually(lambda: shared.value(WAITS, (other.info.backend_pid,)))
        with pytest.raises(StaleVersionError), rules():
            waiting.result(10)


@pytest.mark.parametrize("table", sorted(TABLES))
def test_of_two_sessions_the_second_is_refused(sessions: tuple[Session, Session], ours: Factory, table: str) -> None:
    row = ours.row(table)
    mine, theirs = (session.get_one(TABLES[table], row["id"]) for session in sessions)
    for each in (mine, theirs):
        each.created_at = row["created_at"].replace(microsecond=1)
    sessions[0].commit()
    assert mine.version == 2
    with pytest.raises(StaleVersionError), rules():
        sessions[1].commit()


# ------------------------------------------------------------------------------------------------ mappers


def test_versions_of_one_statement_are_numbered_one_by_one(ours: Factory) -> None:
    assert rows(ours.owner, NUMBER, ours.tenant_id) == [(1,), (2,), (3,)]


def test_of_two_versions_that_are_made_active_at_once_one_is_refused(shared: Database, ours: Factory) -> None:
    first, second = (ours.row("people.mapper_configs", config_id="m") for _ in range(2))
    with (
        connect(shared.url("worker"), name="test one") as one,
        connect(shared.url("worker"), name="test other") as other,
        ThreadPoolExecutor(1) as threads,
    ):

        def activate() -> int:
            with other.transaction():
                bind_tenant(other, ours.tenant_id)
                return changed(other, ACTIVATE, second["id"])

        with one.transaction():
            bind_tenant(one, ours.tenant_id)
            changed(one, ACTIVATE, first["id"])
            waiting = threads.submit(activate)
            eventually(lambda: shared.value(WAITS, (other.info.backend_pid,)))
        with pytest.raises(DuplicateError) as caught, rules():
            waiting.result(10)
    assert caught.value.constraint == "mapper_configs_active_key"
