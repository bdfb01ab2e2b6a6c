"""Retention runs: what a policy speaks of goes, but for what a hold keeps, and each run is noted."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from db.connection import Connection
from db.schema import WANTED_REVISION
from tests.support.database import Database
from tests.support.factory import Factory, Row
from tests.support.retention_runs import let_go, let_months_go
from tests.support.statements import changed, rows
from tests.support.tenants import acting, ids

SESSIONS, EVENTS, RESULTS = "governance.agent_sessions", "governance.governance_events", "governance.validation_results"
INTERACTIONS, POLICIES = "governance.agent_interactions", "ops.retention_policies"
PAGE = "SELECT ops.retention_page(NULL, 1)"
RUNS = "SELECT rows_deleted, rows_held, partitions_dropped FROM ops.retention_runs WHERE policy_name = %s ORDER BY id"
MONTHS = """
SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = %s::regclass AND c.relname LIKE '%%\\_2020\\_%%' ORDER BY 1
"""
OLD = "2020-02-03 00:00+00"


@pytest.fixture
def system(shared: Database) -> Iterator[Connection]:
    """A transaction of the role that works across tenants."""
    with acting(shared, "system") as connection:
        yield connection


@pytest.fixture
def alone(database: Database) -> Factory:
    """The maker of rows in a database of the test's own: months are everybody's."""
    return Factory(database.connect(), database.value("SELECT identity.default_tenant_id()"))


def policy(ours: Factory, table: str = SESSIONS, **given: Any) -> str:
    """Write a policy of our tenant's, which deletes what is a year old; return its name."""
    schema, _, relation = table.partition(".")
    values: Row = {"name": f"policy {uuid4()}", "table_schema": schema, "table_name": relation, "filter": {}}
    speaks_of = {"age_column": "created_at", "age": "1 year", "tenant_id": ours.tenant_id}
    name: str = ours.row(POLICIES, **values | speaks_of | given)["name"]
    return name


def hold(ours: Factory, table: str, **given: Any) -> None:
    """Write a hold on what our tenant has in a table."""
    policy(ours, table, is_held=True, hold_reason="a court's order", **given)


def months(database: Database, name: str = "governance-events", age: object = "1 year") -> str:
    """Have a policy of the designs take whole months of another age; return its name."""
    database.rows("UPDATE ops.retention_policies SET action = 'drop_partition', age = %s WHERE name = %s", (age, name))
    return name


def old_month(database: Database, ours: Factory) -> tuple[Row, Row]:
    """Make an event of a month that is over, with a result."""
    for table in (EVENTS, RESULTS):
        database.rows("SELECT ops.create_month(%s::regclass, %s)", (table, OLD))
    event = ours.row(EVENTS, created_at=OLD, agent_session_id=ours.row(SESSIONS)["id"])
    return event, ours.row(RESULTS, event_id=event["id"], event_created_at=event["created_at"])


# ------------------------------------------------------------------------------------------------ rows


def test_what_is_old_enough_and_meant_goes(ours: Factory, theirs: Factory, system: Connection) -> None:
    name = policy(ours, filter={"agent_type": "researcher", "session_id": None})
    gone = ours.row(SESSIONS, agent_type="researcher", created_at=OLD)["id"]
    kept = {
        ours.row(SESSIONS, agent_type="researcher")["id"],
        ours.row(SESSIONS, agent_type="writer", created_at=OLD)["id"],
        theirs.row(SESSIONS, agent_type="researcher", created_at=OLD)["id"],
    }
    assert let_go(system, name) == 1
    assert ids(system, SESSIONS) & (kept | {gone}) == kept
    assert let_go(system, name) == 0


def test_a_policy_of_a_persona_takes_that_personas_rows(ours: Factory, system: Connection) -> None:
    first, second = (ours.row("assistants.personas")["id"] for _ in "ab")
    name = policy(ours, "ops.persona_health_hourly", age_column="hour", persona_id=first)
    made = {
        persona_id: ours.row("ops.persona_health_hourly", persona_id=persona_id, hour="2020-01-01 00:00+00")["id"]
        for persona_id in (first, second)
    }
    assert let_go(system, name) == 1
    assert ids(system, "ops.persona_health_hourly") & set(made.values()) == {made[second]}


