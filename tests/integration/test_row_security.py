"""Row security (I6): each login role sees and writes what is its own, in every table that a tenant owns."""

from collections.abc import Iterator
from uuid import UUID

import psycopg
import pytest

from db.connection import Connection, bind_tenant, tenant_transaction
from db.embedded import EmbeddedServer
from db.roles import ROLES, role_name
from tests.support.database import Database, cloned
from tests.support.tenants import owners

OURS = UUID("00000000-0000-7000-8000-000000000001")
# What is not a tenant's: the machine's own state, what the installation offers to all, and the tenants themselves.
OF_ALL = {
    "alembic_version", "billing.subscription_plans", "identity.operators", "identity.regions", "identity.tenants",
    "knowledge.embedding_models", "knowledge.spaces", "ops.backups", "ops.installation", "queue.alerts", "queue.chores",
    "queue.gauges",
    "queue.limit_tokens", "queue.limits", "queue.processes", "queue.queues", "queue.settlements", "queue.statistics",
    "queue.task_types",
    # a tenant's by its schedule: tests/integration/schedules
    "queue.fires",
    # whoever sees an archive sees whom it speaks of: tests/integration/test_row_security_walk.py
    "ops.archive_subjects",
}  # fmt: skip
LOGINS = [role_name(kind) for kind in ROLES]
COLLECTIONS = b"SELECT tenant_id FROM knowledge.collections"
COLLECT = b"INSERT INTO knowledge.collections (tenant_id, name, slug) VALUES (%s, 'N', 'n')"
BOUND = "SELECT current_setting('app.current_tenant_id', true)"


@pytest.fixture(scope="module")
def shared(server_without_fsync: EmbeddedServer, template_database: str) -> Iterator[tuple[Database, UUID]]:
    """A database in which the default tenant and another have a task and a collection each."""
    with cloned(server_without_fsync, template_database) as database:
        theirs = database.value("INSERT INTO identity.tenants (name, slug) VALUES ('B', 'b') RETURNING id")
        for tenant in (OURS, theirs):
            database.rows(
                "INSERT INTO queue.outbox_tasks (task_type, payload, tenant_id) VALUES ('x', '{}', %s)", (tenant,)
            )
            database.rows("INSERT INTO knowledge.collections (tenant_id, name, slug) VALUES (%s, 'C', 'c')", (tenant,))
        yield database, theirs


def seen(connection: Connection) -> set[UUID]:
    """Return the tenants whose collections a login sees."""
    return owners(connection, "knowledge.collections")


def test_every_tenants_table_has_row_security_by_force(shared: tuple[Database, UUID]) -> None:
    """The partitions too, whoever may be let at one some day."""
    query = """
        SELECT c.oid::regclass::text, c.relrowsecurity AND c.relforcerowsecurity
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE a.attname = 'tenant_id' AND NOT a.attisdropped AND c.relkind IN ('r', 'p')
            AND n.nspname NOT IN ('pg_catalog', 'information_schema')
    """
    found = dict(shared[0].rows(query))
    assert [table for table, is_forced in found.items() if not is_forced] == []
    assert len(found) > 80


def test_a_table_without_tenants_is_everybodys_knowingly(shared: tuple[Database, UUID]) -> None:
    query = """
        SELECT c.oid::regclass::text FROM pg_class c
        WHERE c.relkind IN ('r', 'p', 'm', 'f') AND NOT c.relispartition
            AND c.relnamespace::regnamespace::text NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
            AND NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = c.oid AND attname = 'tenant_id')
    """
    assert {table for (table,) in shared[0].rows(query)} == OF_ALL


def test_a_view_shows_what_its_reader_may_see(shared: tuple[Database, UUID]) -> None:
    query = """
        SELECT c.oid::regclass::text FROM pg_class c
        WHERE c.relkind = 'v' AND NOT 'security_invoker=true' = ANY (COALESCE(c.reloptions, '{}'))
            AND c.relnamespace::regnamespace::text NOT IN ('pg_catalog', 'information_schema')
    """
    assert shared[0].rows(query) == []


