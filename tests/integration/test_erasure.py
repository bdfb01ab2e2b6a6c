"""`tenant.erase`: nothing is left of a tenant that was deleted, and everything of the others, whatever is killed."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, LiteralString
from uuid import UUID

import pytest
from psycopg import sql

from db import queue, tenants
from db.embedded import EmbeddedServer
from pipelines.enqueue import enqueue
from pipelines.registry import Registry
from pipelines.resources import Resources
from pipelines.retention.archive.store import ArchiveStore, LocalArchives
from pipelines.storage import LocalStorage, Storage
from pipelines.tenants import erasure
from pipelines.tenants.erasure import TASKS, EraseTenant, unique_key
from tests.support import tasks
from tests.support.database import Database
from tests.support.engine import Line, publish
from tests.support.factory import Factory
from tests.support.tenants import named, new_tenant
from tests.support.walk import Walk, walked
from workers.testing import drain

TENANTS_OWN = """
SELECT c.oid::regclass::text FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE a.attname = 'tenant_id' AND NOT a.attisdropped AND c.relkind IN ('r', 'p') AND NOT c.relispartition
    AND c.relnamespace::regnamespace::text !~ '^(pg_|information_schema)' ORDER BY 1
"""
DELETE = "UPDATE identity.tenants SET status = 'deleted' WHERE id = %s"
ERASED = "SELECT resource_id, metadata FROM audit.audit_events WHERE event_type = 'tenant.erased' AND tenant_id IS NULL"
LOGGED = "SELECT operation, table_name, old_values ->> 'name' FROM audit.audit_log WHERE tenant_id = %s"
NOTES = """
CREATE TABLE identity.notes (tenant_id uuid NOT NULL, id uuid PRIMARY KEY, user_id uuid NOT NULL,
    FOREIGN KEY (user_id, tenant_id) REFERENCES identity.users (id, tenant_id) ON DELETE RESTRICT);
SELECT ops.bind_to_tenant('identity.notes')
"""
CIRCLE = """
CREATE TABLE identity.cups (tenant_id uuid NOT NULL, id uuid PRIMARY KEY DEFAULT gen_random_uuid(), saucer_id uuid);
CREATE TABLE identity.saucers (tenant_id uuid NOT NULL, id uuid PRIMARY KEY,
    cup_id uuid NOT NULL REFERENCES identity.cups);
ALTER TABLE identity.cups ADD FOREIGN KEY (saucer_id) REFERENCES identity.saucers ON DELETE SET NULL;
SELECT ops.bind_to_tenant('identity.cups', 'identity.saucers')
"""
NAME = """
UPDATE identity.tenants SET slug = 'zaphod', name = 'Zaphod', contact_email = 'zaphod@example.com' WHERE id = %s
"""
END_TASKS = """
INSERT INTO queue.tasks_history (id, task_type, payload, status, completed_at, tenant_id, queue, priority, max_attempts,
    metadata)
SELECT gen_random_uuid(), 'test.noop', '{}', 'cancelled', now(),
    CASE WHEN n %% 2 = 0 THEN %s ELSE identity.default_tenant_id() END, 'default', 0, 5,
    jsonb_build_object('filler', array(SELECT md5(filler::text || n) FROM generate_series(1, 40) AS filler))
