"""Retention: policies speak of what there is, are their tenants' or the operator's, and leave runs behind."""

from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from core.errors import ConstraintError
from db.constraints import rules
from tests.support.database import Database
from tests.support.factory import Factory, Row
from tests.support.statements import changed, column, rows
from tests.support.tenants import acting, ids, let_go

POLICIES, RUNS = "ops.retention_policies", "ops.retention_runs"
REFUSED: dict[str, tuple[Row, str]] = {
    "no such table": ({"table_name": "agent_session"}, "table_name"),
    "a view": ({"table_name": "active_agent_sessions", "age_column": "created_at"}, "table_name"),
    "the server's own table": ({"table_schema": "pg_catalog", "table_name": "pg_class"}, "table_name"),
    "a product's table": ({"table_schema": "public", "table_name": "alembic_version"}, "table_name"),
    "no such column": ({"age_column": "finished_at"}, "age_column"),
    "a column that is no time": ({"age_column": "status"}, "age_column"),
    "a system column": ({"age_column": "xmin"}, "age_column"),
    "a filter by no column": ({"filter": {"stat": "failed"}}, "filter"),
    "a filter by many values": ({"filter": {"status": ["failed", "cancelled"]}}, "filter"),
    "a filter by an object": ({"filter": {"status": {"not": "failed"}}}, "filter"),
    "SQL in a filter": ({"filter": {"status = status OR status": "x"}}, "filter"),
    "months of what is not parted": ({"action": "drop_partition"}, "action"),
    "tasks that wait": (
        {"table_schema": "queue", "table_name": "tasks_live", "age_column": "created_at"},
        "table_name",
    ),
    "tasks that come": (
        {"table_schema": "queue", "table_name": "outbox_tasks", "age_column": "created_at"},
        "table_name",
    ),
    "tenants": ({"table_schema": "identity", "table_name": "tenants", "age_column": "created_at"}, "table_name"),
    "operators": ({"table_schema": "identity", "table_name": "operators", "age_column": "created_at"}, "table_name"),
    "policies": ({"table_schema": "ops", "table_name": "retention_policies", "age_column": "created_at"}, "table_name"),
    "runs of policies": (
        {"table_schema": "ops", "table_name": "retention_runs", "age_column": "created_at"},
        "table_name",
    ),
    "rows of the audit": ({"table_schema": "audit", "table_name": "audit_log", "age_column": "changed_at"}, "action"),
    "deeds": (
        {"table_schema": "audit", "table_name": "audit_events", "age_column": "created_at", "filter": {"actor": "x"}},
        "action",
    ),
    "decisions": (
        {"table_name": "governance_events", "age_column": "created_at", "filter": {"approved": True}},
        "action",
    ),
    "what was found": ({"table_name": "validation_results", "age_column": "created_at"}, "action"),
    "more than a thousand years": ({"age": "1000 years 1 day"}, "age"),
    "months by another column": (
        {"table_name": "validation_results", "age_column": "created_at", "action": "drop_partition"},
        "action",
    ),
}
Denied = psycopg.errors.InsufficientPrivilege


def policy(**given: Any) -> Row:
    """Return a policy's columns."""
    speaks_of = {"table_schema": "governance", "table_name": "agent_sessions", "age_column": "completed_at"}
    return {"name": f"policy {uuid4()}", "age": "1 year", "filter": {}, **speaks_of} | given


# ------------------------------------------------------------------------------------------------ what policies say


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"filter": {"status": "failed", "session_id": None}, "action": "archive"},
        {
            "table_name": "governance_events",
            "age_column": "created_at",
            "filter": {"approved": False},
            "action": "archive",
            "is_enabled": False,
        },
        {
            "table_schema": "queue",
            "table_name": "attempts",
            "age_column": "ended_at",
            "age": "1 day",
            "filter": {"number": 1},
        },
        {"age": "1000 years"},
        {"table_name": "validation_results", "age_column": "event_created_at", "action": "drop_partition"},
    ],
    ids=["plain", "filter", "parted", "the queue's history", "a thousand years", "months"],
)
def test_a_policy_speaks_of_what_there_is(shared: Database, ours: Factory, given: Row) -> None:
    with acting(shared, "operator") as operator:
        row = Factory(operator, ours.tenant_id).insert(POLICIES, policy(**given))
        assert row["id"] in ids(operator, POLICIES)


