"""People: what the database sees to by itself, and what it lets no login do."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import sql

from core.errors import StaleVersionError
from db.connection import Connection, connect, tenant_transaction
from db.constraints import rules
from tests.support.database import Database
from tests.support.factory import Factory, Row
from tests.support.tenants import (
    acting,
    ids,
    let_go,
)

TABLES = (
    "people.feedback",
    "people.mapper_configs",
    "people.mindscapes",
    "people.narratives",
    "people.observations",
    "people.persona_narrative_usage",
    "people.personas",
    "people.persons",
    "people.trait_narrative_links",
)
NUMBER = """
INSERT INTO people.mapper_configs (tenant_id, config_id, configuration) VALUES (%s, %s, '{}') RETURNING version
"""
WRITE = """
INSERT INTO people.mapper_configs (tenant_id, config_id, version, configuration) VALUES (%s, %s, %s, '{}')
"""
REWRITE = "UPDATE people.mindscapes SET traits = %s, version = %s WHERE id = %s RETURNING version"


@pytest.fixture
def worker(shared: Database, ours: Factory) -> Iterator[Connection]:
    """A worker's transaction, bound to our tenant."""
    with acting(shared, "worker", ours.tenant_id) as connection:
        yield connection


@pytest.fixture
def rows(ours: Factory) -> dict[str, Row]:
    return fill(ours)


def fill(factory: Factory) -> dict[str, Row]:
    """Make a row of each table, all about one person and written by one user."""
    author = {"created_by": factory.parent("identity.users")["id"]}
    person = {"person_id": factory.parent("people.persons")["id"]}
    narrative = factory.row("people.narratives", **person, **author)
    mapper = factory.row("people.mapper_configs", **author)
    persona = factory.row("people.personas", mapper_id=mapper["id"], **person, **author)
    used = {"narrative_id": narrative["id"], "persona_id": persona["id"]}
    return {
        "people.persons": factory.parent("people.persons"),
        "people.narratives": narrative,
        "people.mapper_configs": mapper,
        "people.personas": persona,
        "people.observations": factory.row("people.observations", **person, **author),
        "people.mindscapes": factory.row("people.mindscapes", **person),
        "people.trait_narrative_links": factory.row("people.trait_narrative_links", narrative_id=narrative["id"]),
        "people.persona_narrative_usage": factory.row("people.persona_narrative_usage", **used),
        "people.feedback": factory.row("people.feedback", persona_id=persona["id"], **author),
    }


def key(rows: dict[str, Row], table: str) -> tuple[UUID]:
    return (rows[table]["id"],)


def next_version(connection: Connection, factory: Factory, config_id: str = "m") -> int:
    [(version,)] = connection.execute(NUMBER.encode(), (factory.tenant_id, config_id)).fetchall()
    return int(version)


def test_nothing_is_written_about_another_tenants_person(ours: Factory, theirs: Factory) -> None:
    person_id = theirs.row("people.persons")["id"]
    for table in ("people.observations", "people.mindscapes", "people.narratives", "people.personas"):
        with pytest.raises(psycopg.errors.ForeignKeyViolation, match="person_id_tenant_id_fkey"):
            ours.row(table, person_id=person_id)


def test_a_mindscape_counts_its_changes(rows: dict[str, Row], worker: Connection) -> None:
    mindscape = key(rows, "people.mindscapes")
    assert worker.execute(REWRITE.encode(), ('{"calm": 1}', 1, *mindscape)).fetchall() == [(2,)]
    silent = b"UPDATE people.mindscapes SET traits = '{}' WHERE id = %s RETURNING version"
    assert worker.execute(silent, mindscape).fetchall() == [(3,)]


def test_a_mindscape_that_changed_since_it_was_read_is_not_written_over(
    rows: dict[str, Row], worker: Connection
) -> None:
    mindscape = key(rows, "people.mindscapes")
    worker.execute(REWRITE.encode(), ('{"calm": 1}', 1, *mindscape))
    with pytest.raises(StaleVersionError) as caught, rules(), worker.transaction():
        worker.execute(REWRITE.encode(), ('{"calm": 0}', 1, *mindscape))
    assert caught.value.table == "people.mindscapes"
    assert worker.execute("SELECT traits FROM people.mindscapes").fetchall() == [({"calm": 1},)]


