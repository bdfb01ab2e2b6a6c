"""Months are made by `partitions.maintain`; those that policies take go one at a time, each step whole by itself."""

from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from types import ModuleType
from typing import Any, cast
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql

from db import months, retention_runs
from db.connection import Connection
from pipelines.enqueue import enqueue
from pipelines.registry import Registry
from pipelines.retention import enforce
from pipelines.retention.enforce import TASKS, EnforceRetention
from pipelines.retention.partitions import TASKS as MAINTAIN
from pipelines.retention.partitions import MaintainPartitions
from pipelines.retention.runs import Pacer
from tests.support.database import Database
from tests.support.engine import Line
from tests.support.factory import Factory
from tests.support.months import (
    EVENTS,
    HISTORY,
    LAST,
    MISSING,
    OLD,
    PAST,
    RESULTS,
    hold,
    old_events,
    old_tasks,
    reading,
)
from tests.support.statements import value
from tests.support.tenants import acting, named
from workers.testing import TaskRun, run_task

[TASK] = TASKS
RUNS = """
SELECT policy_name, status, rows_deleted, rows_held, partitions_dropped FROM ops.retention_runs
WHERE rows_deleted > 0 OR rows_held > 0 OR partitions_dropped <> '{}' OR status <> 'completed' ORDER BY id
"""
CHANGE = """
UPDATE ops.retention_policies SET is_enabled = %(column)s <> 'is_enabled', is_held = %(column)s = 'is_held',
    hold_reason = CASE WHEN %(column)s = 'is_held' THEN 'why' END,
    age = CASE WHEN %(column)s = 'age' THEN interval '20 years' ELSE age END
WHERE name = 'tasks'
"""
MONTH = f"{HISTORY}_2020_02"
CLOSE = "SELECT ops.close_month(%s::regclass, %s::regclass)"
WRITE = sql.SQL("LOCK TABLE {} IN ROW EXCLUSIVE MODE").format(named(MONTH))
COUNT = sql.SQL("SELECT count(*) FROM {}")


@pytest.fixture
def line(database: Database) -> Iterator[Line]:
    """The engine by hand, for `retention.enforce` alone."""
    line = Line(database, Registry(TASKS))
    yield line
    line.close()


@pytest.fixture
def alone(database: Database) -> Factory:
    """The maker of rows in a database of the test's own: months are everybody's."""
    return Factory(database.connect(), database.value("SELECT identity.default_tenant_id()"))


def enforced(database: Database) -> TaskRun:
    """Run the handler of `retention.enforce` once; no policy asks."""
    database.rows("UPDATE ops.retention_policies SET most_share = 1")
    return run_task(database, TASK, EnforceRetention())


def dropped(run: TaskRun) -> list[str]:
    """Return the months that a task let go."""
    return [leaf for end in run.result["runs"] for leaf in end.get("partitions_dropped", [])]


def begun(database: Database, policy: str) -> UUID:
    """Begin a policy's run for a task that does not live."""
    run_id, state = retention_runs.begin(database.connect("system"), policy, uuid4(), is_confirmed=False)
    assert (state, run_id is None) == ("running", False)
    return cast("UUID", run_id)


# ------------------------------------------------------------------------------------------------ months that go


def test_the_task_makes_the_months_too(database: Database) -> None:
    database.rows(f"DROP TABLE {database.value(LAST, (HISTORY,))}")
    [maintain] = MAINTAIN
    assert run_task(database, maintain, MaintainPartitions()).outcome == "done"
    assert database.rows(MISSING) == []


def test_months_that_policies_take_go(database: Database, alone: Factory) -> None:
    old_tasks(database, 3)
    old_tasks(database, 2, "2020-03-03 00:00+00")
    old_events(database, alone)
    database.rows("SELECT queue.create_month('queue.attempts', %s)", (OLD,))
    run = enforced(database)
    assert run.outcome == "done"
    assert dropped(run) == [
        "attempts_2020_02", "governance_events_2020_02", "tasks_history_2020_02", "tasks_history_2020_03",
    ]  # fmt: skip
    assert database.rows(PAST) == [(f"{RESULTS}_2020_02",)], "results have no policy of their own"
    assert database.rows(RUNS) == [
        ("attempts", "completed", 0, 0, ["attempts_2020_02"]),
        ("governance-events", "completed", 1, 0, ["governance_events_2020_02"]),
        ("tasks", "completed", 5, 0, ["tasks_history_2020_02", "tasks_history_2020_03"]),
    ]
    assert database.rows("SELECT 1 FROM governance.validation_results") == []


