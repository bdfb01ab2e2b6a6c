"""`retention.enforce`: run by run, page by page, whatever is killed, held, switched off or in use meanwhile."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

import pytest

from core import events
from db import retention_runs
from db.connection import Connection
from pipelines.enqueue import enqueue
from pipelines.registry import Registry
from pipelines.retention import enforce
from pipelines.retention.enforce import EnforceRetention
from pipelines.retention.runs import Pacer
from tests.support.database import Database
from tests.support.engine import Line, publish
from tests.support.factory import Factory
from tests.support.months import hold as hold_all
from tests.support.months import reading
from tests.support.retention_runs import ENFORCE, OLD, OLDER, add, came_to, enforced, hold, pages_of
from tests.support.tenants import ids

SESSIONS, AGENTS = "identity.sessions", "governance.agent_sessions"
LATER = "UPDATE ops.retention_runs SET started_at = now() - interval '8 days' WHERE status = 'asking'"
CHANGED = "UPDATE ops.retention_policies SET description = 'x' WHERE name = %s"
ENDED = "SELECT status, last_error FROM queue.tasks_history WHERE task_type = 'retention.enforce' ORDER BY completed_at"


@pytest.fixture
def ours(database: Database) -> Factory:
    """The maker of the default tenant's rows, in a database where no other policy is on."""
    database.rows("DELETE FROM ops.retention_policies WHERE name NOT IN ('attempts', 'health-metrics')")
    database.rows("UPDATE ops.retention_policies SET is_enabled = false, most_share = 1")
    publish(database, Registry([ENFORCE]))
    return Factory(database.connect(), database.value("SELECT identity.default_tenant_id()"))


@pytest.fixture
def line(database: Database) -> Iterator[Line]:
    """The engine by hand, for `retention.enforce` alone."""
    line = Line(database, Registry([ENFORCE]))
    yield line
    line.close()


def of_agents(database: Database, **given: Any) -> str:
    """Write a policy that takes agents' sessions a year after they were completed; return its name."""
    return add(database, AGENTS, "completed_at", filter={"status": "completed"}, **given)


def agents(ours: Factory, count: int, moment: str = OLD, **given: Any) -> list[UUID]:
    """Write agents' sessions of a moment, with an interaction each; return their keys."""
    at = {"created_at": moment, "status": "completed", "completed_at": moment}
    found = [ours.row(AGENTS, **at, **given)["id"] for _ in range(count)]
    for key in found:
        ours.row("governance.agent_interactions", agent_session_id=key)
    return found


def left(database: Database) -> int:
    """Return how many of agents' sessions are old."""
    return int(database.value("SELECT count(*) FROM governance.agent_sessions WHERE created_at < '2021-01-01'"))


