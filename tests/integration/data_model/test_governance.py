"""Governance: no agent runs without approval, decisions outlive what they judge, and users see their own."""

from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql

from core.errors import ConstraintError, StaleVersionError
from db.connection import Connection
from db.constraints import rules
from tests.support.database import Database
from tests.support.factory import Factory, Row
from tests.support.statements import changed, column, rows, value
from tests.support.tenants import LOOK, acting, ids, named

SESSIONS, EVENTS, RESULTS = "governance.agent_sessions", "governance.governance_events", "governance.validation_results"
ACTIVATIONS, INTERACTIONS = "governance.persona_activations", "governance.agent_interactions"
OF_USERS = (SESSIONS, ACTIVATIONS, INTERACTIONS, EVENTS, RESULTS)
STATUSES = ("initializing", "pending_approval", "approved", "completed", "failed", "cancelled", "blocked")
RUN = "UPDATE governance.agent_sessions SET status = 'running' WHERE id = %s"


def judge(ours: Factory, session: Row, **given: Any) -> Row:
    """Write a decision about a session."""
    return ours.row(EVENTS, **{"agent_session_id": session["id"], "approved": True} | given)


def find(ours: Factory, event: Row) -> Row:
    """Write what a validation found for a decision."""
    return ours.row(RESULTS, event_id=event["id"], event_created_at=event["created_at"])


def work_of_a_user(ours: Factory) -> tuple[UUID, dict[str, Row]]:
    """Make a user with a row in each table that is bound to users."""
    user_id = ours.row("identity.users")["id"]
    session = ours.row(SESSIONS, user_id=user_id)
    event = judge(ours, session)
    made = {name: ours.row(name, agent_session_id=session["id"]) for name in (ACTIVATIONS, INTERACTIONS)}
    return user_id, made | {SESSIONS: session, EVENTS: event, RESULTS: find(ours, event)}


def assert_refused(shared: Database, ours: Factory, session: Row, role: str = "worker") -> None:
    with acting(shared, role, ours.tenant_id) as connection, pytest.raises(ConstraintError) as caught, rules():
        changed(connection, RUN, session["id"])
    assert (caught.value.table, caught.value.constraint) == (SESSIONS, "agent_sessions_approval_check")


# ------------------------------------------------------------------------------------------------ approval


def test_a_session_without_approval_is_refused(shared: Database, ours: Factory) -> None:
    assert_refused(shared, ours, ours.row(SESSIONS))


def test_a_session_that_begins_as_running_without_approval_is_refused(shared: Database, ours: Factory) -> None:
    values = ours.values(SESSIONS, status="running")
    with acting(shared, "worker", ours.tenant_id) as worker, pytest.raises(ConstraintError) as caught, rules():
        Factory(worker, ours.tenant_id).insert(SESSIONS, values)
    assert caught.value.constraint == "agent_sessions_approval_check"


@pytest.mark.parametrize("event_type", ["pre_agent_spawn", "consensus_check"])
def test_an_approval_lets_a_session_run(shared: Database, ours: Factory, event_type: str) -> None:
    session = ours.row(SESSIONS)
    with acting(shared, "worker", ours.tenant_id) as worker:
        judge(Factory(worker, ours.tenant_id), session, event_type=event_type)
        assert changed(worker, RUN, session["id"]) == 1


def test_an_approval_written_first_lets_a_session_begin_as_running(shared: Database, ours: Factory) -> None:
    values = ours.values(SESSIONS, status="running", id=uuid4())
    judge(ours, values, user_id=values["user_id"], agent_type=values["agent_type"])
    with acting(shared, "worker", ours.tenant_id) as worker:
        assert Factory(worker, ours.tenant_id).insert(SESSIONS, values)["status"] == "running"


@pytest.mark.parametrize(
    "given",
    [{"approved": False}, {"event_type": "cost_validation"}, {"agent_session_id": uuid4()}],
    ids=["rejection", "other question", "other session"],
)
def test_what_approves_something_else_lets_no_session_run(shared: Database, ours: Factory, given: Row) -> None:
    session = ours.row(SESSIONS)
    judge(ours, session, **given)
    assert_refused(shared, ours, session)


@pytest.mark.parametrize("role", ["worker", "system"])
def test_another_tenants_approval_lets_no_session_run(
    shared: Database, ours: Factory, theirs: Factory, role: str
) -> None:
    session = ours.row(SESSIONS)
    judge(theirs, session)
    assert_refused(shared, ours, session, role)