def test_what_the_designs_let_go_can_go(database: Database) -> None:
    query = "SELECT name FROM ops.retention_policies WHERE is_enabled AND action = %s ORDER BY name"
    with acting(database, "system") as system:
        deleting, dropping = ([name for (name,) in rows(system, query, each)] for each in ("delete", "drop_partition"))
        assert len(deleting) + len(dropping) == 15
        assert {let_go(system, name) for name in deleting} | {let_months_go(system, name) for name in dropping} == {0}


# ------------------------------------------------------------------------------------------------ holds


@pytest.mark.parametrize("is_enabled", [True, False])
def test_what_a_hold_speaks_of_stays(ours: Factory, system: Connection, is_enabled: bool) -> None:
    name = policy(ours)
    hold(ours, SESSIONS, filter={"agent_type": "researcher"}, is_enabled=is_enabled)
    held, gone = (ours.row(SESSIONS, agent_type=kind, created_at=OLD)["id"] for kind in ("researcher", "writer"))
    assert let_go(system, name) == 1
    assert ids(system, SESSIONS) & {held, gone} == {held}
    assert rows(system, RUNS, name) == [(1, 1, [])]


def test_what_would_take_a_held_row_along_stays(ours: Factory, system: Connection) -> None:
    name = policy(ours)
    hold(ours, INTERACTIONS)
    held, gone = (ours.row(SESSIONS, created_at=OLD)["id"] for _ in "ab")
    interaction = ours.row(INTERACTIONS, agent_session_id=held)["id"]
    assert let_go(system, name) == 1
    assert ids(system, SESSIONS) & {held, gone} == {held}
    assert interaction in ids(system, INTERACTIONS)


def test_a_user_whose_sessions_work_is_held_stays(ours: Factory, system: Connection) -> None:
    name = policy(ours, "identity.users")
    hold(ours, INTERACTIONS, filter={"interaction_type": "x"})
    held, gone = (ours.row("identity.users", created_at=OLD)["id"] for _ in "ab")
    session = ours.row(SESSIONS, user_id=held)["id"]
    columns = ours.values(INTERACTIONS, agent_session_id=session) | {"interaction_type": "x"}
    ours.insert(INTERACTIONS, columns)
    assert let_go(system, name) == 1
    assert ids(system, "identity.users") & {held, gone} == {held}


def test_a_policy_that_is_held_or_off_does_nothing(ours: Factory, system: Connection) -> None:
    ours.row(SESSIONS, created_at=OLD)
    held = policy(ours, is_held=True, hold_reason="why", filter={"agent_type": "x"})
    for name in (held, policy(ours, is_enabled=False)):
        assert let_go(system, name) == 0
        assert rows(system, RUNS, name) == []