def test_rows_that_others_refer_to_go_page_by_page(
    database: Database, alone: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enforce, "Pacer", partial(Pacer, most=2))
    old_events(database, alone, 5)
    assert dropped(enforced(database)) == ["governance_events_2020_02"]
    assert database.rows(RUNS) == [("governance-events", "completed", 5, 0, ["governance_events_2020_02"])]


@pytest.mark.parametrize("table", [HISTORY, EVENTS, RESULTS])
def test_a_month_with_a_row_that_a_hold_keeps_stays_whole(database: Database, alone: Factory, table: str) -> None:
    old_tasks(database, 3)
    old_events(database, alone, 2)
    keys = {HISTORY: "completed_at", EVENTS: "created_at", RESULTS: "created_at"}
    hold(database, table, keys[table])
    kept = f"{HISTORY}_2020_02" if table == HISTORY else f"{EVENTS}_2020_02"
    count = 3 if table == HISTORY else 2
    assert [end["rows_held"] for end in enforced(database).result["runs"] if "rows_held" in end] == [count]
    assert (kept,) in database.rows(PAST)
    assert len(database.rows(PAST)) == 2, "the other month went"
    assert value(database.connect(), COUNT.format(named(kept))) == count


@pytest.mark.parametrize("is_held", [True, False])
def test_who_decides_of_a_month_that_a_hold_speaks_of_lets_nobody_write_to_it_meanwhile(
    database: Database, is_held: bool
) -> None:
    """A row that came between the count and the drop would go along, held as it is; without a hold nobody waits."""
    old_tasks(database)
    if is_held:
        hold(database, HISTORY, "completed_at")
    owner, writer = database.connect(), database.connect()
    writer.execute("SET lock_timeout = '50ms'")
    with owner.transaction():
        assert value(owner, CLOSE, HISTORY, MONTH)
        with pytest.raises(psycopg.errors.LockNotAvailable) if is_held else nullcontext(), writer.transaction():
            writer.execute(WRITE)


def test_a_month_that_a_hold_speaks_of_and_somebody_writes_to_is_left_for_later(database: Database) -> None:
    old_tasks(database)
    hold(database, HISTORY, "completed_at")
    writer = database.connect()
    with writer.transaction():
        writer.execute(WRITE)
        assert (enforced(database).outcome, database.rows(RUNS)) == ("snooze", [("tasks", "running", 0, 0, [])])
    assert len(database.rows(PAST)) == 1


def test_a_month_of_the_log_of_changes_goes_without_a_change_of_its_rows(database: Database) -> None:
    database.rows("SELECT ops.create_month('audit.audit_log', %s)", (OLD,))
    database.rows(
        "INSERT INTO audit.audit_log (table_schema, table_name, record_id, operation, changed_at) "
        "VALUES ('a', 'b', 'c', 'INSERT', %s)",
        (OLD,),
    )
    database.rows(
        "INSERT INTO ops.retention_policies (name, table_schema, table_name, age_column, age, action) "
        "VALUES ('log', 'audit', 'audit_log', 'changed_at', '1 year', 'drop_partition')"
    )
    assert dropped(enforced(database)) == ["audit_log_2020_02"]
    assert database.rows(RUNS) == [("log", "completed", 1, 0, ["audit_log_2020_02"])]


def test_a_month_goes_beside_whoever_reads_what_it_refers_to(database: Database) -> None:
    database.rows("SELECT ops.create_month('tools.tool_executions', %s)", (OLD,))
    database.rows(
        "UPDATE ops.retention_policies SET age_column = 'started_at', action = 'drop_partition', is_enabled = true "
        "WHERE name = 'tool-executions'"
    )
    with reading(database, "SELECT count(*) FROM identity.tenants"):
        assert dropped(enforced(database)) == ["tool_executions_2020_02"]