def test_a_session_that_runs_is_not_asked_again_unless_its_key_changes(shared: Database, ours: Factory) -> None:
    session = ours.row(SESSIONS)
    judge(ours, session)
    with acting(shared, "owner", ours.tenant_id) as owner:
        changed(owner, RUN, session["id"])
        changed(owner, "DELETE FROM governance.governance_events WHERE agent_session_id = %s", session["id"])
        assert changed(owner, "UPDATE governance.agent_sessions SET token_cost = 1 WHERE id = %s", session["id"]) == 1
        with pytest.raises(ConstraintError, match="agent_sessions_approval_check"), rules():
            changed(owner, "UPDATE governance.agent_sessions SET id = %s WHERE id = %s", uuid4(), session["id"])


def test_a_session_that_ended_does_not_run_again_without_approval(shared: Database, ours: Factory) -> None:
    assert_refused(shared, ours, ours.row(SESSIONS, status="completed"))


# ------------------------------------------------------------------------------------------------ decisions


def test_a_decision_says_whose_session_it_judges(shared: Database, ours: Factory) -> None:
    session = ours.row(SESSIONS, agent_type="researcher")
    with acting(shared, "worker", ours.tenant_id) as worker:
        event = judge(Factory(worker, ours.tenant_id), session, user_id=uuid4(), agent_type="liar")
    assert (event["user_id"], event["agent_type"]) == (session["user_id"], "researcher")


def test_a_decision_without_its_session_says_what_its_writer_says(ours: Factory, theirs: Factory) -> None:
    for session in ({"id": uuid4()}, theirs.row(SESSIONS)):
        said = {"user_id": uuid4(), "agent_type": "early"}
        assert judge(ours, session, **said).items() >= said.items()


def test_a_decision_that_is_nobodys_is_refused(ours: Factory) -> None:
    with pytest.raises(ConstraintError) as caught, rules():
        judge(ours, {"id": uuid4()}, user_id=None)
    assert caught.value.constraint == "user_id"


def test_a_decision_outlives_session_and_user(shared: Database, ours: Factory) -> None:
    user_id, rows = work_of_a_user(ours)
    shared.rows("DELETE FROM identity.users WHERE id = %s", (user_id,))
    with acting(shared, "worker", ours.tenant_id, user_id) as worker:
        assert ids(worker, SESSIONS) == ids(worker, INTERACTIONS) == ids(worker, ACTIVATIONS) == set()
        assert ids(worker, EVENTS) == {rows[EVENTS]["id"]}
        assert ids(worker, RESULTS) == {rows[RESULTS]["id"]}


@pytest.mark.parametrize("table", [EVENTS, RESULTS])
@pytest.mark.parametrize(
    ("role", "statement"),
    [
        ("worker", "UPDATE {} SET created_at = created_at"),
        ("worker", "DELETE FROM {}"),
        ("operator", "UPDATE {} SET created_at = created_at"),
        ("operator", "DELETE FROM {}"),
        ("system", "UPDATE {} SET created_at = created_at"),
        ("system", "DELETE FROM {}"),
        ("reader", "INSERT INTO {} DEFAULT VALUES"),
    ],
)
def test_what_was_decided_stays_as_it_was(
    shared: Database, ours: Factory, table: str, role: str, statement: str
) -> None:
    with acting(shared, role, ours.tenant_id) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement.format(table).encode())


def test_the_owner_erases_a_decision_with_what_was_found_for_it(shared: Database, ours: Factory) -> None:
    event = judge(ours, ours.row(SESSIONS))
    result = find(ours, event)
    with acting(shared, "owner") as owner:
        assert result["id"] in ids(owner, RESULTS)
        assert changed(owner, "DELETE FROM governance.governance_events WHERE id = %s", event["id"]) == 1
        assert result["id"] not in ids(owner, RESULTS)


def test_a_month_of_decisions_goes_after_what_was_found_for_them(shared: Database, ours: Factory) -> None:
    for table in (EVENTS, RESULTS):
        shared.rows("SELECT ops.create_month(%s, '2020-02-01')", (table,))
    find(ours, judge(ours, ours.row(SESSIONS), created_at="2020-02-10"))
    detach = "ALTER TABLE {0} DETACH PARTITION {0}_2020_02 CONCURRENTLY"
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        shared.rows(detach.format(EVENTS))
    for table in (RESULTS, EVENTS):
        shared.rows(detach.format(table))
        shared.rows(f"DROP TABLE {table}_2020_02")
    with acting(shared, "worker", ours.tenant_id) as worker:
        assert ids(worker, EVENTS) == ids(worker, RESULTS) == set()


