"""Care of the installation: months of all tables, what personas use, backups, and what tells how the database does.

How `ops` binds and parts tables, and counts versions, is in test_identity.py; retention in test_retention.py.
"""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import psycopg
import pytest

from core.errors import ConstraintError
from db.connection import Connection
from db.constraints import rules
from tests.support.database import Database
from tests.support.factory import Factory
from tests.support.statements import changed, column, rows, value
from tests.support.tenants import LOOK, acting, ids, named

BACKUPS, CRITICAL = "ops.backups", "SELECT record_id FROM ops.backup_critical_data"
PERSONAS = ("ops.persona_health_hourly", "ops.persona_health_metrics")
VIEWS = ("ops.table_sizes", "ops.unused_indexes", "ops.connections")
LOOKERS = ("system", "operator", "reader")
Denied = psycopg.errors.InsufficientPrivilege

# ------------------------------------------------------------------------------------------------ months

PARTED = """
SELECT p.partrelid::regclass::text FROM pg_partitioned_table p WHERE p.partstrat = 'r' ORDER BY 1
"""
AHEAD = """
SELECT count(to_regclass(%s || to_char((now() AT TIME ZONE 'UTC') + make_interval(months => n), '_YYYY_MM')))
FROM generate_series(0, 2) AS n
"""
REFERRED = """
CREATE TABLE ops.things (id int, at timestamptz, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
SELECT ops.create_month('ops.things', '2020-02-01');
CREATE TABLE ops.parts (id int, at timestamptz, FOREIGN KEY (id, at) REFERENCES ops.things);
INSERT INTO ops.things VALUES (1, '2020-02-02');
INSERT INTO ops.parts VALUES (1, '2020-02-02')
"""


def test_this_month_and_the_next_two_stand_in_every_parted_table(shared: Database) -> None:
    tables = [name for (name,) in shared.rows(PARTED)]
    assert {
        "audit.audit_events",
        "audit.audit_log",
        "governance.governance_events",
        "ops.persona_health_metrics",
    } <= set(tables)
    assert {name: shared.value(AHEAD, (name,)) for name in tables} == dict.fromkeys(tables, 3)


def test_a_month_that_rows_refer_to_is_not_detached(shared: Database) -> None:
    detach = "ALTER TABLE ops.things DETACH PARTITION ops.things_2020_02"
    with acting(shared, "owner") as owner:
        for statement in REFERRED.split(";"):
            owner.execute(statement.encode())
        with pytest.raises(psycopg.errors.ForeignKeyViolation), owner.transaction():
            owner.execute(detach)
        owner.execute("DELETE FROM ops.parts")
        owner.execute(detach)


def test_a_table_says_by_what_it_is_a_users(database: Database) -> None:
    tenant_id, user_id = uuid4(), uuid4()
    database.rows("CREATE TABLE ops.held (tenant_id uuid, holder uuid)")
    owned = "holder = (SELECT identity.current_user_id()) OR holder IS NULL"
    database.rows("SELECT ops.bind_to_tenant('ops.held'), ops.bind_to_user('ops.held', %s)", (owned,))
    for tenant, holder in ((tenant_id, user_id), (tenant_id, None), (tenant_id, uuid4()), (uuid4(), user_id)):
        database.rows("INSERT INTO ops.held VALUES (%s, %s)", (tenant, holder))
    with acting(database, "worker", tenant_id, user_id) as worker:
        assert sorted(rows(worker, "SELECT holder FROM ops.held"), key=str) == sorted([(user_id,), (None,)], key=str)
        with pytest.raises(Denied, match="user_binds"):
            changed(worker, "INSERT INTO ops.held VALUES (%s, %s)", tenant_id, uuid4())


# ------------------------------------------------------------------------------------------------ health, backups


@pytest.mark.parametrize("table", PERSONAS)
def test_a_personas_health_is_its_tenants(shared: Database, ours: Factory, theirs: Factory, table: str) -> None:
    row_id = ours.row(table)["id"]
    for role in ("worker", "operator", "reader"):
        for tenant_id, seen in ((ours.tenant_id, {row_id}), (theirs.tenant_id, set()), (None, set())):
            with acting(shared, role, tenant_id) as connection:
                assert ids(connection, table) == seen
    with acting(shared, "system") as system:
        assert row_id in ids(system, table)