def test_no_login_has_a_right_that_row_security_does_not_look_at(shared: tuple[Database, UUID]) -> None:
    """TRUNCATE empties for all; a foreign key or a trigger of one's own tells of, and acts on, rows of anybody."""
    query = """
        SELECT r.rolname, c.oid::regclass::text FROM pg_roles r, pg_class c
        WHERE r.rolname = ANY (%s) AND c.relkind IN ('r', 'p', 'v')
            AND c.relnamespace::regnamespace::text NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
            AND (has_table_privilege(r.oid, c.oid, 'TRUNCATE, TRIGGER')
                OR has_any_column_privilege(r.oid, c.oid, 'REFERENCES'))
    """
    assert shared[0].rows(query, (LOGINS,)) == []


def test_nobody_passes_row_security(shared: tuple[Database, UUID]) -> None:
    names = [*LOGINS, "greenroom_owner"]
    query = "SELECT rolname FROM pg_roles WHERE rolname = ANY (%s) AND (rolsuper OR rolbypassrls)"
    assert shared[0].rows(query, (names,)) == []
    assert shared[0].value("SELECT count(*) FROM pg_roles WHERE rolname = ANY (%s) AND rolcanlogin", (names,)) == len(
        names
    )
    # a partition or table owned by one of them would let it past
    owned = "SELECT relname FROM pg_class WHERE pg_get_userbyid(relowner) = ANY (%s)"
    assert shared[0].rows(owned, (LOGINS,)) == []


RIGHTS = """
SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition AND n.nspname <> ALL (%s)
    AND (has_any_column_privilege(%s, c.oid, %s) OR has_table_privilege(%s, c.oid, %s)) ORDER BY 1
"""
SYSTEM_SCHEMAS = ["pg_catalog", "information_schema", "public"]


def test_a_reader_writes_nothing(shared: tuple[Database, UUID]) -> None:
    reader = role_name("reader")
    values = (SYSTEM_SCHEMAS, reader, "INSERT, UPDATE", reader, "INSERT, UPDATE, DELETE")
    assert shared[0].rows(RIGHTS, values) == []


# The relay holds the tasks of tenants that are suspended.
@pytest.mark.parametrize(("kind", "besides"), [("relay", ["identity.tenants"]), ("producer", []), ("scheduler", [])])
def test_who_only_hands_tasks_on_has_to_do_with_the_queue_alone(
    shared: tuple[Database, UUID], kind: str, besides: list[str]
) -> None:
    name, every = role_name(kind), "SELECT, INSERT, UPDATE"
    values = ([*SYSTEM_SCHEMAS, "queue"], name, every, name, f"{every}, DELETE")
    assert [table for (table,) in shared[0].rows(RIGHTS, values)] == besides


def test_a_worker_knows_no_tenant_but_its_own(shared: tuple[Database, UUID]) -> None:
    database, theirs = shared
    worker = database.connect("worker")
    query = b"SELECT id FROM identity.tenants"
    assert worker.execute(query).fetchall() == []
    with worker.transaction():
        bind_tenant(worker, theirs)
        assert worker.execute(query).fetchall() == [(theirs,)]


def test_the_binding_ends_with_its_transaction_and_a_savepoint_does_not_end_it(shared: tuple[Database, UUID]) -> None:
    database, theirs = shared
    connection = database.connect("worker")
    with connection.transaction():
        bind_tenant(connection, theirs)
        with connection.transaction():
            assert seen(connection) == {theirs}
        with connection.transaction(force_rollback=True):
            bind_tenant(connection, OURS)
            assert seen(connection) == {OURS}
        assert seen(connection) == {theirs}
    assert connection.execute(BOUND).fetchone() == ("",)
    assert seen(connection) == set()