def test_a_hold_waits_for_a_run_that_began(shared: Database, ours: Factory, system: Connection) -> None:
    let_go(system, policy(ours))
    with acting(shared, "operator") as operator:
        operator.execute("SET LOCAL lock_timeout = '50ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            operator.execute("UPDATE ops.retention_policies SET is_held = true, hold_reason = 'now' WHERE is_held")


# ------------------------------------------------------------------------------------------------ months


def test_a_month_goes_with_its_results(database: Database, alone: Factory) -> None:
    old_month(database, alone)
    new = alone.row(EVENTS, agent_session_id=alone.row(SESSIONS)["id"])["id"]
    name = months(database)
    with acting(database, "system") as system:
        assert let_months_go(system, name) == 1
        assert ids(system, EVENTS) == {new}
        assert ids(system, RESULTS) == set()
        assert rows(system, MONTHS, EVENTS) == []
        assert rows(system, "SELECT to_regclass('governance.governance_events_2020_02')") == [(None,)]
        assert rows(system, RUNS, name) == [(1, 0, ["governance_events_2020_02"])]
        assert let_months_go(system, name) == 0


@pytest.mark.parametrize("table", [EVENTS, RESULTS])
def test_a_month_with_a_row_that_is_held_stays_whole(database: Database, alone: Factory, table: str) -> None:
    event, result = old_month(database, alone)
    other = alone.row(EVENTS, created_at="2020-02-04 00:00+00", agent_session_id=event["agent_session_id"])["id"]
    database.rows("SELECT ops.create_month(%s::regclass, '2020-03-02')", (EVENTS,))
    name = months(database)
    hold(alone, table, age_column="created_at")
    with acting(database, "system") as system:
        assert let_months_go(system, name) == 0
        assert ids(system, EVENTS) == {event["id"], other}
        assert ids(system, RESULTS) == {result["id"]}
        [(_, held, dropped)] = rows(system, RUNS, name)
        assert (held, dropped) == (2 if table == EVENTS else 1, ["governance_events_2020_03"])


def test_a_month_that_is_not_over_stays(database: Database, alone: Factory) -> None:
    old_month(database, alone)
    age = database.value("SELECT now() - %s::timestamptz", ("2020-02-20 00:00+00",))
    name = months(database, age=age)
    with acting(database, "system") as system:
        assert let_months_go(system, name) == 0
        assert rows(system, MONTHS, EVENTS) == [("governance_events_2020_02",)]


@pytest.mark.parametrize("is_held", [False, True])
def test_a_month_of_the_queue_goes_unless_it_is_held(database: Database, alone: Factory, is_held: bool) -> None:
    tasks = "queue.tasks_history"
    database.rows("SELECT queue.create_month(%s::regclass, %s)", (tasks, OLD))
    enqueue = "INSERT INTO queue.outbox_tasks (task_type, payload, tenant_id) VALUES ('test.noop', '{}', %s)"
    database.rows(enqueue, (alone.tenant_id,))
    database.rows("UPDATE queue.outbox_tasks SET status = 'cancelled', hold_reason = NULL, completed_at = %s", (OLD,))
    name = months(database, "tasks")
    if is_held:
        hold(alone, tasks, age_column="completed_at")
    with acting(database, "system") as system:
        assert let_months_go(system, name) == (0 if is_held else 1)
        assert rows(system, MONTHS, tasks) == ([("tasks_history_2020_02",)] if is_held else [])


# ------------------------------------------------------------------------------------------------ notes and refusals


def test_each_run_is_noted_also_one_that_found_nothing(ours: Factory, system: Connection) -> None:
    name = policy(ours)
    ours.row(SESSIONS, created_at=OLD)
    for _ in range(2):
        let_go(system, name)
    assert rows(system, RUNS, name) == [(1, 0, []), (0, 0, [])]
    query = "SELECT id, tenant_id, action, status, schema_revision FROM ops.retention_runs WHERE policy_name = %s"
    noted: list[UUID] = []
    for run_id, tenant_id, *told in rows(system, query, name):
        assert (tenant_id, told) == (ours.tenant_id, ["delete", "completed", WANTED_REVISION])
        noted.append(run_id)
    log = "SELECT operation, actor, new_values ->> 'retention_policy' FROM audit.audit_log WHERE record_id = %s"
    assert [rows(system, log, str(run_id)) for run_id in noted] == [[("CLEANUP", "greenroom_system", name)]] * 2


@pytest.mark.parametrize("role", ["worker", "operator", "reader", "relay", "producer"])
def test_runs_are_the_systems(shared: Database, ours: Factory, role: str) -> None:
    with acting(shared, role, ours.tenant_id) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        changed(connection, PAGE)


@pytest.mark.parametrize("role", ["worker", "system", "operator", "reader"])
def test_what_a_hold_keeps_is_the_runs_to_ask(shared: Database, role: str) -> None:
    with acting(shared, role) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        rows(connection, "SELECT ops.held_condition('identity.users'::regclass)")