def test_a_mappers_versions_are_numbered_in_its_tenant(
    shared: Database, ours: Factory, theirs: Factory, worker: Connection
) -> None:
    assert [next_version(worker, ours) for _ in range(3)] == [1, 2, 3]
    assert next_version(worker, ours, "another") == 1
    with acting(shared, "worker", theirs.tenant_id) as other:
        assert next_version(other, theirs) == 1


def test_the_system_role_numbers_a_tenants_mapper_by_that_tenants(
    shared: Database, ours: Factory, theirs: Factory
) -> None:
    ours.row("people.mapper_configs", config_id="m", version=8)
    with acting(shared, "system") as system:
        assert (next_version(system, ours), next_version(system, theirs)) == (9, 1)


def test_a_version_that_is_given_stays_and_the_next_goes_on_from_it(ours: Factory, worker: Connection) -> None:
    worker.execute(WRITE.encode(), (ours.tenant_id, "m", 7))
    assert next_version(worker, ours) == 8


def test_a_version_is_written_once(ours: Factory, worker: Connection) -> None:
    values = (ours.tenant_id, "m", 7)
    worker.execute(WRITE.encode(), values)
    taken = "mapper_configs_tenant_id_config_id_version_key"
    with pytest.raises(psycopg.errors.UniqueViolation, match=taken), worker.transaction():
        worker.execute(WRITE.encode(), values)
    assert worker.execute(f"{WRITE} ON CONFLICT DO NOTHING".encode(), values).rowcount == 0


@pytest.mark.parametrize(
    ("version", "error"), [(-1, psycopg.errors.CheckViolation), (None, psycopg.errors.NotNullViolation)]
)
def test_what_is_no_version_is_refused(
    ours: Factory, worker: Connection, version: int | None, error: type[psycopg.Error]
) -> None:
    with pytest.raises(error, match="version"):
        worker.execute(WRITE.encode(), (ours.tenant_id, "m", version))


@pytest.mark.parametrize("version", [1002, 2**31 - 1])
def test_a_version_far_ahead_does_not_end_the_numbers(ours: Factory, worker: Connection, version: int) -> None:
    next_version(worker, ours)
    with pytest.raises(psycopg.errors.CheckViolation) as caught, worker.transaction():
        worker.execute(WRITE.encode(), (ours.tenant_id, "m", version))
    assert caught.value.diag.constraint_name == "mapper_configs_version_follows_check"
    worker.execute(WRITE.encode(), (ours.tenant_id, "m", 1001))
    assert next_version(worker, ours) == 1002


@pytest.mark.parametrize(
    ("status", "column", "to", "is_kept"),
    [
        ("draft", "configuration", '{"rules": []}', False),
        ("draft", "version", 9, True),
        ("draft", "config_id", "other", True),
        ("active", "configuration", '{"rules": []}', True),
        ("active", "status", "draft", True),
        ("active", "status", "deprecated", False),
        ("active", "usage_count", 3, False),
        ("deprecated", "configuration", '{"rules": []}', True),
    ],
)
def test_a_mapper_that_is_no_draft_stays_as_it_was(
    ours: Factory, worker: Connection, status: str, column: str, to: str | int, is_kept: bool
) -> None:
    mapper = ours.row("people.mapper_configs", status=status)["id"]
    update = sql.SQL("UPDATE people.mapper_configs SET {} = %s WHERE id = %s").format(sql.Identifier(column))
    if not is_kept:
        assert worker.execute(update, (to, mapper)).rowcount == 1
        return
    with pytest.raises(psycopg.errors.CheckViolation) as caught, worker.transaction():
        worker.execute(update, (to, mapper))
    assert caught.value.diag.constraint_name == "mapper_configs_stays_check"


def test_writers_of_one_mapper_wait_for_each_other(shared: Database, ours: Factory, worker: Connection) -> None:
    next_version(worker, ours)
    with acting(shared, "worker", ours.tenant_id) as other:
        other.execute("SET LOCAL lock_timeout = '50ms'")
        assert next_version(other, ours, "another") == 1
        with pytest.raises(psycopg.errors.LockNotAvailable):
            next_version(other, ours)