@pytest.mark.parametrize("role", ["worker", "operator", "reader"])
def test_the_next_transaction_knows_nothing_of_the_last(shared: tuple[Database, UUID], role: str) -> None:
    """Neither after a commit nor after an error, though it is the same statement, prepared and planned once."""
    database, theirs = shared
    connection = database.connect(role)
    for tenant in (OURS, theirs) * 6:
        with tenant_transaction(connection, tenant):
            assert seen(connection) == {tenant}
        assert seen(connection) == set()
    with pytest.raises(psycopg.errors.DivisionByZero), tenant_transaction(connection, OURS):
        connection.execute("SELECT 1 / 0")
    assert seen(connection) == set()


def test_each_transaction_of_a_pipeline_is_bound_for_itself(shared: tuple[Database, UUID]) -> None:
    database, theirs = shared
    connection = database.connect("worker")
    cursors = []
    with connection.pipeline():
        for tenant in (OURS, None, theirs, None):
            with tenant_transaction(connection, tenant):
                cursors.append(connection.execute(COLLECTIONS))
    assert [set(cursor.fetchall()) for cursor in cursors] == [{(OURS,)}, set(), {(theirs,)}, set()]


def test_a_batch_with_one_row_of_anothers_is_refused_as_a_whole(shared: tuple[Database, UUID]) -> None:
    database, theirs = shared
    connection = database.connect("worker")
    with pytest.raises(psycopg.errors.InsufficientPrivilege), tenant_transaction(connection, OURS):
        connection.cursor().executemany(COLLECT, [(OURS,), (theirs,)])
    assert database.value("SELECT count(*) FROM knowledge.collections WHERE slug = 'n'") == 0


def test_a_copy_takes_no_way_around(shared: tuple[Database, UUID]) -> None:
    database, theirs = shared
    connection = database.connect("worker")
    out, into = "COPY knowledge.collections (tenant_id) TO STDOUT", "COPY knowledge.collections FROM STDIN"
    with tenant_transaction(connection, theirs), connection.cursor().copy(out) as copy:
        assert list(copy.rows()) == [(str(theirs),)]
    with (
        pytest.raises(psycopg.errors.FeatureNotSupported),
        tenant_transaction(connection, theirs),
        connection.cursor().copy(into),
    ):
        pass


@pytest.mark.parametrize("role", ROLES)
def test_a_login_stays_who_it_is(shared: tuple[Database, UUID], role: str) -> None:
    """It takes no other's role, and to reset its own changes nothing."""
    connection = shared[0].connect(role)
    others = {*LOGINS, "greenroom_owner"} - {role_name(role)}
    with connection.transaction():
        bind_tenant(connection, OURS)
        for other in others:
            for statement in (f"SET ROLE {other}", f"SET LOCAL ROLE {other}", f"SET SESSION AUTHORIZATION {other}"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
                    connection.execute(statement.encode())
        for statement in ("RESET ROLE", "SET ROLE NONE", "RESET SESSION AUTHORIZATION"):
            connection.execute(statement.encode())
            assert connection.execute("SELECT current_user, session_user").fetchone() == (role_name(role),) * 2
        assert connection.execute(BOUND).fetchone() == (str(OURS),)


@pytest.mark.parametrize("role", ["worker", "operator", "reader"])
def test_what_resets_a_session_frees_nobody(shared: tuple[Database, UUID], role: str) -> None:
    database, theirs = shared
    connection = database.connect(role)
    with connection.transaction():
        bind_tenant(connection, theirs)
        connection.execute("RESET ROLE")
        assert seen(connection) == {theirs}
        connection.execute("SET LOCAL row_security = off")
        with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
            seen(connection)
        connection.execute("RESET ALL")  # the binding too
        assert seen(connection) == set()
    with tenant_transaction(connection, OURS):
        assert seen(connection) == {OURS}
    connection.execute("DISCARD ALL")
    assert seen(connection) == set()


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
        assert owners(producer, "queue.outbox_tasks") == {theirs}
