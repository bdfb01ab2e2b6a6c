"""Deeds stand by months: those of before came along, nobody changes one, and a month goes as a whole."""

from collections.abc import Iterator
from datetime import UTC, datetime

import psycopg
import pytest
from psycopg import sql

from core.errors import ConstraintError
from db.connection import Connection
from db.constraints import rules
from db.drift import differences
from db.migrate import migrate
from tests.support.database import Database
from tests.support.factory import Factory
from tests.support.retention_runs import let_months_go
from tests.support.statements import changed, rows, value
from tests.support.tenants import acting, named
from tests.support.walk import LEAVES

EVENTS, OLD = "audit.audit_events", "2020-02-03 00:00+00"
# As the program of before has it.
RECORD = """
INSERT INTO audit.audit_events
    (tenant_id, event_type, event_category, description, resource_type, resource_id, metadata)
SELECT given.tenant_id, %(event_type)s, 'action', %(description)s, given.kind, given.id, %(metadata)s
FROM unnest(%(kinds)s::text[], %(ids)s::text[], %(tenants)s::uuid[]) AS given (kind, id, tenant_id)
"""
DATED = """
INSERT INTO audit.audit_events (tenant_id, event_type, event_category, description, created_at)
VALUES (identity.default_tenant_id(), %s, 'system', 'd', %s)
"""
ALL = "SELECT to_jsonb(e) FROM audit.audit_events e ORDER BY id"
BOUNDS = """
SELECT c.relname::text, substring(pg_get_expr(c.relpartbound, c.oid) FROM $$FROM \\('([^']+)'$$)::timestamptz
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'audit.audit_events'::regclass ORDER BY 1
"""
# All that is said of the table, so that down is what was before up.
DEFINITION = """
SELECT a.attnum::text, a.attname || ' ' || format_type(a.atttypid, a.atttypmod), pg_get_expr(d.adbin, d.adrelid),
    col_description(a.attrelid, a.attnum)
FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = 'audit.audit_events'::regclass AND a.attnum > 0
UNION ALL SELECT 'k', conname, pg_get_constraintdef(oid), NULL FROM pg_constraint
    WHERE conrelid = 'audit.audit_events'::regclass
UNION ALL SELECT 'i', indexrelid::regclass::text, pg_get_indexdef(indexrelid), NULL FROM pg_index
    WHERE indrelid = 'audit.audit_events'::regclass
UNION ALL SELECT 'p', polname, concat_ws(' ', polcmd::text, polpermissive, pg_get_expr(polqual, polrelid),
    pg_get_expr(polwithcheck, polrelid), array(SELECT pg_get_userbyid(r) FROM unnest(polroles) r ORDER BY 1)), NULL
    FROM pg_policy
    WHERE polrelid = 'audit.audit_events'::regclass
UNION ALL SELECT 't', tgname, pg_get_triggerdef(oid), NULL FROM pg_trigger WHERE tgfoid::regproc::text LIKE 'audit.%'
    AND tgparentid = 0
UNION ALL SELECT 'c', relkind::text, concat_ws(' ', relrowsecurity, relforcerowsecurity,
    array(SELECT g::text FROM unnest(relacl) g ORDER BY 1)), obj_description(oid, 'pg_class')
    FROM pg_class WHERE oid = 'audit.audit_events'::regclass
UNION ALL SELECT 'r', name, concat_ws(' ', table_schema, table_name, age, action, is_enabled), NULL
    FROM ops.retention_policies
ORDER BY 1, 2, 3
"""
WITHIN = """
SELECT count(*) FROM pg_index i WHERE i.indrelid = %s::regclass AND i.indisvalid
    AND EXISTS (SELECT FROM pg_inherits p WHERE p.inhrelid = i.indexrelid)
"""

ABOUT = """
SELECT c.relrowsecurity, c.relforcerowsecurity, array(SELECT polname::text FROM pg_policy WHERE polrelid = c.oid),
    array(SELECT tgname::text FROM pg_trigger WHERE tgrelid = c.oid ORDER BY 1),
    (SELECT count(*) FROM pg_description WHERE objoid = c.oid),
    array(SELECT contype::text FROM pg_constraint WHERE conrelid = c.oid ORDER BY 1),
    array(SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = c.oid ORDER BY adnum)
FROM pg_class c WHERE c.oid = %s::regclass
"""


def month(database: Database, ahead: int) -> str:
    """Return the name of a month's partition: of this one, or of so many from now."""
    name: str = database.value(
        "SELECT 'audit_events_' || to_char(now() AT TIME ZONE 'UTC' + make_interval(months => %s), 'YYYY_MM')", (ahead,)
    )
    return name


@pytest.fixture
def owner(shared: Database) -> Iterator[Connection]:
    """A transaction of the schema's owner, rolled back."""
    with acting(shared, "owner") as connection:
        yield connection


# ------------------------------------------------------------------------------------------------ what was there before


def before(database: Database) -> None:
    """Bring the database to where deeds stood in one table, in a zone whose months are others'."""
    database.rows(
        sql.SQL("ALTER DATABASE {} SET timezone = 'Pacific/Auckland'").format(sql.Identifier(database.name)).as_string()
    )
    migrate(database.owner_url, revision="0025")