# ------------------------------------------------------------------------------------------------ changes


def test_a_stale_write_of_a_session_is_refused(shared: Database, ours: Factory) -> None:
    write = "UPDATE governance.agent_sessions SET status = 'approved', version = 1 WHERE id = %s"
    session_id = ours.row(SESSIONS)["id"]
    with acting(shared, "worker", ours.tenant_id) as worker:
        assert changed(worker, write, session_id) == 1
        with pytest.raises(StaleVersionError), rules():
            changed(worker, write, session_id)


# ------------------------------------------------------------------------------------------------ users


@pytest.mark.parametrize("table", OF_USERS)
@pytest.mark.parametrize("role", ["worker", "operator", "reader"])
def test_who_acts_for_a_user_sees_that_users_rows(
    shared: Database, ours: Factory, theirs: Factory, role: str, table: str
) -> None:
    (user_id, mine), (_, others) = work_of_a_user(ours), work_of_a_user(ours)
    with acting(shared, role, ours.tenant_id, user_id) as connection:
        assert ids(connection, table) == {mine[table]["id"]}
    with acting(shared, role, ours.tenant_id) as connection:
        assert ids(connection, table) == {mine[table]["id"], others[table]["id"]}
    with acting(shared, role, theirs.tenant_id, user_id) as connection:
        assert ids(connection, table) == set()


@pytest.mark.parametrize("table", OF_USERS)
def test_who_acts_for_a_user_adds_nothing_of_anothers(shared: Database, ours: Factory, table: str) -> None:
    (user_id, _), (their_id, theirs) = work_of_a_user(ours), work_of_a_user(ours)
    event = {"event_id": theirs[EVENTS]["id"], "event_created_at": theirs[EVENTS]["created_at"]}
    of_theirs = {SESSIONS: {"user_id": their_id}, RESULTS: event}
    values = ours.values(table, **of_theirs.get(table, {"agent_session_id": theirs[SESSIONS]["id"]}))
    with (
        acting(shared, "worker", ours.tenant_id, user_id) as worker,
        pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"),
    ):
        Factory(worker, ours.tenant_id).insert(table, values)


@pytest.mark.parametrize("table", [SESSIONS, ACTIVATIONS, INTERACTIONS])
def test_who_acts_for_a_user_changes_that_users_rows_alone(shared: Database, ours: Factory, table: str) -> None:
    (user_id, mine), (_, theirs) = work_of_a_user(ours), work_of_a_user(ours)
    change = sql.SQL("UPDATE {} SET created_at = now() WHERE id = ANY (%s) RETURNING id").format(named(table))
    with acting(shared, "worker", ours.tenant_id, user_id) as worker:
        assert value(worker, change, [mine[table]["id"], theirs[table]["id"]]) == mine[table]["id"]


def test_a_user_hands_no_session_to_another(shared: Database, ours: Factory) -> None:
    (user_id, _), (their_id, _) = work_of_a_user(ours), work_of_a_user(ours)
    with (
        acting(shared, "worker", ours.tenant_id, user_id) as worker,
        pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"),
    ):
        changed(worker, "UPDATE governance.agent_sessions SET user_id = %s", their_id)


def written_for_a_user(connection: Connection, ours: Factory, table: str, mine: dict[str, Row]) -> Row:
    own = Factory(connection, ours.tenant_id)
    return judge(own, mine[SESSIONS]) if table == EVENTS else find(own, mine[EVENTS])


@pytest.mark.parametrize("table", [EVENTS, RESULTS])
def test_a_user_decides_nothing(shared: Database, ours: Factory, table: str) -> None:
    user_id, mine = work_of_a_user(ours)
    with (
        acting(shared, "worker", ours.tenant_id, user_id) as worker,
        pytest.raises(psycopg.errors.InsufficientPrivilege, match="user_reads_only"),
    ):
        written_for_a_user(worker, ours, table, mine)
    with acting(shared, "worker", ours.tenant_id) as worker:
        assert written_for_a_user(worker, ours, table, mine)["tenant_id"] == ours.tenant_id