def test_a_month_that_is_in_use_is_left_for_later(database: Database) -> None:
    old_tasks(database)
    with reading(database):
        run = enforced(database)
        assert (run.outcome, run.status) == ("snooze", "pending")
        assert database.rows(RUNS) == [("tasks", "running", 0, 0, [])]
    [(error,)] = database.rows("SELECT error FROM queue.attempts")
    assert error == f"in use: {HISTORY}_2020_02"


@pytest.mark.parametrize("column", ["is_enabled", "is_held", "age"])
def test_a_policy_that_changes_while_it_runs_is_obeyed(database: Database, column: str) -> None:
    old_tasks(database)
    system = database.connect("system")
    run_id = begun(database, "tasks")
    assert months.to_go(system, run_id) == [f"{HISTORY}_2020_02"]
    database.rows(CHANGE, {"column": column})
    assert months.to_go(system, run_id) == []
    assert months.drop(system, run_id, f"{HISTORY}_2020_02") == ("kept", 0)
    assert database.rows(PAST) == [(f"{HISTORY}_2020_02",)]


def test_a_month_with_rows_that_others_refer_to_is_cleared_first(database: Database, alone: Factory) -> None:
    old_events(database, alone)
    system = database.connect("system")
    run_id = begun(database, "governance-events")
    assert months.drop(system, run_id, f"{EVENTS}_2020_02") == ("filled", 0)
    assert [months.clear(system, run_id, f"{EVENTS}_2020_02", 10) for _ in "ab"] == [1, 0]
    assert months.drop(system, run_id, f"{EVENTS}_2020_02") == ("dropped", 0)


THINGS = """
CREATE TABLE ops.things (id int, at timestamptz, filling char(700), PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
SELECT ops.create_month('ops.things', '2020-02-01');
ALTER TABLE ops.things_2020_02 SET (fillfactor = 10);
CREATE TABLE ops.parts (id int, at timestamptz, FOREIGN KEY (id, at) REFERENCES ops.things);
INSERT INTO ops.things SELECT n, '2020-02-02', '' FROM generate_series(1, 9000) AS n;
INSERT INTO ops.retention_policies (name, table_schema, table_name, age_column, age, action)
VALUES ('things', 'ops', 'things', 'at', '1 year', 'drop_partition')
"""


def test_a_large_month_that_others_refer_to_goes_when_its_rows_are_vacuumed(database: Database) -> None:
    for statement in THINGS.split(";"):
        database.rows(statement)
    system, leaf = database.connect("system"), "ops.things_2020_02"
    run_id = begun(database, "things")
    assert months.clear(system, run_id, leaf, 10_000) == 9_000
    assert months.drop(system, run_id, leaf) == ("busy", 0)
    database.rows(f"VACUUM {leaf}")
    assert months.drop(system, run_id, leaf) == ("dropped", 0)


def test_whoever_writes_policies_is_waited_for_and_no_longer(database: Database, alone: Factory) -> None:
    old_events(database, alone)
    for name in ("clear_month(uuid, text, integer)", "drop_month(uuid, text)"):
        database.rows(f"ALTER FUNCTION ops.{name} SET lock_timeout = '20ms'")
    system, operator = database.connect("system"), database.connect("operator")
    run_id = begun(database, "governance-events")
    with operator.transaction():
        operator.execute("UPDATE ops.retention_policies SET description = 'x'")
        assert retention_runs.begin(system, "governance-events", uuid4(), is_confirmed=False) == (None, "busy")
        assert months.clear(system, run_id, f"{EVENTS}_2020_02", 10) == 0
        assert months.drop(system, run_id, f"{EVENTS}_2020_02") == ("busy", 0)
    assert months.clear(system, run_id, f"{EVENTS}_2020_02", 10) == 1


