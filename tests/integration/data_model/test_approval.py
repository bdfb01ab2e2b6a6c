"""Approval: of one user's agent of one type, until something newer stops it, and for one life."""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from core.errors import ConstraintError
from db.connection import Connection
from db.constraints import rules
from tests.support.database import Database
from tests.support.factory import Factory, Row
from tests.support.statements import changed, value
from tests.support.tenants import acting

SESSIONS, EVENTS = "governance.agent_sessions", "governance.governance_events"
ENDED = ("completed", "failed", "cancelled")
WRITE = "UPDATE governance.agent_sessions SET status = %s WHERE id = %s"
END = "UPDATE governance.agent_sessions SET completed_at = {} WHERE id = %s"
FINISH = """
UPDATE governance.agent_sessions SET status = 'completed', started_at = NULL, completed_at = %s WHERE id = %s
"""
REUSE = """
UPDATE governance.agent_sessions SET status = 'running', user_id = %s, agent_type = %s WHERE id = %s
"""


def moment(ours: Factory, number: int) -> datetime:
    """Return one of a few moments of this month, all of them past."""
    query = "SELECT date_trunc('month', now(), 'UTC') + make_interval(secs => %s)"
    found: datetime = value(ours.owner, query, number / 1_000_000)
    return found


def judge(ours: Factory, session_id: UUID, number: int, **given: Any) -> None:
    """Write a decision of a moment; approvals are what is meant."""
    said = {"agent_session_id": session_id, "approved": True, "event_type": "pre_agent_spawn"}
    ours.row(EVENTS, **said | {"created_at": moment(ours, number)} | given)


def assert_refused(connection: Connection, statement: str, *values: object) -> None:
    with pytest.raises(ConstraintError) as caught, rules(), connection.transaction():
        changed(connection, statement, *values)
    assert caught.value.constraint == "agent_sessions_approval_check"


def ended(ours: Factory, **given: Any) -> Row:
    """Make a session that was approved at moment 5 and ended at moment 30."""
    session = ours.row(SESSIONS, **{"status": "completed", "completed_at": moment(ours, 30)} | given)
    judge(ours, session["id"], 5)
    return session


@pytest.mark.parametrize(
    "stop",
    [
        {"event_type": "emergency_stop"},
        {"event_type": "circuit_breaker", "approved": False},
        {"event_type": "pre_agent_spawn", "approved": False},
        {"event_type": "consensus_check", "approved": False},
    ],
    ids=["emergency stop", "circuit breaker", "rejection", "no consensus"],
)
@pytest.mark.parametrize("number", [2, 1], ids=["later", "of the same moment"])
def test_what_stops_an_agent_after_its_approval_stands(shared: Database, ours: Factory, stop: Row, number: int) -> None:
    session = ours.row(SESSIONS)["id"]
    judge(ours, session, 1)
    judge(ours, session, number, **stop)
    with acting(shared, "worker", ours.tenant_id) as worker:
        assert_refused(worker, WRITE, "running", session)
        judge(ours, session, 3)
        assert changed(worker, WRITE, "running", session) == 1


def test_another_question_stops_no_agent(shared: Database, ours: Factory) -> None:
    session = ours.row(SESSIONS)["id"]
    judge(ours, session, 1)
    judge(ours, session, 2, event_type="cost_validation", approved=False)
    with acting(shared, "worker", ours.tenant_id) as worker:
        assert changed(worker, WRITE, "running", session) == 1


@pytest.mark.parametrize("other", ["user_id", "agent_type"])
def test_an_approval_is_of_one_users_agent_of_one_type(shared: Database, ours: Factory, other: str) -> None:
    values = ours.values(SESSIONS, id=uuid4(), status="running", agent_type="reader")
    said = {"user_id": values["user_id"], "agent_type": "reader"}
    judge(ours, values["id"], 1, **said | {other: uuid4() if other == "user_id" else "root"})
    with acting(shared, "worker", ours.tenant_id) as worker:
        writer = Factory(worker, ours.tenant_id)
        with pytest.raises(ConstraintError, match="approval_check"), rules(), worker.transaction():
            writer.insert(SESSIONS, values)
        judge(ours, values["id"], 2, **said)
        assert writer.insert(SESSIONS, values)["status"] == "running"


