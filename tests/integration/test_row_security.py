"""Row security (I6): each login role sees and writes what is its own, in every table that a tenant owns."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import sql

from db.connection import Connection, bind_tenant
from db.embedded import EmbeddedServer
from db.roles import ROLES, role_name
from tests.support.database import Database, cloned

OURS = UUID("00000000-0000-7000-8000-000000000001")
WALK = """
SELECT n.nspname, c.relname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE a.attname = 'tenant_id' AND NOT a.attisdropped AND c.relkind IN ('r', 'p')
    AND n.nspname NOT IN ('pg_catalog', 'information_schema')
ORDER BY 1, 2
"""
# Rows of one tenant in every kind of table; the tenant is %(t)s.
ROWS = """
INSERT INTO queue.outbox_tasks (task_type, payload, tenant_id) VALUES ('x', '{}', %(t)s);
INSERT INTO queue.outbox_tasks (task_type, payload, tenant_id, queue, priority, max_attempts, status, completed_at)
    VALUES ('x', '{}', %(t)s, 'default', 0, 5, 'cancelled', now());
INSERT INTO queue.attempts (task_id, tenant_id, claim_number, number, outcome)
    VALUES (gen_random_uuid(), %(t)s, 1, 1, 'retry');
INSERT INTO assistants.personas (tenant_id, name, system_prompt) VALUES (%(t)s, 'P', 'x');
INSERT INTO knowledge.collections (tenant_id, name, slug) VALUES (%(t)s, 'C', 'c');
INSERT INTO knowledge.documents (tenant_id, name) VALUES (%(t)s, 'd');
INSERT INTO knowledge.rag_queries (tenant_id, query_text, strategy, response_ms) VALUES (%(t)s, 'q', 'hybrid', 1);
INSERT INTO audit.audit_events (tenant_id, event_type, event_category, description) VALUES (%(t)s, 'x', 'action', 'x');
"""
FILLED = {
    "queue.outbox_tasks", "queue.tasks_live", "queue.tasks_history", "queue.attempts", "assistants.personas",
    "knowledge.collections", "knowledge.documents", "knowledge.rag_queries", "audit.audit_events",
}  # fmt: skip


@pytest.fixture(scope="module")
def shared(server_without_fsync: EmbeddedServer, template_database: str) -> Iterator[tuple[Database, UUID]]:
    """A database with rows of two tenants in every table; tests roll back what they write."""
    with cloned(server_without_fsync, template_database) as database:
        theirs = database.value("INSERT INTO identity.tenants (name, slug) VALUES ('B', 'b') RETURNING id")
        for tenant in (OURS, theirs):
            for statement in ROWS.strip().split(";\n"):
                database.rows(statement, {"t": tenant})
        yield database, theirs


def tables(database: Database) -> list[str]:
    return [f"{schema}.{name}" for schema, name in database.rows(WALK)]


def seen(connection: Connection, table: str) -> set[Any] | None:
    """Return the tenants whose rows a role sees, or None where it may not look at all."""
    try:
        with connection.transaction():
            query = sql.SQL("SELECT DISTINCT tenant_id FROM {}").format(sql.Identifier(*table.split(".")))
            return {row[0] for row in connection.execute(query).fetchall()}
    except psycopg.errors.InsufficientPrivilege:
        return None


def test_every_tenants_table_has_row_security_by_force(shared: tuple[Database, UUID]) -> None:
    found = tables(shared[0])
    assert set(found) >= FILLED
    loose = shared[0].rows(
        "SELECT oid::regclass::text FROM pg_class WHERE oid = ANY (%s::regclass[])"
        " AND NOT (relrowsecurity AND relforcerowsecurity)",
        (found,),
    )
    assert loose == []


def test_nobody_passes_row_security(shared: tuple[Database, UUID]) -> None:
    names = [role_name(kind) for kind in ROLES] + ["greenroom_owner"]
    query = "SELECT rolname FROM pg_roles WHERE rolname = ANY (%s) AND (rolsuper OR rolbypassrls)"
    assert shared[0].rows(query, (names,)) == []
    assert shared[0].value("SELECT count(*) FROM pg_roles WHERE rolname = ANY (%s) AND rolcanlogin", (names,)) == len(
        names
    )
    # a partition or table owned by one of them would let it past
    owned = "SELECT relname FROM pg_class WHERE pg_get_userbyid(relowner) = ANY (%s)"
    assert shared[0].rows(owned, ([role_name(kind) for kind in ROLES],)) == []


@pytest.mark.parametrize("role", ["worker", "operator", "reader"])
def test_a_bound_role_sees_its_tenant_only(shared: tuple[Database, UUID], role: str) -> None:
    database, theirs = shared
    connection = database.connect(role)
    looked = set()
    for tenant in (OURS, theirs):
        for table in tables(database):
            with connection.transaction():
                bind_tenant(connection, tenant)
                found = seen(connection, table)
            if found is None or (role == "operator" and table == "audit.audit_events"):
                continue
            assert found <= {tenant}, f"{role} sees {found} in {table}"
            if table in FILLED:
                assert found == {tenant}, f"{role} does not see its own rows in {table}"
            looked.add(table)
    assert len(looked) >= 8


@pytest.mark.parametrize("role", ["worker", "operator", "reader", "relay", "producer"])
def test_an_unbound_role_sees_no_rows_of_data(shared: tuple[Database, UUID], role: str) -> None:
    database, _ = shared
    connection = database.connect(role)
    for table in tables(database):
        if table.startswith("queue.") or (role == "operator" and table == "audit.audit_events"):
            continue
        assert seen(connection, table) in (None, set()), f"{role} in {table}"


def test_the_system_role_sees_all_tenants(shared: tuple[Database, UUID]) -> None:
    database, theirs = shared
    assert (seen(database.connect("system"), "knowledge.collections") or set()) >= {OURS, theirs}


@pytest.mark.parametrize("table", sorted(FILLED - {"queue.attempts", "audit.audit_events"}))
def test_a_bound_worker_cannot_change_anothers_row(shared: tuple[Database, UUID], table: str) -> None:
    database, theirs = shared
    connection = database.connect("worker")
    name = sql.Identifier(*table.split("."))
    with connection.transaction(force_rollback=True):
        bind_tenant(connection, OURS)
        update = sql.SQL("UPDATE {} SET tenant_id = tenant_id WHERE tenant_id = %s").format(name)
        assert connection.execute(update, (theirs,)).rowcount == 0
    give_away = sql.SQL("UPDATE {} SET tenant_id = %s WHERE tenant_id = %s").format(name)
    with connection.transaction(force_rollback=True):
        bind_tenant(connection, OURS)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(give_away, (theirs, OURS))


@pytest.mark.parametrize(
    "statement", [s for s in ROWS.strip().split(";\n") if "audit" not in s], ids=lambda s: s.split()[2]
)
def test_a_bound_worker_cannot_insert_for_another(shared: tuple[Database, UUID], statement: str) -> None:
    database, theirs = shared
    connection = database.connect("worker")
    with connection.transaction(force_rollback=True):
        bind_tenant(connection, OURS)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement.encode(), {"t": theirs})


def test_the_binding_ends_with_its_transaction_and_a_savepoint_does_not_end_it(shared: tuple[Database, UUID]) -> None:
    database, theirs = shared
    connection = database.connect("worker")
    with connection.transaction():
        bind_tenant(connection, theirs)
        with connection.transaction():
            assert seen(connection, "knowledge.collections") == {theirs}
        with connection.transaction(force_rollback=True):
            bind_tenant(connection, OURS)
            assert seen(connection, "knowledge.collections") == {OURS}
        assert seen(connection, "knowledge.collections") == {theirs}
    assert connection.execute("SELECT current_setting('app.current_tenant_id', true)").fetchone() == ("",)
    assert seen(connection, "knowledge.collections") == set()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE queue.outbox_tasks SET status = 'done'",
        "DELETE FROM queue.outbox_tasks",
        "UPDATE queue.tasks_live SET attempts = 0",
        "INSERT INTO queue.outbox_tasks (task_type, payload, status) VALUES ('x', '{}', 'done')",
        "INSERT INTO queue.outbox_tasks (task_type, payload, claim_number) VALUES ('x', '{}', 7)",
        "INSERT INTO queue.tasks_live (task_type, payload) VALUES ('x', '{}')",
        "INSERT INTO queue.task_types (name, queue) VALUES ('x', 'q')",
        "SELECT * FROM queue.attempts",
        "SELECT * FROM knowledge.documents",
        "SELECT * FROM identity.tenants",
        "CREATE TABLE public.mine (n int)",
        "SELECT queue.create_months()",
        "SELECT queue.create_month('queue.attempts', now())",
    ],
)
def test_a_producer_may_only_enqueue(shared: tuple[Database, UUID], statement: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        shared[0].connect("producer").execute(statement.encode())


@pytest.mark.parametrize("role", ["reader", "relay"])
@pytest.mark.parametrize(
    "statement", ["SELECT queue.enqueue('x.y', '{}')", "SELECT queue.enqueue_many('x.y', ARRAY['{}']::jsonb[])"]
)
def test_who_only_looks_or_hands_on_does_not_enqueue(shared: tuple[Database, UUID], role: str, statement: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        shared[0].connect(role).execute(statement.encode())


@pytest.mark.parametrize("role", ["producer", "worker", "system", "operator"])
def test_who_has_work_to_give_enqueues(shared: tuple[Database, UUID], role: str) -> None:
    with pytest.raises(psycopg.Error) as caught:
        shared[0].connect(role).execute("SELECT queue.enqueue('x.y', '{}')")
    assert caught.value.sqlstate == "GR001", "it was let in, and the type is unknown"


def test_no_function_that_runs_as_its_owner_is_everybodys(shared: tuple[Database, UUID]) -> None:
    query = (
        "SELECT oid::regproc::text FROM pg_proc WHERE prosecdef AND has_function_privilege('public', oid, 'EXECUTE')"
    )
    assert shared[0].rows(query) == []


def test_no_role_makes_a_triggers_function_its_own(shared: tuple[Database, UUID]) -> None:
    """On a table of one's own, the owner's rights would work on rows of one's choice: say, suspend any tenant."""
    reader = shared[0].connect("reader")
    reader.execute("CREATE TEMPORARY TABLE mine (id uuid, status text)")
    create = "CREATE TRIGGER t AFTER UPDATE ON mine FOR EACH ROW EXECUTE FUNCTION queue.follow_tenant()"
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        reader.execute(create)


def test_a_producer_enqueues_for_its_tenant_only(shared: tuple[Database, UUID]) -> None:
    database, theirs = shared
    producer = database.connect("producer")
    insert = b"INSERT INTO queue.outbox_tasks (task_type, payload, tenant_id) VALUES ('x', '{}', %s)"
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        producer.execute(insert, (theirs,))
    with producer.transaction(force_rollback=True):
        bind_tenant(producer, theirs)
        producer.execute(insert, (theirs,))
        assert seen(producer, "queue.outbox_tasks") == {theirs}