@pytest.mark.parametrize("reason", REFUSED)
def test_a_policy_that_speaks_of_nothing_is_refused(shared: Database, ours: Factory, reason: str) -> None:
    given, broken = REFUSED[reason]
    with acting(shared, "operator") as operator, pytest.raises(ConstraintError) as caught, rules():
        Factory(operator, ours.tenant_id).insert(POLICIES, policy(**given))
    assert (caught.value.table, caught.value.constraint) == (POLICIES, f"retention_policies_{broken}_check")


@pytest.mark.parametrize(("table", "broken"), [("ops.backups", "tenant_id"), ("identity.users", "persona_id")])
def test_a_policy_of_a_persona_needs_a_table_of_tenants_and_personas(
    shared: Database, ours: Factory, table: str, broken: str
) -> None:
    whose = {"tenant_id": ours.tenant_id, "persona_id": ours.row("assistants.personas")["id"]}
    schema, _, relation = table.partition(".")
    values = policy(table_schema=schema, table_name=relation, age_column="created_at", **whose)
    with acting(shared, "operator", ours.tenant_id) as operator, pytest.raises(ConstraintError) as caught, rules():
        Factory(operator, ours.tenant_id).insert(POLICIES, values)
    assert caught.value.constraint == f"retention_policies_{broken}_check"


def test_a_policy_speaks_of_a_table_and_not_of_its_month(shared: Database, ours: Factory) -> None:
    leaf = shared.value(
        "SELECT min(inhrelid::regclass::text) FROM pg_inherits WHERE inhparent = 'assistants.messages'::regclass"
    )
    values = policy(table_schema="assistants", table_name=leaf.partition(".")[2], age_column="created_at")
    with acting(shared, "operator") as operator, pytest.raises(ConstraintError, match="table_name_check"), rules():
        Factory(operator, ours.tenant_id).insert(POLICIES, values)


@pytest.mark.parametrize("table", ["identity.tenants", "queue.outbox_tasks", "governance.governance_events"])
def test_a_hold_speaks_of_what_no_policy_lets_go(shared: Database, ours: Factory, table: str) -> None:
    schema, _, relation = table.partition(".")
    key = "id" if relation == "tenants" else "tenant_id"
    held = {"is_held": True, "hold_reason": "a court's order", "filter": {key: str(ours.tenant_id)}}
    values = policy(table_schema=schema, table_name=relation, age_column="created_at", **held)
    free = "UPDATE ops.retention_policies SET is_held = false, hold_reason = NULL WHERE id = %s"
    with acting(shared, "operator") as operator:
        row_id = Factory(operator, ours.tenant_id).insert(POLICIES, values)["id"]
        with pytest.raises(ConstraintError, match="retention_policies_"), rules(), operator.transaction():
            changed(operator, free, row_id)
        assert changed(operator, "DELETE FROM ops.retention_policies WHERE id = %s", row_id) == 1


def test_a_policy_of_a_persona_stands_where_rows_have_one(shared: Database, ours: Factory) -> None:
    whose = {"tenant_id": ours.tenant_id, "persona_id": ours.row("assistants.personas")["id"]}
    values = policy(table_schema="ops", table_name="persona_health_hourly", age_column="hour", **whose)
    with acting(shared, "operator", ours.tenant_id) as operator:
        assert Factory(operator, ours.tenant_id).insert(POLICIES, values)["persona_id"] == whose["persona_id"]


def test_a_policy_is_looked_at_when_it_changes_too(shared: Database, ours: Factory) -> None:
    row_id = ours.row(POLICIES, **policy(tenant_id=ours.tenant_id))["id"]
    update = "UPDATE ops.retention_policies SET age_column = %s WHERE id = %s"
    with acting(shared, "operator", ours.tenant_id) as operator:
        assert changed(operator, update, "created_at", row_id) == 1
        with pytest.raises(ConstraintError, match="age_column"), rules():
            changed(operator, update, "status", row_id)


# ------------------------------------------------------------------------------------------------ whose they are