class OnePage(Pacer):
    """Has the time for one page of two rows."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection, most=2, rest=lambda seconds: None)
        self._is_over = False

    @property
    def is_over(self) -> bool:
        return self._is_over

    @contextmanager
    def page(self, *, keeps_on: bool = False) -> Iterator[int]:
        with super().page(keeps_on=keeps_on) as most:
            yield most
        self._is_over = True


def again(line: Line) -> None:
    """Run what waits for a retry or ends a snooze."""
    line.database.rows("UPDATE queue.tasks_live SET run_after = now(), is_due = true WHERE status = 'pending'")
    line.run_once()


# ------------------------------------------------------------------------------------------------ pages


@pytest.mark.parametrize("has_index", [True, False])
def test_what_is_taken_goes_page_by_page_by_age_or_block_by_block(
    database: Database, ours: Factory, monkeypatch: pytest.MonkeyPatch, has_index: bool
) -> None:
    monkeypatch.setattr(enforce, "Pacer", pages_of(2))
    if not has_index:
        database.rows("DROP INDEX governance.agent_sessions_completed_at_idx")
    policy = of_agents(database)
    kept = agents(ours, 1, moment="now")
    for moment in (OLD, OLDER, OLD):
        agents(ours, 2, moment)
        kept += agents(ours, 1, moment, agent_type="held")
    hold(database, AGENTS, filter={"agent_type": "held"})
    assert enforced(database).outcome == "done"
    assert came_to(database, policy) == [("completed", 6, 3)]
    assert ids(database.connect(), AGENTS) == set(kept)
    [(mode,)] = database.rows("SELECT resume_after ->> 0 FROM ops.retention_runs")
    assert mode == ("age" if has_index else "block")
    [(along,)] = database.rows("SELECT dependents FROM ops.retention_runs")
    assert along == {"governance.agent_interactions": {"rows": 6}}


def test_rows_that_somebody_holds_are_left_for_the_next_run(database: Database, ours: Factory) -> None:
    policy, [locked, _] = of_agents(database), agents(ours, 2)
    connection = database.connect()
    with connection.transaction():
        connection.execute("SELECT FROM governance.agent_sessions WHERE id = %s FOR UPDATE", (locked,))
        enforced(database)
    assert ids(database.connect(), AGENTS) == {locked}
    enforced(database)
    assert came_to(database, policy) == [("completed", 1, 0), ("completed", 1, 0)]


def test_what_goes_is_noted_by_its_key_alone(database: Database, ours: Factory) -> None:
    add(database, "identity.users", filter={"status": "inactive"})
    ours.row("identity.users", created_at=OLD, status="inactive")
    database.rows("DELETE FROM audit.audit_log WHERE false")
    enforced(database)
    noted = "SELECT old_values FROM audit.audit_log WHERE operation = 'DELETE' AND table_name = 'users'"
    assert database.rows(noted) == [(None,)]


def test_a_cadence_runs_its_own_policies(database: Database, ours: Factory) -> None:
    hourly, daily = add(database, SESSIONS, cadence="hourly"), of_agents(database)
    enforced(database, cadence="hourly")
    assert (len(came_to(database, hourly)), came_to(database, daily)) == (1, [])


def test_what_has_much_to_go_keeps_no_other_waiting_for_all_of_it(
    database: Database, ours: Factory, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attempts have the time for one page each: the second is the other policy's."""
    much, little = of_agents(database, name="a much"), add(database, SESSIONS, "expires_at", name="b little")
    agents(ours, 6)
    ours.row(SESSIONS, created_at=OLD, expires_at=OLD)
    monkeypatch.setattr(enforce, "Pacer", OnePage)
    enqueue(database.connect(), EnforceRetention())
    line.run_once()
    again(line)
    assert came_to(database, little) == [("completed", 1, 0)]
    assert came_to(database, much) == [("running", 2, 0)]
    for _ in range(8):
        again(line)
    assert came_to(database, much) == [("completed", 6, 0)]


def test_a_name_of_no_policy_is_told(database: Database) -> None:
    run = enforced(database, "agents")
    assert (run.outcome, run.status) == ("fail", "failed")
    assert database.rows("SELECT last_error FROM queue.tasks_history") == [
        ("a policy is named that there is not: see `greenroom retention show`",)
    ]


# ------------------------------------------------------------------------------------------------ asking


def test_a_run_that_would_take_too_much_asks_and_the_others_go_on(database: Database, ours: Factory) -> None:
    """As with a clock far in the future: nearly all is old."""
    asks, other = of_agents(database, most_share=0.5), add(database, SESSIONS, "expires_at")
    agents(ours, 3)
    agents(ours, 1, moment="now")
    ours.row(SESSIONS, created_at=OLD, expires_at=OLD)
    told: list[events.Event] = []
    forget = events.subscribe(told.append)
    run = enforced(database)
    assert (run.outcome, run.result["asking"]) == ("done", [asks])
    assert came_to(database, asks) == [("asking", 0, 0)]
    assert came_to(database, other) == [("completed", 1, 0)]
    assert [event for event in told if isinstance(event, events.RetentionAsks)] == [
        events.RetentionAsks(asks, AGENTS, 3)
    ]
    [found] = retention_runs.asking(database.connect("operator"))
    assert (found.policy, found.table, found.rows_planned, found.rows_total) == (asks, AGENTS, 3, 4)
    # it does not ask twice
    assert enforced(database).result["asking"] == [asks]
    forget()
    assert came_to(database, asks) == [("asking", 0, 0)]
    assert len([event for event in told if isinstance(event, events.RetentionAsks)]) == 1