@pytest.mark.parametrize("table", PERSONAS)
def test_a_workers_measures_are_of_its_tenants_personas(
    shared: Database, ours: Factory, theirs: Factory, table: str
) -> None:
    own, others = ours.values(table), theirs.values(table)
    with acting(shared, "worker", ours.tenant_id) as worker:
        measures = Factory(worker, ours.tenant_id)
        assert measures.insert(table, own)["persona_id"] == own["persona_id"]
        with pytest.raises(ConstraintError, match="persona_id"), rules(), worker.transaction():
            measures.insert(table, own | {"persona_id": others["persona_id"], "id": uuid4()})
        with pytest.raises(Denied, match="row-level security"):
            measures.insert(table, others)


@pytest.mark.parametrize("role", ["system", "operator"])
def test_backups_are_kept_by_who_works_across_tenants(shared: Database, ours: Factory, role: str) -> None:
    with acting(shared, role) as connection:
        backup_id = Factory(connection, ours.tenant_id).row(BACKUPS)["id"]
        assert backup_id in ids(connection, BACKUPS)
        assert changed(connection, "UPDATE ops.backups SET tier = 'archived' WHERE id = %s", backup_id) == 1
        assert changed(connection, "DELETE FROM ops.backups WHERE id = %s", backup_id) == 1


def test_who_looks_changes_no_backups_and_a_worker_knows_none(shared: Database, ours: Factory) -> None:
    backup_id = ours.row(BACKUPS)["id"]
    with acting(shared, "reader") as reader:
        assert backup_id in ids(reader, BACKUPS)
        with pytest.raises(Denied):
            changed(reader, "DELETE FROM ops.backups")
    for role in ("worker", "relay", "producer"):
        with acting(shared, role, ours.tenant_id) as connection, pytest.raises(Denied):
            ids(connection, BACKUPS)


# ------------------------------------------------------------------------------------------------ what a backup takes


@pytest.mark.parametrize(("table", "days"), [("agent_sessions", 30), ("governance_events", 90)])
def test_what_a_backup_takes_first_is_young(shared: Database, ours: Factory, table: str, days: int) -> None:
    since = datetime.now(UTC) - timedelta(days=days)
    shared.rows("SELECT ops.create_month('governance.governance_events', %s)", (since - timedelta(hours=1),))
    shared.rows("SELECT ops.create_month('governance.governance_events', %s)", (since + timedelta(hours=1),))
    given = {} if table == "agent_sessions" else {"agent_session_id": ours.row("governance.agent_sessions")["id"]}
    young, _ = (ours.row(f"governance.{table}", created_at=since + timedelta(hours=h), **given) for h in (1, -1))
    query = "SELECT record_id, data ->> 'id', backup_priority FROM ops.backup_critical_data WHERE table_name = %s"
    with acting(shared, "operator", ours.tenant_id) as operator:
        found = [row for row in rows(operator, query, table) if UUID(row[0]) != given.get("agent_session_id")]
    assert found == [(str(young["id"]), str(young["id"]), young["created_at"])]


def test_a_backup_takes_users_of_any_age_without_their_passwords(shared: Database, ours: Factory) -> None:
    user = ours.row("identity.users", password_hash="a hash", created_at="2020-01-01 00:00+00")
    query = "SELECT record_id, data, backup_priority FROM ops.backup_critical_data WHERE table_name = 'users'"
    with acting(shared, "operator", ours.tenant_id) as operator:
        [(record_id, data, made_at)] = rows(operator, query)
    assert (record_id, data["email"], made_at) == (str(user["id"]), user["email"], user["created_at"])
    assert user.keys() - data.keys() == {"password_hash"}


def test_what_a_backup_takes_is_what_its_login_may_see(shared: Database, ours: Factory, theirs: Factory) -> None:
    user_id = str(ours.row("identity.users")["id"])
    for role in ("operator", "reader"):
        for tenant_id, seen in ((ours.tenant_id, {user_id}), (theirs.tenant_id, set()), (None, set())):
            with acting(shared, role, tenant_id) as connection:
                assert column(connection, CRITICAL) == seen
    with acting(shared, "system") as system:
        assert user_id in column(system, CRITICAL)
    for role in ("worker", "relay", "producer"):
        with acting(shared, role, ours.tenant_id) as connection, pytest.raises(Denied):
            column(connection, CRITICAL)


# ------------------------------------------------------------------------------------------------ the database's health

Health = dict[str, tuple[Decimal, str, Decimal]]


def health(connection: Connection) -> Health:
    query = "SELECT metric, value, status, threshold FROM ops.db_health_check()"
    return {metric: (measured, status, threshold) for metric, measured, status, threshold in rows(connection, query)}