def test_writers_at_once_get_numbers_of_their_own(shared: Database, ours: Factory) -> None:
    def write(_: int) -> list[int]:
        found = []
        with connect(shared.url("worker"), name="test worker") as connection:
            for _ in range(5):
                with tenant_transaction(connection, ours.tenant_id):
                    found.append(next_version(connection, ours))
        return found

    with ThreadPoolExecutor(4) as threads:
        found = [version for versions in threads.map(write, range(4)) for version in versions]
    assert sorted(found) == list(range(1, 21))


def test_the_next_version_is_active_once_the_last_is_not(ours: Factory, worker: Connection) -> None:
    for _ in range(2):
        next_version(worker, ours)
    activate = b"UPDATE people.mapper_configs SET status = 'active' WHERE version = %s"
    worker.execute(activate, (1,))
    with pytest.raises(psycopg.errors.UniqueViolation, match="mapper_configs_active_key"), worker.transaction():
        worker.execute(activate, (2,))
    worker.execute("UPDATE people.mapper_configs SET status = 'deprecated' WHERE version = 1")
    assert worker.execute(activate, (2,)).rowcount == 1


@pytest.mark.parametrize(
    ("given", "is_expired"),
    [
        ({}, False),
        ({"expires_at": None}, False),
        ({"expires_at": "2020-01-01"}, True),
        ({"expires_at": "2020-01-01", "expired_at": "2020-01-02"}, True),
        ({"expires_at": None, "expired_at": "2020-01-02"}, True),
    ],
    ids=["within a day", "never", "unmarked", "marked", "marked before its time"],
)
def test_a_persona_expires_by_its_time_or_its_mark(
    shared: Database, ours: Factory, given: dict[str, Any], is_expired: bool
) -> None:
    ours.row("people.personas", **given)
    with acting(shared, "reader", ours.tenant_id) as reader:
        found = reader.execute("SELECT people.is_expired(p) FROM people.personas p").fetchall()
    assert found == [(is_expired,)]


def test_expiry_tells_nothing_of_another_tenants_personas(shared: Database, ours: Factory, theirs: Factory) -> None:
    theirs.row("people.personas", expires_at="2020-01-01")
    with acting(shared, "reader", ours.tenant_id) as reader:
        assert reader.execute("SELECT people.is_expired(p) FROM people.personas p").fetchall() == []


def test_a_mapper_stays_as_long_as_one_of_its_personas(rows: dict[str, Row], worker: Connection) -> None:
    delete = b"DELETE FROM people.mapper_configs WHERE id = %s"
    mapper = key(rows, "people.mapper_configs")
    with (
        pytest.raises(psycopg.errors.ForeignKeyViolation, match="personas_mapper_id_tenant_id_fkey"),
        worker.transaction(),
    ):
        worker.execute(delete, mapper)
    worker.execute("DELETE FROM people.personas WHERE id = %s", key(rows, "people.personas"))
    assert worker.execute(delete, mapper).rowcount == 1


def test_all_that_is_known_of_a_person_goes_with_them(rows: dict[str, Row], worker: Connection) -> None:
    worker.execute("DELETE FROM people.persons WHERE id = %s", key(rows, "people.persons"))
    assert [table for table in TABLES if ids(worker, table)] == ["people.mapper_configs"]


def test_what_a_user_wrote_outlives_them(ours: Factory, rows: dict[str, Row], worker: Connection) -> None:
    user_id = rows["people.feedback"]["created_by"]
    assert worker.execute("DELETE FROM identity.users WHERE id = %s", (user_id,)).rowcount == 1
    for query in (
        "SELECT tenant_id, created_by FROM people.feedback",
        "SELECT tenant_id, created_by FROM people.mapper_configs",
        "SELECT tenant_id, created_by FROM people.narratives",
        "SELECT tenant_id, created_by FROM people.observations",
        "SELECT tenant_id, created_by FROM people.personas",
    ):
        assert worker.execute(query.encode()).fetchall() == [(ours.tenant_id, None)]


def test_a_tenants_people_go_with_it(shared: Database, ours: Factory, rows: dict[str, Row], worker: Connection) -> None:
    assert rows
    let_go(ours.owner, ours.tenant_id)
    assert [table for table in TABLES if ids(worker, table)] == []