def test_a_share_that_is_not_exceeded_asks_nothing(database: Database, ours: Factory) -> None:
    policy = of_agents(database, most_share=0.5)
    agents(ours, 2)
    agents(ours, 2, moment="now")
    enforced(database)
    assert came_to(database, policy) == [("completed", 2, 0)]


def test_who_confirms_lets_the_run_go_on_up_to_its_cutoff(database: Database, ours: Factory) -> None:
    policy = of_agents(database, most_share=0.5)
    agents(ours, 3)
    enforced(database)
    [(run_id, cutoff)] = database.rows("SELECT id, cutoff FROM ops.retention_runs")
    assert enforced(database, policy, confirm=True).outcome == "done"
    assert left(database) == 0
    assert database.rows("SELECT id, cutoff FROM ops.retention_runs") == [(run_id, cutoff)]
    assert came_to(database, policy) == [("completed", 3, 0)]
    agents(ours, 3)
    enforced(database, policy, confirm=True)
    assert came_to(database, policy)[1:] == [("completed", 3, 0)], "who confirms beforehand is not asked"


@pytest.mark.parametrize("is_changed", [True, False])
def test_a_question_of_a_week_ago_is_dropped_if_the_policy_was_changed_since(
    database: Database, ours: Factory, is_changed: bool
) -> None:
    policy = of_agents(database, most_share=0.5)
    agents(ours, 3)
    enforced(database)
    if is_changed:
        database.rows(CHANGED, (policy,))
    else:
        database.rows("ALTER TABLE ops.retention_policies DISABLE TRIGGER touch")
        database.rows("UPDATE ops.retention_policies SET updated_at = now() - interval '9 days'")
    database.rows(LATER)
    enforced(database)
    statuses = [status for status, *_ in came_to(database, policy)]
    assert statuses == (["cancelled", "asking"] if is_changed else ["asking"])


# ------------------------------------------------------------------------------------------------ policies that change