def test_a_user_works_in_sessions_of_their_own(shared: Database, ours: Factory) -> None:
    user_id, mine = work_of_a_user(ours)
    with acting(shared, "worker", ours.tenant_id, user_id) as worker:
        own = Factory(worker, ours.tenant_id)
        for table in (ACTIVATIONS, INTERACTIONS):
            values = ours.values(table, agent_session_id=mine[SESSIONS]["id"])
            assert own.insert(table, values)["agent_session_id"] == mine[SESSIONS]["id"]


# ------------------------------------------------------------------------------------------------ views


@pytest.mark.parametrize("role", ["reader", "system"])
def test_active_sessions_say_how_they_were_judged(shared: Database, ours: Factory, theirs: Factory, role: str) -> None:
    session = ours.row(SESSIONS, status="approved", token_cost=2)
    for approved in (True, True, False):
        judge(ours, session, approved=approved)
    for approved in (True, False):
        judge(theirs, session, approved=approved)
    query = """SELECT user_id, agent_type, status, token_cost, created_at, approvals, rejections
        FROM governance.active_agent_sessions WHERE agent_session_id = %s"""
    names = ("user_id", "agent_type", "status", "token_cost", "created_at")
    with acting(shared, role, ours.tenant_id) as connection:
        assert rows(connection, query, session["id"]) == [(*(session[name] for name in names), 2, 1)]


def test_a_session_is_active_from_its_request_to_its_end(shared: Database, ours: Factory) -> None:
    sessions = [ours.row(SESSIONS, status=status) for status in STATUSES]
    judge(ours, sessions[0])
    with acting(shared, "worker", ours.tenant_id) as worker:
        assert changed(worker, RUN, sessions[0]["id"]) == 1
        active = {session["id"] for session in sessions if session["status"] in ("approved", "pending_approval")}
        found = column(worker, "SELECT agent_session_id FROM governance.active_agent_sessions")
        assert found == active | {sessions[0]["id"]}


@pytest.mark.parametrize("view", ["governance.active_agent_sessions", "governance.user_activity_summary"])
@pytest.mark.parametrize("role", ["worker", "operator", "reader"])
def test_a_view_shows_what_its_reader_may_see(
    shared: Database, ours: Factory, theirs: Factory, role: str, view: str
) -> None:
    query = sql.SQL("SELECT user_id FROM {}").format(named(view))
    users = {ours.row(SESSIONS, user_id=ours.row("identity.users")["id"], status="approved")["user_id"] for _ in "ab"}
    for tenant_id, seen in ((ours.tenant_id, users), (theirs.tenant_id, set()), (None, set())):
        with acting(shared, role, tenant_id) as connection:
            assert column(connection, query) == seen
    for user_id in users:
        with acting(shared, role, ours.tenant_id, user_id) as connection:
            assert column(connection, query) == {user_id}
    with acting(shared, "system") as system:
        assert column(system, query) >= users


@pytest.mark.parametrize("view", ["governance.active_agent_sessions", "governance.user_activity_summary"])
@pytest.mark.parametrize("role", ["relay", "producer"])
def test_a_view_is_no_relays_and_no_producers(shared: Database, ours: Factory, role: str, view: str) -> None:
    with acting(shared, role, ours.tenant_id) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        rows(connection, LOOK.format(named(view)))


def test_activity_is_of_active_users_with_sessions_or_without(shared: Database, ours: Factory) -> None:
    busy, idle = (ours.row("identity.users", username=name)["id"] for name in ("busy", "idle"))
    for given in ({"status": "suspended"}, {"deleted_at": "2026-01-01"}):
        ours.row(SESSIONS, user_id=ours.row("identity.users", **given)["id"])
    first = ours.row(SESSIONS, user_id=busy, token_cost=1)["created_at"]
    last = ours.row(SESSIONS, user_id=busy, token_cost=4, created_at=first + timedelta(hours=1))["created_at"]
    query = """SELECT user_id, username, total_sessions, total_cost, avg_cost_per_session, last_session_at
        FROM governance.user_activity_summary ORDER BY username"""
    with acting(shared, "operator", ours.tenant_id) as operator:
        assert rows(operator, query) == [
            (busy, "busy", 2, Decimal(5), Decimal("2.5"), last),
            (idle, "idle", 0, None, None, None),
        ]