FROM generate_series(1, 3000) AS n
"""
ENDS = "SELECT status, last_error FROM queue.tasks_history WHERE task_type = 'tenant.erase' ORDER BY completed_at"


@pytest.fixture
def walk(server_without_fsync: EmbeddedServer, template_database: str) -> Iterator[Walk]:
    """A database with rows of two tenants in every table."""
    with walked(server_without_fsync, template_database) as walk:
        yield walk


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return LocalStorage(tmp_path / "storage")


@pytest.fixture
def ours(database: Database) -> Iterator[Factory]:
    """The maker of rows of a tenant, in a database to which the types of tasks are known."""
    publish(database, Registry([*TASKS, *tasks.TASKS]))
    with new_tenant(database) as factory:
        yield factory


def resources(storage: Storage) -> Resources:
    found = Resources()
    found.provide(Storage, lambda: storage)
    found.provide(ArchiveStore, lambda: LocalArchives(Path(storage.place) / "archives"))
    return found


def work(database: Database, storage: Storage) -> dict[tuple[str, str], int]:
    """Run what is due, erasures and nothing else, to its end; return how many attempts ended how."""
    return drain(database, Registry(TASKS), resources=resources(storage), limit=10_000).outcomes


def deleted(database: Database, tenant_id: UUID, role: str = "operator") -> None:
    """Delete a tenant as an operator does who writes SQL."""
    database.connect(role).execute(DELETE, (tenant_id,))


def texts(database: Database, table: str, condition: LiteralString, value: Any) -> list[str]:
    """Return a table's rows of which something holds, each as one text."""
    query = sql.SQL("SELECT t::text FROM {} t WHERE {} ORDER BY 1").format(named(table), sql.SQL(condition))
    return [text for (text,) in database.rows(query.as_string(), (value,))]


def rows(database: Database, tenant_id: UUID) -> dict[str, list[str]]:
    """Return a tenant's rows by table, of every table that the catalogue has for tenants."""
    return {table: texts(database, table, "tenant_id = %s", tenant_id) for (table,) in database.rows(TENANTS_OWN)}


# ------------------------------------------------------------------------------------------------ all of it