def test_an_operators_detach_that_broke_off_is_the_operators(database: Database) -> None:
    old_tasks(database)
    old_tasks(database, 1, "2020-03-03 00:00+00")
    owner = database.connect()
    with reading(database):
        owner.execute("SET lock_timeout = '50ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            owner.execute(f"ALTER TABLE {HISTORY} DETACH PARTITION {HISTORY}_2020_02 CONCURRENTLY".encode())
    assert dropped(enforced(database)) == ["tasks_history_2020_03"]
    owner.execute(f"ALTER TABLE {HISTORY} DETACH PARTITION {HISTORY}_2020_02 FINALIZE".encode())
    assert value(owner, COUNT.format(named(f"{HISTORY}_2020_02"))) == 3


# ------------------------------------------------------------------------------------------------ broken off


def again(line: Line) -> None:
    """Run what waits for a retry or ends a snooze."""
    line.database.rows("UPDATE queue.tasks_live SET run_after = now(), is_due = true WHERE status = 'pending'")
    line.run_once()


@pytest.mark.parametrize(("of", "step"), [
    (retention_runs, "begin"), (retention_runs, "weigh"), (months, "clear"), (months, "drop"), (retention_runs, "end"),
])  # fmt: skip
def test_what_is_killed_after_any_step_is_gone_on_with(
    database: Database, line: Line, alone: Factory, monkeypatch: pytest.MonkeyPatch, of: ModuleType, step: str
) -> None:
    monkeypatch.setattr(enforce, "Pacer", partial(Pacer, most=2))
    database.rows("UPDATE ops.retention_policies SET most_share = 1")
    old_tasks(database)
    old_events(database, alone, 5)
    done = getattr(of, step)

    def killed(connection: Connection, *given: Any, **options: Any) -> None:
        done(connection, *given, **options)
        monkeypatch.setattr(of, step, done)
        connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    monkeypatch.setattr(of, step, killed)
    task_id = enqueue(database.connect(), EnforceRetention())
    line.run_once()
    assert line.task(task_id)["status"] == "pending"
    again(line)
    assert line.task(task_id)["status"] == "done"
    assert database.rows(PAST) == [(f"{RESULTS}_2020_02",)]
    assert sorted(database.rows(RUNS)) == [
        ("governance-events", "completed", 5, 0, ["governance_events_2020_02"]),
        ("tasks", "completed", 3, 0, ["tasks_history_2020_02"]),
    ]


def test_a_run_whose_task_is_gone_is_taken_up_by_another(database: Database) -> None:
    old_tasks(database)
    run_id = begun(database, "tasks")
    assert dropped(enforced(database)) == ["tasks_history_2020_02"]
    assert database.rows("SELECT id FROM ops.retention_runs WHERE policy_name = 'tasks'") == [(run_id,)]


def test_a_task_leaves_to_another_what_that_is_at(database: Database, line: Line) -> None:
    old_tasks(database)
    other = enqueue(database.connect(), EnforceRetention(cadence="hourly"))
    retention_runs.begin(database.connect("system"), "tasks", other, is_confirmed=False)
    assert dropped(enforced(database)) == []
    assert database.rows(PAST) == [(f"{HISTORY}_2020_02",)]


# ------------------------------------------------------------------------------------------------ who may


STEPS = (
    "SELECT ops.clear_month(NULL, NULL)",
    "SELECT ops.drop_month(NULL, NULL)",
)
INNER = (
    "SELECT ops.cut_month('queue.tasks_history', 'queue.tasks_history', false)",
    "SELECT ops.count_month('queue.tasks_history', 'completed_at', now(), now())",
    "SELECT ops.create_month('queue.tasks_history', now())",
)


@pytest.mark.parametrize("role", ["relay", "worker", "producer", "operator", "reader"])
@pytest.mark.parametrize("statement", STEPS)
def test_months_are_the_systems_to_let_go(shared: Database, role: str, statement: str) -> None:
    with acting(shared, role) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        value(connection, statement)


@pytest.mark.parametrize("role", ["worker", "producer", "operator", "reader"])
def test_months_are_the_relays_and_the_systems_to_make(shared: Database, role: str) -> None:
    with acting(shared, role) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        value(connection, "SELECT ops.make_month('queue.attempts', now())")


@pytest.mark.parametrize("role", ["relay", "system", "worker", "operator", "reader", "producer"])
@pytest.mark.parametrize("statement", INNER)
def test_what_asks_for_no_policy_is_nobodys(shared: Database, role: str, statement: str) -> None:
    with acting(shared, role) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        value(connection, statement)