def test_deeds_of_before_come_along(database: Database) -> None:
    before(database)
    next_month = database.value(
        "SELECT (date_trunc('month', now() AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC'"
    )
    for name, moment in (
        ("old", OLD),
        ("first", next_month),
        ("far", "2120-03-31 23:30+00"),
        ("now", datetime.now(UTC)),
    ):
        database.rows(DATED, (name, moment))
    kept = database.rows(ALL)

    migrate(database.owner_url)

    assert database.rows(ALL) == kept
    standing = "SELECT event_type, tableoid::regclass::text FROM audit.audit_events"
    assert dict(database.rows(standing)) == {
        "old": f"audit.{month(database, 0)}",
        "now": f"audit.{month(database, 0)}",
        "first": f"audit.{month(database, 1)}",
        "far": "audit.audit_events_2120_03",
    }
    bounds = dict(database.rows(BOUNDS))
    assert bounds[month(database, 0)] == datetime(2020, 2, 1, tzinfo=UTC)
    assert set(bounds) == {*(month(database, ahead) for ahead in range(3)), "audit_events_2120_03"}
    assert database.value("SELECT ops.create_months()") == 0


def test_the_partition_of_before_is_like_any_other(database: Database) -> None:
    before(database)
    database.rows(DATED, ("old", OLD))
    migrate(database.owner_url)
    leaves = [f"audit.{month(database, ahead)}" for ahead in range(3)]
    assert {name for (name,) in database.rows(LEAVES)} >= set(leaves)
    assert [database.value(WITHIN, (leaf,)) for leaf in leaves] == [9, 9, 9]
    assert len({str(database.rows(ABOUT, (leaf,))) for leaf in leaves}) == 1
    assert differences(database.owner_url) == []


def test_no_name_of_before_is_left(database: Database) -> None:
    fresh = database.rows(DEFINITION)
    before(database)
    database.rows(DATED, ("old", OLD))
    migrate(database.owner_url)
    assert database.rows(DEFINITION) == fresh


def test_down_is_as_it_was_with_all_deeds(database: Database) -> None:
    before(database)
    database.rows(DATED, ("old", OLD))
    was, kept = database.rows(DEFINITION), database.rows(ALL)
    migrate(database.owner_url)
    database.rows(DATED, ("new", datetime.now(UTC)))
    migrate(database.owner_url, revision="0025")
    assert database.rows(DEFINITION) == was
    assert [row for row in database.rows(ALL) if row[0]["event_type"] != "new"] == kept
    migrate(database.owner_url)
    assert {row[0]["event_type"] for row in database.rows(ALL)} == {"old", "new"}


@pytest.mark.parametrize(
    ("name", "table", "by"), [("audit-events", "sessions", "expires_at"), ("mine", "audit_events", "created_at")]
)
def test_an_operators_own_policy_stays(database: Database, name: str, table: str, by: str) -> None:
    before(database)
    schema = {"sessions": "identity", "audit_events": "audit"}[table]
    given = {"table_schema": schema, "table_name": table, "age_column": by, "age": "9 days", "filter": {}}
    alone = Factory(database.connect(), database.value("SELECT identity.default_tenant_id()"))
    database.rows("DELETE FROM ops.retention_policies WHERE table_name = %s", (table,))
    alone.row("ops.retention_policies", name=name, **given)
    policies = "SELECT name, table_name, age FROM ops.retention_policies WHERE name = %s OR table_name = %s"
    kept = database.rows(policies, (name, table))
    for revision in ("head", "0025"):
        migrate(database.owner_url, revision=revision)
        assert database.rows(policies, (name, table)) == kept


@pytest.mark.parametrize("role", ["worker", "system", "operator"])
def test_the_program_of_before_writes_deeds(shared: Database, ours: Factory, role: str) -> None:
    values = {
        "event_type": "task.cancelled",
        "description": "cancelled",
        "kinds": ["task"],
        "ids": ["7"],
        "tenants": [ours.tenant_id],
        "metadata": "{}",
    }
    with acting(shared, role, ours.tenant_id) as connection:
        connection.execute(RECORD.encode(), values)
        written = "SELECT tableoid::regclass::text, actor FROM audit.audit_events WHERE resource_id = '7'"
        assert rows(connection, written) == [(f"audit.{month(shared, 0)}", f"greenroom_{role}")]


# ------------------------------------------------------------------------------------------------ only ever added


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit.audit_events SET actor = 'nobody'",
        "DELETE FROM audit.audit_events",
        "TRUNCATE audit.audit_events",
        "UPDATE audit.{leaf} SET actor = 'nobody'",
        "DELETE FROM audit.{leaf}",
        "TRUNCATE audit.{leaf}",
    ],
)
def test_not_even_the_owner_changes_a_deed(shared: Database, ours: Factory, statement: str) -> None:
    ours.row(EVENTS)
    with pytest.raises(ConstraintError) as caught, rules():
        shared.rows(statement.format(leaf=month(shared, 0)))
    assert (caught.value.table, caught.value.constraint) == (EVENTS, "audit_events_is_append_only")