@pytest.mark.parametrize("page", [2, 2000])
def test_nothing_is_left_of_a_tenant_and_everything_of_another(
    walk: Walk, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    monkeypatch.setattr(erasure, "_ROWS", page)
    database = walk.database
    publish(database, Registry(TASKS))
    limit = "INSERT INTO queue.limits (kind, name, concurrency) VALUES ('tenant', %s, 1)"
    keys = []
    for tenant_id in (walk.ours, walk.theirs):
        database.rows(limit, (str(tenant_id),))
        (tmp_path / "file").write_text("hello")
        keys.append(storage.put(tenant_id, tmp_path / "file").key)
    before = rows(database, walk.theirs)
    assert [table for table, found in rows(database, walk.ours).items() if not found] == []

    deleted(database, walk.ours)
    attempts = work(database, storage)

    assert database.rows(ENDS) == [("done", None)]
    left = rows(database, walk.ours)
    assert [table for table, found in left.items() if found] == ["audit.audit_log"]
    assert database.rows(LOGGED, (walk.ours,)) == [("DELETE", "tenants", "Erased")]
    assert database.rows("SELECT 1 FROM identity.tenants WHERE id = %s", (walk.ours,)) == []
    assert database.rows("SELECT name FROM queue.limits") == [(str(walk.theirs),)]
    assert (tmp_path / "storage" / keys[1]).exists()
    assert not (tmp_path / "storage" / str(walk.ours)).exists()
    assert rows(database, walk.theirs) == before
    [(resource_id, counts)] = database.rows(ERASED)
    assert (resource_id, counts["files"]) == (str(walk.ours), 1)
    assert sum(counts["rows"].values()) > len(left) / 2
    pages = attempts["tenant.erase", "snooze"]
    assert pages > 50 if page == 2 else pages < 10


def test_a_table_that_comes_later_is_erased_too(database: Database, ours: Factory, storage: Storage) -> None:
    database.rows(NOTES)
    note = "INSERT INTO identity.notes SELECT tenant_id, gen_random_uuid(), id FROM identity.users WHERE id = %s"
    database.rows(note, (ours.row("identity.users")["id"],))
    assert len(texts(database, "identity.notes", "tenant_id = %s", ours.tenant_id)) == 1
    deleted(database, ours.tenant_id)
    work(database, storage)
    assert texts(database, "identity.notes", "tenant_id = %s", ours.tenant_id) == []
    assert database.rows(ENDS) == [("done", None)]


def test_a_tenants_name_slug_and_contact_stand_nowhere_afterwards(
    database: Database, ours: Factory, storage: Storage
) -> None:
    """Its name, its slug and its contact stand nowhere: not in the log, not in the event, not in a task."""
    database.connect("operator").execute(NAME.encode(), (ours.tenant_id,))
    ours.row("identity.users", name="Zaphod")
    deleted(database, ours.tenant_id)
    work(database, storage)
    for table in ("audit.audit_log", "audit.audit_events", "queue.outbox_tasks", "queue.attempts", "identity.tenants"):
        assert texts(database, table, "t::text ILIKE %s", "%zaphod%") == [], table


def test_tables_come_before_those_they_refer_to_and_the_audit_last(database: Database) -> None:
    system = database.connect("system")
    ordered = tenants.tables(system)
    owned = {table for (table,) in database.rows(TENANTS_OWN)}
    assert set(ordered) == owned - {"ops.archives"}, "of archives the files go, and counts stay"
    places = {table: place for place, table in enumerate(ordered)}
    parents = system.execute("SELECT relation::text, unnest(parents)::text FROM ops.tenant_tables()").fetchall()
    assert len(parents) > 60
    assert [(table, parent) for table, parent in parents if places[table] > places[parent]] == []
    assert ordered[-2:] == ["audit.audit_events", "audit.audit_log"]


def test_tables_that_refer_to_each_other_are_erased_too(database: Database, ours: Factory, storage: Storage) -> None:
    database.rows(CIRCLE)
    [(cup,)] = database.rows("INSERT INTO identity.cups VALUES (%s) RETURNING id", (ours.tenant_id,))
    saucer = "INSERT INTO identity.saucers VALUES (%s, gen_random_uuid(), %s) RETURNING id"
    database.rows("UPDATE identity.cups SET saucer_id = %s", (database.value(saucer, (ours.tenant_id, cup)),))
    deleted(database, ours.tenant_id)
    work(database, storage)
    assert database.rows(ENDS) == [("done", None)]
    assert texts(database, "identity.cups", "tenant_id = %s", ours.tenant_id) == []


# ------------------------------------------------------------------------------------------------ what stops it


@pytest.mark.parametrize("is_own", [True, False])
def test_a_hold_keeps_all_of_a_tenant_and_says_so(
    database: Database, ours: Factory, storage: Storage, tmp_path: Path, is_own: bool
) -> None:
    (tmp_path / "file").write_text("evidence")
    key = storage.put(ours.tenant_id, tmp_path / "file").key
    event = {"table_schema": "governance", "table_name": "governance_events", "age_column": "created_at"}
    why = {"is_held": True, "hold_reason": "a court's order", "filter": {"event_type": "pre_agent_spawn"}}
    whose = ours.tenant_id if is_own else None
    hold = ours.row("ops.retention_policies", name="case 7", age="7 years", tenant_id=whose, **event, **why)
    ours.row("governance.governance_events")
    before = rows(database, ours.tenant_id)
    deleted(database, ours.tenant_id)
    work(database, storage)
    said = f"held by case 7 (a court's order): lift the hold, then `greenroom tenants delete {ours.tenant_id}`"
    assert database.rows(ENDS) == [("failed", said)]
    after = rows(database, ours.tenant_id)
    assert {table for table in before if before[table] != after[table]} == {"audit.audit_log"}, "its status is noted"
    assert (tmp_path / "storage" / key).exists()

    database.rows("DELETE FROM ops.retention_policies WHERE id = %s", (hold["id"],))
    deleted(database, ours.tenant_id)
    work(database, storage)
    assert [status for status, _ in database.rows(ENDS)] == ["failed", "done"]


def test_a_hold_of_another_tenants_rows_keeps_nobody_else(database: Database, ours: Factory, storage: Storage) -> None:
    with new_tenant(database) as theirs:
        kept = theirs.row("identity.users", name="Kept")
        speaks_of = {"table_schema": "identity", "table_name": "users", "age_column": "created_at"}
        for hold in ({"filter": {"name": "Kept"}}, {"filter": {}, "tenant_id": theirs.tenant_id}):
            theirs.row("ops.retention_policies", is_held=True, hold_reason="why", **speaks_of, **hold)
        ours.row("identity.users", name="Gone")
        deleted(database, ours.tenant_id)
        work(database, storage)
    assert database.rows(ENDS) == [("done", None)]
    assert database.rows("SELECT id FROM identity.users") == [(kept["id"],)]


def test_a_hold_that_comes_while_it_runs_keeps_what_is_left(
    database: Database, ours: Factory, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look and the page: the page looks again, and nothing of it goes."""
    user_id = ours.row("identity.users")["id"]
    look = tenants.look

    def late(connection: Any, tenant_id: UUID) -> Any:
        found = look(connection, tenant_id)
        hold = {"table_schema": "identity", "table_name": "users", "age_column": "created_at", "filter": {}}
        if not database.rows("SELECT 1 FROM ops.retention_policies WHERE is_held"):
            ours.row("ops.retention_policies", name="late", is_held=True, hold_reason="why", **hold)
        return found

    line = Line(database, Registry(TASKS), resources=resources(storage))
    deleted(database, ours.tenant_id)
    line.run_once()  # files
    monkeypatch.setattr(tenants, "look", late)
    line.run_once()
    line.close()
    [(status, error)] = database.rows(ENDS)
    assert (status, error) == ("failed", "PermanentError: held by late (why)")
    assert database.rows("SELECT id FROM identity.users") == [(user_id,)]


def test_a_tenant_that_is_not_deleted_is_not_erased(database: Database, ours: Factory, storage: Storage) -> None:
    ours.row("identity.users")
    enqueue(database.connect("operator"), EraseTenant(tenant_id=ours.tenant_id))
    work(database, storage)
    [(status, error)] = database.rows(ENDS)
    assert status == "failed"
    assert "is active: only a deleted one is erased" in error
    assert len(database.rows("SELECT 1 FROM identity.users")) == 1


def test_what_runs_for_a_tenant_is_asked_to_end_and_waited_for(
    database: Database, ours: Factory, storage: Storage
) -> None:
    line = Line(database, Registry([*TASKS, *tasks.TASKS]), resources=resources(storage))
    running = enqueue(database.connect(), tasks.Noop(), tenant_id=ours.tenant_id)
    waiting = enqueue(
        database.connect(), tasks.Noop(), tenant_id=ours.tenant_id, run_after=datetime(2099, 1, 1, tzinfo=UTC)
    )
    [claim] = line.claim()
    [attempt] = line.take([claim])
    deleted(database, ours.tenant_id)
    line.run_once()
    assert line.task(running)["cancel_reason"] == "its tenant is deleted"
    assert line.task(waiting)["hold_reason"] == "tenant is deleted"
    [(outcome, error)] = database.rows("SELECT outcome, error FROM queue.attempts")
    assert (outcome, error) == ("snooze", "its tasks run")
    assert attempt.task_id == running

    database.rows("UPDATE queue.tasks_live SET lease_until = '-infinity' WHERE id = %s", (running,))
    queue.rescue(line.relay, 100)
    line.close()
    database.rows("UPDATE queue.tasks_live SET run_after = now(), is_due = true WHERE task_type = 'tenant.erase'")
    work(database, storage)
    assert [status for status, _ in database.rows(ENDS)] == ["done"]
    assert database.rows("SELECT id FROM queue.outbox_tasks WHERE task_type <> 'tenant.erase'") == []


# ------------------------------------------------------------------------------------------------ killed, late, again


def test_an_erasure_that_was_killed_goes_on_where_it_was(
    database: Database, ours: Factory, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasure, "_ROWS", 3)
    for _ in range(20):
        ours.row("identity.users")
    deleted(database, ours.tenant_id)
    for _ in range(3):  # each worker dies with its second page begun
        line = Line(database, Registry(TASKS), resources=resources(storage))
        line.run_once()
        line.take(line.claim())
        database.rows("UPDATE queue.tasks_live SET lease_until = '-infinity', attempts = 1")
        queue.rescue(line.relay, 100)
        line.close()
        database.rows("UPDATE queue.tasks_live SET run_after = now(), is_due = true")
    standing = database.value("SELECT metadata -> 'erasure' FROM queue.tasks_live")
    assert (standing["stage"], standing["rows"]["identity.users"]) == (
        "rows",
        20 - len(database.rows("SELECT 1 FROM identity.users")),
    )
    work(database, storage)
    assert [status for status, _ in database.rows(ENDS)] == ["done"]
    [(_, counts)] = database.rows(ERASED)
    assert counts["rows"]["identity.users"] == 20


def test_rows_and_files_that_come_late_go_too(
    database: Database, ours: Factory, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a writer that was still at it leaves behind, when all seemed to be gone."""
    line = Line(database, Registry(TASKS), resources=resources(storage))
    deleted(database, ours.tenant_id)
    while database.value("SELECT COALESCE(metadata #>> '{erasure,stage}', '') FROM queue.tasks_live") != "end":
        line.run_once()
    ours.row("identity.users")
    (tmp_path / "file").write_text("late")
    storage.put(ours.tenant_id, tmp_path / "file")
    publish(database, Registry([*TASKS, *tasks.TASKS]))
    enqueue(database.connect(), tasks.Noop(), tenant_id=ours.tenant_id)
    line.close()
    work(database, storage)
    assert database.rows(ENDS) == [("done", None)]
    assert database.rows("SELECT 1 FROM identity.users") == database.rows("SELECT 1 FROM queue.tasks_live") == []
    [(_, counts)] = database.rows(ERASED)
    assert (counts["files"], counts["rows"]["identity.users"]) == (1, 1)


def test_a_tenant_that_is_gone_already_is_no_failure(database: Database, ours: Factory, storage: Storage) -> None:
    deleted(database, ours.tenant_id)
    work(database, storage)
    enqueue(database.connect("operator"), EraseTenant(tenant_id=ours.tenant_id))
    work(database, storage)
    assert database.rows(ENDS) == [("done", None)] * 2
    assert len(database.rows(ERASED)) == 1


def test_a_tenant_is_erased_once_at_a_time_whoever_deletes_it(database: Database, ours: Factory) -> None:
    for role in ("operator", "owner", "operator"):
        deleted(database, ours.tenant_id, role)
    key = unique_key(ours.tenant_id)
    enqueue(database.connect("operator"), EraseTenant(tenant_id=ours.tenant_id), unique_key=key)
    assert database.rows("SELECT task_type, unique_key, tenant_id, hold_reason FROM queue.tasks_live") == [
        ("tenant.erase", key, None, None)
    ]


def test_what_ended_while_the_history_was_walked_goes_with_the_tenant(database: Database, ours: Factory) -> None:
    deleted(database, ours.tenant_id)
    system = database.connect("system")

    def empty(tables: list[str]) -> None:
        for table in tables:
            system.execute(b"SELECT ops.erase_page(%s, %s::regclass, 10000, 0)", (ours.tenant_id, table))

    tables = tenants.tables(system)
    empty(tables[:-2])
    database.rows(END_TASKS, (ours.tenant_id,))
    system.execute(b"SELECT ops.empty_tenant(%s)", (ours.tenant_id,))
    empty(tables[-2:])
    system.execute(b"SELECT ops.remove_tenant(%s)", (ours.tenant_id,))
    left = "SELECT count(*) FROM queue.outbox_tasks WHERE tenant_id = %s"
    assert database.value(left, (ours.tenant_id,)) == 0


def test_history_is_walked_a_few_blocks_at_a_time(database: Database, ours: Factory) -> None:
    """No index finds a tenant's ended tasks: a page is a stretch of the table, whoever's rows are in it."""
    database.rows(END_TASKS, (ours.tenant_id,))
    deleted(database, ours.tenant_id)
    system = database.connect("system")
    page = b"SELECT gone, next_block FROM ops.erase_page(%s, 'queue.outbox_tasks', 10, %s)"
    counts: list[int] = []
    following: int | None = 0
    while following is not None:
        [(count, following)] = system.execute(page, (ours.tenant_id, following)).fetchall()
        counts.append(count)
    assert (len(counts) > 2, sum(counts)) == (True, 1500)
    assert database.value("SELECT count(*) FROM queue.tasks_history") == 1500