def test_an_approval_is_not_carried_over_to_another_agent(shared: Database, ours: Factory) -> None:
    session, other = ours.row(SESSIONS, agent_type="reader"), ours.row("identity.users")["id"]
    judge(ours, session["id"], 1)
    with acting(shared, "worker", ours.tenant_id) as worker:
        for _ in ("before it runs", "while it runs"):
            assert_refused(worker, REUSE, session["user_id"], "root", session["id"])
            assert_refused(worker, REUSE, other, "reader", session["id"])
            assert changed(worker, WRITE, "running", session["id"]) == 1


@pytest.mark.parametrize("status", ENDED)
@pytest.mark.parametrize("to", ["running", "initializing", "pending_approval", "approved", "blocked"])
def test_what_has_ended_begins_again_with_a_later_approval(
    shared: Database, ours: Factory, status: str, to: str
) -> None:
    session = ended(ours, status=status)["id"]
    with acting(shared, "worker", ours.tenant_id) as worker:
        assert_refused(worker, WRITE, to, session)
        judge(ours, session, 30)
        assert_refused(worker, WRITE, to, session)
        judge(ours, session, 31)
        assert changed(worker, WRITE, to, session) == 1


def test_what_ended_at_no_stated_time_ended_when_it_was_last_written(shared: Database, ours: Factory) -> None:
    session = ended(ours, completed_at=None)["id"]
    with acting(shared, "worker", ours.tenant_id) as worker:
        assert_refused(worker, WRITE, "running", session)


@pytest.mark.parametrize("moment", ["NULL", "now() - interval '1 year'"])
def test_an_end_is_not_dated_back(shared: Database, ours: Factory, moment: str) -> None:
    session = ended(ours)["id"]
    with acting(shared, "worker", ours.tenant_id) as worker:
        with pytest.raises(ConstraintError, match="agent_sessions_end_stays_check"), rules(), worker.transaction():
            changed(worker, END.format(moment), session)
        assert changed(worker, END.format("now()"), session) == 1
        assert changed(worker, WRITE, "failed", session) == 1


@pytest.mark.parametrize("end", ["2020-01-01", None])
def test_what_ends_now_has_not_ended_before_its_approval(shared: Database, ours: Factory, end: str | None) -> None:
    session = ours.row(SESSIONS)["id"]
    judge(ours, session, 1)
    with acting(shared, "worker", ours.tenant_id) as worker:
        assert changed(worker, WRITE, "running", session) == 1
        assert changed(worker, FINISH, end, session) == 1
        assert value(worker, "SELECT completed_at = now() FROM governance.agent_sessions WHERE id = %s", session)
        assert_refused(worker, WRITE, "running", session)


def test_an_approval_that_is_dated_ahead_approves_nothing_yet(shared: Database, ours: Factory) -> None:
    session = ours.row(SESSIONS)["id"]
    ahead = value(ours.owner, "SELECT now() + interval '1 hour'")
    judge(ours, session, 1, created_at=ahead)
    with acting(shared, "worker", ours.tenant_id) as worker:
        assert_refused(worker, WRITE, "running", session)
        judge(ours, session, 1)
        assert changed(worker, WRITE, "running", session) == 1


def test_a_stop_that_is_dated_ahead_stops_now(shared: Database, ours: Factory) -> None:
    session = ours.row(SESSIONS)["id"]
    judge(ours, session, 1)
    judge(
        ours, session, 2, event_type="emergency_stop", created_at=value(ours.owner, "SELECT now() + interval '1 hour'")
    )
    with acting(shared, "worker", ours.tenant_id) as worker:
        assert_refused(worker, WRITE, "running", session)


def test_a_stop_that_a_user_does_not_see_stops_too(shared: Database, ours: Factory) -> None:
    values = ours.values(SESSIONS, id=uuid4())
    judge(ours, values["id"], 2, user_id=uuid4(), agent_type="x", event_type="emergency_stop", approved=False)
    judge(ours, values["id"], 1, user_id=values["user_id"], agent_type=values["agent_type"])
    ours.insert(SESSIONS, values)
    with acting(shared, "worker", ours.tenant_id, values["user_id"]) as worker:
        assert_refused(worker, WRITE, "running", values["id"])