CHANGES = {
    "off": "UPDATE ops.retention_policies SET is_enabled = false",
    "held": "UPDATE ops.retention_policies SET is_held = true, hold_reason = 'x'",
    "older": "UPDATE ops.retention_policies SET age = '100 years'",
    "gone": "DELETE FROM ops.retention_policies",
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_policy_that_changes_in_mid_run_is_obeyed_at_the_next_page(
    database: Database, ours: Factory, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    monkeypatch.setattr(enforce, "Pacer", pages_of(2))
    policy = of_agents(database)
    agents(ours, 5)
    page = retention_runs.page

    def changed(connection: Connection, run_id: UUID, most: int) -> tuple[int, retention_runs.PageState]:
        found = page(connection, run_id, most)
        database.rows(CHANGES[change])
        return found

    monkeypatch.setattr(retention_runs, "page", changed)
    assert enforced(database).outcome == "done"
    assert left(database) == 3
    assert came_to(database, policy) == [("completed" if change == "older" else "cancelled", 2, 0)]


def test_a_hold_that_is_set_in_mid_run_keeps_what_is_left(
    database: Database, ours: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enforce, "Pacer", pages_of(2))
    policy = of_agents(database)
    agents(ours, 5)
    page = retention_runs.page

    def held(connection: Connection, run_id: UUID, most: int) -> tuple[int, retention_runs.PageState]:
        found = page(connection, run_id, most)
        hold_all(database, "governance.agent_interactions", "created_at")
        monkeypatch.setattr(retention_runs, "page", page)
        return found

    monkeypatch.setattr(retention_runs, "page", held)
    enforced(database)
    assert (left(database), came_to(database, policy)) == (3, [("completed", 2, 3)])


@pytest.mark.parametrize("change", ["off", "gone"])
def test_a_run_whose_policy_went_while_its_worker_was_dead_is_given_up(
    database: Database, ours: Factory, change: str
) -> None:
    policy = of_agents(database)
    retention_runs.begin(database.connect("system"), policy, uuid4(), is_confirmed=False)
    database.rows(CHANGES[change])
    assert enforced(database).outcome == "done"
    assert came_to(database, policy) == [("cancelled", 0, 0)]


# ------------------------------------------------------------------------------------------------ broken off, in use


@pytest.mark.parametrize("step", ["begin", "weigh", "page", "end"])
def test_what_is_killed_after_any_step_is_gone_on_with(
    database: Database, line: Line, ours: Factory, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    monkeypatch.setattr(enforce, "Pacer", pages_of(2))
    policy = of_agents(database)
    agents(ours, 5)
    done = getattr(retention_runs, step)

    def killed(connection: Connection, *given: Any, **options: Any) -> None:
        done(connection, *given, **options)
        monkeypatch.setattr(retention_runs, step, done)
        connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    monkeypatch.setattr(retention_runs, step, killed)
    task_id = enqueue(database.connect(), EnforceRetention())
    line.run_once()
    assert line.task(task_id)["status"] == "pending"
    again(line)
    assert line.task(task_id)["status"] == "done"
    assert (left(database), came_to(database, policy)) == (0, [("completed", 5, 0)])
    [(along,)] = database.rows("SELECT dependents FROM ops.retention_runs")
    assert along == {"governance.agent_interactions": {"rows": 5}}


def test_a_second_task_leaves_a_policy_to_the_first(database: Database, ours: Factory) -> None:
    policy = of_agents(database)
    agents(ours, 1)
    first = enqueue(database.connect(), EnforceRetention(cadence="hourly"))
    system = database.connect("system")
    run_id, state = retention_runs.begin(system, policy, first, is_confirmed=False)
    assert state == "running"
    assert enforced(database, policy).result["runs"] == []
    assert left(database) == 1
    # the first one again, as after a kill
    assert retention_runs.begin(system, policy, first, is_confirmed=False) == (run_id, "running")


def test_a_policy_that_is_being_written_is_waited_for(
    database: Database, line: Line, ours: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = of_agents(database)
    agents(ours, 1)
    database.rows("ALTER FUNCTION ops.retention_page SET lock_timeout = '20ms'")
    operator = database.connect("operator")
    task_id = enqueue(database.connect(), EnforceRetention())
    with operator.transaction():
        operator.execute("UPDATE ops.retention_policies SET description = 'x' WHERE name <> %s", (policy,))
        line.run_once()
    assert (line.task(task_id)["status"], came_to(database, policy)) == ("pending", [("running", 0, 0)])
    assert database.rows("SELECT error FROM queue.attempts") == [(f"{AGENTS} is in use",)]
    again(line)
    assert came_to(database, policy) == [("completed", 1, 0)]


def test_what_is_in_use_for_most_of_a_day_is_left_to_the_next_task(database: Database, ours: Factory) -> None:
    database.rows("UPDATE ops.retention_policies SET is_enabled = true WHERE name = 'attempts'")
    database.rows("SELECT ops.create_month('queue.attempts', %s)", (OLD,))
    run_id, _ = retention_runs.begin(database.connect("system"), "attempts", uuid4(), is_confirmed=False)
    with reading(database, "SELECT count(*) FROM queue.outbox_tasks, queue.attempts"):
        assert enforced(database).outcome == "snooze"
        database.rows("DELETE FROM queue.tasks_live")
        database.rows("UPDATE ops.retention_runs SET started_at = now() - interval '21 hours'")
        assert enforced(database).outcome == "done"
    assert enforced(database).outcome == "done"
    assert database.rows("SELECT id, status FROM ops.retention_runs WHERE policy_name = 'attempts'") == [
        (run_id, "completed")
    ]


REFUSING = """
CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not this one: %', OLD; END $$;
CREATE TRIGGER refuse BEFORE DELETE ON governance.agent_sessions FOR EACH ROW EXECUTE FUNCTION public.refuse()
"""


def test_no_run_fails_for_anothers_error(database: Database, line: Line, ours: Factory) -> None:
    refused, other = of_agents(database, name="a"), add(database, SESSIONS, "expires_at", name="b")
    agents(ours, 1)
    ours.row(SESSIONS, created_at=OLD, expires_at=OLD)
    database.connect().execute(REFUSING.encode())
    task_id = enqueue(database.connect(), EnforceRetention())
    line.run_once()
    assert line.task(task_id)["status"] == "failed"
    assert came_to(database, refused) == [("failed", 0, 0)]
    assert came_to(database, other) == [("completed", 1, 0)]
    [(_, error)] = database.rows(ENDED)
    assert error.startswith("not let go: a (RaiseException: not this one")