@pytest.mark.parametrize("role", ["worker", "system", "operator", "reader"])
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit.audit_events SET actor = 'nobody'",
        "DELETE FROM audit.audit_events",
        "TRUNCATE audit.audit_events",
        "INSERT INTO audit.{leaf} (event_type, event_category, description) VALUES ('a', 'action', 'd')",
        "SELECT FROM audit.{leaf}",
    ],
)
def test_no_role_changes_a_deed_or_reaches_into_a_month(
    shared: Database, ours: Factory, role: str, statement: str
) -> None:
    with acting(shared, role, ours.tenant_id) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        changed(connection, statement.format(leaf=month(shared, 0)))


def test_nothing_refers_to_a_deed_and_a_deed_to_nothing(shared: Database) -> None:
    query = """SELECT count(*) FROM pg_constraint WHERE contype = 'f'
        AND 'audit'::regnamespace IN (SELECT relnamespace FROM pg_class WHERE oid IN (conrelid, confrelid))"""
    assert shared.value(query) == 0


# ------------------------------------------------------------------------------------------------ a month goes


@pytest.mark.parametrize("table", [EVENTS, "audit.audit_log"])
@pytest.mark.parametrize("is_held", [False, True])
def test_a_policy_lets_a_month_go_unless_it_is_held(database: Database, table: str, is_held: bool) -> None:
    relation = table.removeprefix("audit.")
    column = {"audit_events": "created_at", "audit_log": "changed_at"}[relation]
    database.rows("SELECT ops.create_month(%s::regclass, %s)", (table, OLD))
    alone = Factory(database.connect(), database.value("SELECT identity.default_tenant_id()"))
    for moment in (OLD, datetime.now(UTC)):
        alone.row(table, **{column: moment, "tenant_id": alone.tenant_id})
    speaks_of = {"table_schema": "audit", "table_name": relation, "age_column": column, "age": "1 year", "filter": {}}
    database.rows("DELETE FROM ops.retention_policies WHERE table_name = %s", (relation,))
    alone.row("ops.retention_policies", name="months", action="drop_partition", **speaks_of)
    if is_held:
        of_ours = {"tenant_id": alone.tenant_id, "is_held": True, "hold_reason": "a court's order"}
        alone.row("ops.retention_policies", name="hold", **speaks_of | of_ours)
    with acting(database, "system") as system:
        assert let_months_go(system, "months") == (0 if is_held else 1)
        old = sql.SQL("SELECT count(*) FROM {} WHERE {} < '2021-01-01'").format(named(table), sql.Identifier(column))
        assert value(system, old) == (1 if is_held else 0)
        gone = "SELECT rows_deleted, rows_held, partitions_dropped FROM ops.retention_runs WHERE policy_name = 'months'"
        assert rows(system, gone) == [(0, 1, []) if is_held else (1, 0, [f"{relation}_2020_02"])]


def test_a_month_of_deeds_goes_by_detaching(owner: Connection) -> None:
    leaf = value(owner, "SELECT ops.create_month('audit.audit_events', '2020-02-01')")
    owner.execute(DATED, ("old", OLD))
    owner.execute(sql.SQL("ALTER TABLE audit.audit_events DETACH PARTITION {}").format(sql.Identifier("audit", leaf)))
    owner.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier("audit", leaf)))
    assert rows(owner, "SELECT 1 FROM audit.audit_events WHERE event_type = 'old'") == []


# ------------------------------------------------------------------------------------------------ what is no change


@pytest.mark.parametrize(
    ("table", "column"),
    [("identity.api_keys", "last_used_at"), ("identity.users", "last_used_at"), ("identity.users", "last_active_at")],
)
def test_that_something_was_used_is_not_logged(owner: Connection, ours: Factory, table: str, column: str) -> None:
    row_id = ours.row(table, name="Ada")["id"]
    log = "SELECT operation, changed_columns FROM audit.audit_log WHERE record_id = %s ORDER BY operation"
    use = sql.SQL("UPDATE {} SET {} = now() + interval '1 second'").format(named(table), sql.Identifier(column))
    changed(owner, use + sql.SQL(" WHERE id = %s"), row_id)
    assert rows(owner, log, str(row_id)) == [("INSERT", None)]
    changed(owner, use + sql.SQL(", name = 'Grace' WHERE id = %s"), row_id)
    assert rows(owner, log, str(row_id)) == [("INSERT", None), ("UPDATE", ["name"])]


def test_who_logged_in_is_logged(owner: Connection, ours: Factory) -> None:
    operator_id = ours.row("identity.operators")["id"]
    changed(
        owner,
        "UPDATE identity.operators SET last_login_at = now(), last_login_ip = '10.0.0.1' WHERE id = %s",
        operator_id,
    )
    log = "SELECT changed_columns FROM audit.audit_log WHERE record_id = %s AND operation = 'UPDATE'"
    assert rows(owner, log, str(operator_id)) == [(["last_login_at", "last_login_ip"],)]