@pytest.mark.parametrize("role", ["worker", *LOOKERS])
def test_health_is_connections_size_and_cache_hits(shared: Database, role: str) -> None:
    with acting(shared, role) as connection:
        found = health(connection)
    thresholds = {"active_connections": 100, "db_size_mb": 10240, "cache_hit_ratio": 90}
    assert {metric: threshold for metric, (_, _, threshold) in found.items()} == thresholds
    size = shared.value("SELECT pg_database_size(current_database()) / 1048576.0")
    assert (abs(found["db_size_mb"][0] - size) < 1, found["db_size_mb"][1]) == (True, "OK")


@pytest.mark.parametrize("role", ["relay", "producer"])
def test_health_is_for_who_looks(shared: Database, role: str) -> None:
    with acting(shared, role) as connection, pytest.raises(Denied):
        health(connection)


def test_a_session_whose_state_is_hidden_counts_as_active(database: Database) -> None:
    reader = database.connect("reader")
    before, _, _ = health(reader)["active_connections"]
    for role, is_hidden in (("reader", False), ("worker", True)):
        for _ in range(10):
            database.connect(role)
        # other databases' sessions count too, and come and go
        assert (health(reader)["active_connections"][0] > before + 5) is is_hidden


def ratio_of_hits(connection: Connection) -> tuple[bool, str]:
    """Tell whether the cache hits often enough, and what the health check says."""
    connection.execute("SELECT pg_stat_force_next_flush()")
    hits, status, threshold = health(connection)["cache_hit_ratio"]
    return hits >= threshold, status


def test_few_hits_of_the_cache_are_a_warning_and_many_are_none(database: Database) -> None:
    owner = database.connect()
    # most of it is written past the cache
    owner.execute("CREATE TABLE public.large WITH (fillfactor = 10) AS SELECT generate_series(1, 150000) AS n")
    ratio_of_hits(owner)
    with psycopg.connect(database.superuser_url, autocommit=True) as superuser:
        superuser.execute("SELECT pg_stat_reset()")
    owner.execute("SELECT count(*) FROM public.large")
    assert ratio_of_hits(owner) == (False, "WARNING")
    for _ in range(400):
        owner.execute("SELECT count(*) FROM pg_attribute")
    assert ratio_of_hits(owner) == (True, "OK")


# ------------------------------------------------------------------------------------------------ views


def test_the_largest_table_comes_first(database: Database) -> None:
    database.rows("CREATE TABLE ops.large AS SELECT repeat('x', 200) AS filler FROM generate_series(1, 50000)")
    query = "SELECT schemaname, tablename, total_size, total_bytes FROM ops.table_sizes"
    for role in LOOKERS:
        found = rows(database.connect(role), query)
        measured = "SELECT pg_size_pretty(pg_total_relation_size('ops.large')), pg_total_relation_size('ops.large')"
        assert found[0] == ("ops", "large", *database.rows(measured)[0])
        assert [row[3] for row in found] == sorted((row[3] for row in found), reverse=True)
        assert {"pg_catalog", "public", "information_schema"}.isdisjoint(row[0] for row in found)
        assert ("audit", "audit_log") in {row[:2] for row in found}


def test_an_index_that_was_read_is_not_listed(database: Database) -> None:
    owner, reader = database.connect(), database.connect("reader")
    owner.execute("CREATE TABLE ops.thing (n integer PRIMARY KEY, m integer)")
    owner.execute("CREATE INDEX thing_m_idx ON ops.thing (m)")
    query = "SELECT indexname, is_unique, idx_scan FROM ops.unused_indexes WHERE tablename = 'thing'"
    assert set(rows(reader, query)) == {("thing_pkey", True, 0), ("thing_m_idx", False, 0)}
    owner.execute("SET enable_seqscan = off")
    owner.execute("SELECT FROM ops.thing WHERE m = 1")
    owner.execute("SELECT pg_stat_force_next_flush()")
    assert rows(reader, query) == [("thing_pkey", True, 0)]


def test_connections_are_counted_by_database(database: Database) -> None:
    reader = database.connect("reader")
    query = "SELECT count FROM ops.connections WHERE datname = current_database()"
    before = value(reader, query)
    database.connect("worker")
    assert value(reader, query) == before + 1


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("role", ["worker", "relay", "producer"])
def test_the_views_are_for_who_cares_for_the_database(shared: Database, role: str, view: str) -> None:
    with acting(shared, role) as connection, pytest.raises(Denied):
        rows(connection, LOOK.format(named(view)))
