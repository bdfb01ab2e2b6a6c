"""What stays though it is old: rows that a hold keeps, what they need, and what is referred to by rows that refuse."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import sql

from tests.support.database import Database
from tests.support.retention import DOCUMENTS, OLD, Trial, trial
from tests.support.statements import changed, column, rows, value
from tests.support.tenants import named

USERS, TIMES = "identity.users", "identity.user_sessions"
SESSIONS, INTERACTIONS = "governance.agent_sessions", "governance.agent_interactions"
PERSONAS, TOOLS, CALLS = "assistants.personas", "tools.tools", "tools.tool_executions"
DEEPER = """
CREATE TABLE public.here (id integer PRIMARY KEY, persona uuid REFERENCES assistants.personas (id) ON DELETE CASCADE);
CREATE TABLE public.way (id integer PRIMARY KEY, persona uuid REFERENCES assistants.personas (id) ON DELETE CASCADE);
CREATE TABLE public.there (way integer REFERENCES public.way ON DELETE CASCADE, here integer REFERENCES public.here)
"""


@pytest.fixture
def made(shared: Database) -> Iterator[Trial]:
    with trial(shared) as made:
        yield made


def stays(made: Trial, table: str, **given: Any) -> tuple[UUID, UUID, UUID]:
    """Write a policy on a table and two old rows; return the policy and the rows."""
    first, second = (made.ours.row(table, created_at=OLD, **given)["id"] for _ in "ab")
    return made.policy(table), first, second


def taken(made: Trial, policy_id: UUID, *ids: UUID) -> set[UUID]:
    """Return which of some rows a policy takes; without regard to holds it takes all of them."""
    assert made.taken(policy_id, holds=False) & set(ids) == set(ids)
    return made.taken(policy_id) & set(ids)


# ------------------------------------------------------------------------------------------------ holds


@pytest.mark.parametrize("is_enabled", [True, False])
def test_a_held_row_stays(made: Trial, is_enabled: bool) -> None:
    policy_id, held, gone = stays(made, DOCUMENTS)
    made.hold(filter={"id": str(held).upper()}, is_enabled=is_enabled)
    assert taken(made, policy_id, held, gone) == {gone}


def test_a_hold_on_a_value_lets_rows_go_that_have_none(made: Trial) -> None:
    policy_id, held, gone = stays(made, DOCUMENTS)
    changed(made.connection, "UPDATE knowledge.documents SET title = 'x' WHERE id = %s", held)
    made.hold(filter={"title": "x", "page_count": None})
    assert taken(made, policy_id, held, gone) == {gone}


def test_a_hold_is_its_tenants_and_its_personas(made: Trial) -> None:
    ada, bob = (made.ours.row(PERSONAS)["id"] for _ in "ab")
    ids = [made.ours.row(DOCUMENTS, created_at=OLD, persona_id=each)["id"] for each in (ada, bob, None)]
    theirs = made.theirs.row(DOCUMENTS, created_at=OLD)["id"]
    policy_id = made.policy()
    made.hold(tenant_id=made.ours.tenant_id, persona_id=ada)
    assert taken(made, policy_id, *ids, theirs) == {*ids[1:], theirs}
    made.hold(tenant_id=made.ours.tenant_id)
    assert taken(made, policy_id, *ids, theirs) == {theirs}


def test_two_holds_keep_what_either_does_and_each_stands_beside_a_policy(made: Trial) -> None:
    policy_id, first, second = stays(made, DOCUMENTS)
    for held in (first, second):
        made.hold(filter={"id": str(held)})
    for _ in "ab":
        made.hold(filter={"title": "nobody's"})
    assert taken(made, policy_id, first, second) == set()


def test_a_row_stays_that_would_take_a_held_one_along_to_any_depth(made: Trial) -> None:
    policy_id, kept, gone = stays(made, USERS)
    session = made.ours.row(SESSIONS, user_id=kept, session_id=None)["id"]
    made.hold(INTERACTIONS, filter={"interaction_type": "query"})
    assert taken(made, policy_id, kept, gone) == {kept, gone}
    made.ours.row(INTERACTIONS, agent_session_id=session, interaction_type="query")
    assert taken(made, policy_id, kept, gone) == {gone}


def test_a_row_stays_whose_end_would_change_a_held_one(made: Trial) -> None:
    user = made.ours.row(USERS)["id"]
    policy_id, kept, gone = stays(made, TIMES, user_id=user, started_at=OLD)
    session = made.ours.row(SESSIONS, user_id=user, session_id=kept)["id"]
    made.hold(SESSIONS, filter={"id": str(session)})
    assert taken(made, policy_id, kept, gone) == {gone}
    changed(made.connection, "UPDATE governance.agent_sessions SET session_id = NULL WHERE id = %s", session)
    assert taken(made, policy_id, kept, gone) == {kept, gone}


def test_a_row_stays_whose_end_would_change_a_held_one_further_down(made: Trial) -> None:
    policy_id, kept, gone = stays(made, USERS)
    time = made.ours.row(TIMES, user_id=kept)["id"]
    session = made.ours.row(SESSIONS, session_id=time)
    made.hold(SESSIONS, filter={"id": str(session["id"])})
    assert session["user_id"] not in (kept, gone)
    assert taken(made, policy_id, kept, gone) == {gone}


def test_what_a_held_row_refers_to_and_what_is_beside_it_goes_on(made: Trial) -> None:
    held = made.ours.row(INTERACTIONS)
    beside = made.ours.row(INTERACTIONS, agent_session_id=held["agent_session_id"], created_at=OLD)["id"]
    policy_id = made.policy(INTERACTIONS)
    made.hold(SESSIONS, filter={"id": str(held["agent_session_id"])})
    assert taken(made, policy_id, beside) == {beside}


def test_a_hold_on_the_whole_keeps_rows_of_its_part(made: Trial) -> None:
    policy_id = made.policy("queue.tasks_history", age_column="completed_at")
    assert "title" not in str(made.condition(policy_id))
    made.hold("queue.outbox_tasks", filter={"task_type": "kept"})
    assert "NOT ((r0.task_type = 'kept') IS TRUE)" in str(made.condition(policy_id))


def test_a_hold_on_tenants_is_on_one_by_its_own_key(made: Trial) -> None:
    made.hold("identity.tenants", tenant_id=made.ours.tenant_id)
    held = value(made.connection, "SELECT ops.held_condition('identity.tenants')")
    assert made.ids("identity.tenants", held) == {made.ours.tenant_id}


@pytest.mark.parametrize("key", ["id", "tenant_id"])
def test_a_tenants_hold_compares_as_a_policy_does(made: Trial, key: str) -> None:
    table = "identity.tenants" if key == "id" else DOCUMENTS
    made.ours.row(DOCUMENTS)
    made.hold(table, name="order", filter={key: str(made.ours.tenant_id).upper()})
    query = "SELECT ops.tenant_hold(%s)"
    assert value(made.connection, query, made.ours.tenant_id) == "order (a court's order)"
    assert value(made.connection, query, made.theirs.tenant_id) is None


# ------------------------------------------------------------------------------------------------ what refuses


def test_a_row_stays_that_another_refuses_to_lose(made: Trial) -> None:
    policy_id, kept, gone = stays(made, TOOLS)
    made.ours.row(CALLS, tool_id=kept)
    assert made.taken(policy_id) & {kept, gone} == {gone}
    assert made.taken(policy_id, holds=False) & {kept, gone} == {gone}
    with pytest.raises(psycopg.IntegrityError), made.connection.transaction():
        changed(made.connection, "DELETE FROM tools.tools WHERE id = %s", kept)


def test_a_row_stays_that_would_take_along_what_another_refuses_to_lose(made: Trial) -> None:
    policy_id, kept, gone = stays(made, PERSONAS)
    secret = made.ours.row("vault.secrets", persona_id=kept)["id"]
    made.ours.row("mail.mailboxes", persona_id=made.ours.row(PERSONAS)["id"], imap_secret_id=secret)
    assert made.taken(policy_id) & {kept, gone} == {gone}
    with pytest.raises(psycopg.IntegrityError), made.connection.transaction():
        changed(made.connection, "DELETE FROM assistants.personas WHERE id = %s", kept)


@pytest.mark.parametrize("table", [USERS, PERSONAS])
def test_what_goes_along_itself_refuses_nothing(made: Trial, table: str) -> None:
    policy_id, first, second = stays(made, table)
    persona = made.ours.row(PERSONAS, owner_id=first)["id"] if table == USERS else first
    secret = made.ours.row("vault.secrets", persona_id=persona)["id"]
    mailbox = made.ours.row("mail.mailboxes", persona_id=persona, imap_secret_id=secret)["id"]
    assert taken(made, policy_id, first, second) == {first, second}
    query = sql.SQL("DELETE FROM {} WHERE id = %s").format(named(table))
    made.connection.execute(query, (first,))
    assert made.ids("mail.mailboxes", f"id = '{mailbox}'") == set()


def test_what_goes_along_later_than_what_it_refers_to_refuses(made: Trial) -> None:
    """Postgres asks for what still refers to a row level by level, and that is still there."""
    made.connection.execute(DEEPER)
    policy_id, kept, gone = stays(made, PERSONAS)
    made.connection.execute("INSERT INTO public.here VALUES (1, %s)", (kept,))
    made.connection.execute("INSERT INTO public.way VALUES (1, %s)", (kept,))
    assert taken(made, policy_id, kept, gone) == {kept, gone}
    made.connection.execute("INSERT INTO public.there VALUES (1, 1)")
    assert made.taken(policy_id) & {kept, gone} == {gone}
    with pytest.raises(psycopg.IntegrityError), made.connection.transaction():
        changed(made.connection, "DELETE FROM assistants.personas WHERE id = %s", kept)


# ------------------------------------------------------------------------------------------------ dependents


def test_dependents_are_followed_down_every_cascade(made: Trial) -> None:
    query = "SELECT parent::text, child::text, action, depth, cleared_columns::text[] FROM ops.dependents(%s::regclass)"
    assert set(map(repr, rows(made.connection, query, TIMES))) == {
        repr((TIMES, "identity.session_activities", "cascade", 1, None)),
        repr((TIMES, SESSIONS, "set_null", 1, ["session_id"])),
    }
    found = {(parent, child, action, depth) for parent, child, action, depth, _ in rows(made.connection, query, USERS)}
    assert {
        (USERS, SESSIONS, "cascade", 1),
        (SESSIONS, INTERACTIONS, "cascade", 2),
        (USERS, DOCUMENTS, "set_null", 1),
    } <= found
    ends = "SELECT path[1]::regclass = %s::regclass AND path[depth + 1] = child FROM ops.dependents(%s::regclass)"
    assert column(made.connection, ends, USERS, USERS) == {True}


def test_each_reference_has_its_columns(made: Trial) -> None:
    query = "SELECT child_columns::text[], parent_columns::text[], action FROM ops.references_to(%s::regclass) "
    of_calls = "WHERE child = 'tools.tool_executions'::regclass"
    assert rows(made.connection, query + of_calls, TOOLS) == [(["tool_id", "tenant_id"], ["id", "tenant_id"], "refuse")]


def test_no_cascade_comes_back_to_its_table(made: Trial) -> None:
    """Holds are looked for down each way of cascades once: a table that cascades into itself would be left out."""
    circles = """
    SELECT t.relation::text FROM ops.kept_tables() t CROSS JOIN LATERAL ops.dependents(t.relation) d
    WHERE d.action = 'cascade' AND d.child = ANY (d.path[:d.depth]::regclass[])
    """
    assert rows(made.connection, circles) == []