def of_each(shared: Database, table: str, ours: Factory, theirs: Factory) -> dict[UUID | None, UUID]:
    """Write a row of each of two tenants, and one of none; return the rows' keys by tenant."""
    keys: dict[UUID | None, UUID] = {}
    for tenant_id in (ours.tenant_id, theirs.tenant_id, None):
        values = policy(filter={"status": "completed", "agent_type": str(uuid4())}) if table == POLICIES else {}
        keys[tenant_id] = ours.row(table, **values, tenant_id=tenant_id)["id"]
    return keys


@pytest.mark.parametrize("table", [POLICIES, RUNS])
def test_retention_is_seen_by_who_is_bound_to_its_tenant(
    shared: Database, ours: Factory, theirs: Factory, table: str
) -> None:
    keys = of_each(shared, table, ours, theirs)
    for role in ("operator", "reader"):
        for tenant_id in (ours.tenant_id, theirs.tenant_id):
            with acting(shared, role, tenant_id) as connection:
                assert ids(connection, table) == {keys[tenant_id]}
    for role in ("system", "operator"):
        with acting(shared, role) as connection:
            assert ids(connection, table) >= set(keys.values())
    with acting(shared, "reader") as reader:
        assert ids(reader, table) == set()
    for role in ("worker", "relay", "producer"):
        with acting(shared, role, ours.tenant_id) as connection, pytest.raises(Denied):
            ids(connection, table)


def test_an_operator_bound_to_a_tenant_writes_its_policies_alone(
    shared: Database, ours: Factory, theirs: Factory
) -> None:
    keys = of_each(shared, POLICIES, ours, theirs)
    with acting(shared, "operator", ours.tenant_id) as operator:
        own = Factory(operator, ours.tenant_id)
        made = own.insert(POLICIES, policy(tenant_id=ours.tenant_id))["id"]
        update = "UPDATE ops.retention_policies SET age = '2 years' RETURNING id"
        assert column(operator, update) == {keys[ours.tenant_id], made}
        assert changed(operator, "DELETE FROM ops.retention_policies") == 2
        for tenant_id in (theirs.tenant_id, None):
            with pytest.raises(Denied, match="row-level security"), operator.transaction():
                own.insert(POLICIES, policy(tenant_id=tenant_id))


@pytest.mark.parametrize("role", ["worker", "system", "reader", "relay", "producer"])
@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO ops.retention_policies (name) VALUES ('mine')",
        "UPDATE ops.retention_policies SET is_held = false",
        "DELETE FROM ops.retention_policies",
    ],
)
def test_policies_are_the_operators_to_write(shared: Database, ours: Factory, role: str, statement: str) -> None:
    with acting(shared, role, ours.tenant_id) as connection, pytest.raises(Denied):
        changed(connection, statement)


def test_runs_are_the_systems_to_write(shared: Database, ours: Factory) -> None:
    update = "UPDATE ops.retention_runs SET rows_deleted = 1 WHERE tenant_id = %s"
    with acting(shared, "system") as system:
        Factory(system, ours.tenant_id).row(RUNS, tenant_id=ours.tenant_id)
        assert changed(system, update, ours.tenant_id) == 1
    for role in ("worker", "operator", "reader", "relay", "producer"):
        with acting(shared, role, ours.tenant_id) as connection, pytest.raises(Denied):
            changed(connection, update, ours.tenant_id)


@pytest.mark.parametrize("role", ["worker", "system", "operator", "reader"])
def test_runs_are_nobodys_to_delete(shared: Database, ours: Factory, role: str) -> None:
    with acting(shared, role, ours.tenant_id) as connection, pytest.raises(Denied):
        changed(connection, "DELETE FROM ops.retention_runs")


def test_a_run_outlives_its_policy_and_its_tenant(shared: Database, ours: Factory) -> None:
    policy_id = ours.row(POLICIES, **policy(tenant_id=ours.tenant_id))["id"]
    run = ours.row(RUNS, policy_id=policy_id, policy_name="ours", tenant_id=ours.tenant_id)
    let_go(ours.owner, ours.tenant_id)
    query = "SELECT policy_id, policy_name, tenant_id FROM ops.retention_runs WHERE id = %s"
    with acting(shared, "system") as system:
        assert policy_id not in ids(system, POLICIES)
        assert rows(system, query, run["id"]) == [(None, "ours", ours.tenant_id)]
