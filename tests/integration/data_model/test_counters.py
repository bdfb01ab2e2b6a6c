"""Cached counts and times that triggers keep: right whoever writes, however rows come, move and go."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from psycopg import sql

from db.connection import bind_tenant, connect, tenant_transaction
from tests.support.database import Database
from tests.support.factory import Factory, Row
from tests.support.statements import changed, value
from tests.support.tenants import named, new_tenant

JANUARY = datetime(2026, 1, 1, tzinfo=UTC)
CLIENTS, CONVERSATIONS = "assistants.clients", "assistants.conversations"
KEYS, USERS = "identity.api_keys", "identity.users"
SAY = "INSERT INTO assistants.messages (tenant_id, conversation_id, role, content) VALUES (%s, %s, 'user', 'hi')"
ACT = "INSERT INTO identity.session_activities (tenant_id, user_session_id, activity_type, created_at) {}"
HIDE = sql.SQL("CREATE POLICY hides ON {} AS RESTRICTIVE TO greenroom_worker USING (false)")


def held(factory: Factory, table: str, column: str, row_id: UUID) -> Any:
    """Return what a row holds."""
    query = sql.SQL("SELECT {} FROM {} WHERE id = %s").format(sql.Identifier(column), named(table))
    return value(factory.owner, query, row_id)


def put(factory: Factory, table: str, row_id: UUID, **given: Any) -> None:
    """Change a row."""
    to = sql.SQL(", ").join(
        sql.SQL("{} = {}").format(sql.Identifier(key), sql.Literal(to)) for key, to in given.items()
    )
    assert changed(factory.owner, sql.SQL("UPDATE {} SET {} WHERE id = %s").format(named(table), to), row_id) == 1


def count(factory: Factory, conversation: Row) -> int:
    found: int = held(factory, CONVERSATIONS, "message_count", conversation["id"])
    return found


def contact(factory: Factory, client: Row) -> datetime | None:
    found: datetime | None = held(factory, CLIENTS, "last_contact", client["id"])
    return found


def talk(factory: Factory, client: Row, day: int) -> UUID:
    """Make a conversation with a client, that begins on a day from January 1st on."""
    given = {"client_id": client["id"], "started_at": JANUARY + timedelta(days=day)}
    made: UUID = factory.row(CONVERSATIONS, **given)["id"]
    return made


# ------------------------------------------------------------------------------------------------ messages


def test_a_conversation_begins_without_messages_whatever_its_writer_says(ours: Factory) -> None:
    copied = ours.row(CONVERSATIONS, message_count=12)
    assert copied["message_count"] == 0
    ours.row("assistants.messages", conversation_id=copied["id"])
    assert count(ours, copied) == 1


def test_a_message_that_moves_to_another_month_and_conversation_is_counted_there(ours: Factory) -> None:
    one, two = (ours.row(CONVERSATIONS) for _ in range(2))
    message = ours.row("assistants.messages", conversation_id=one["id"])
    later = message["created_at"] + timedelta(days=31)
    put(ours, "assistants.messages", message["id"], conversation_id=two["id"], created_at=later)
    assert (count(ours, one), count(ours, two)) == (0, 1)
    put(ours, "assistants.messages", message["id"], created_at=message["created_at"])
    assert (count(ours, one), count(ours, two)) == (0, 1)


def test_writers_of_one_conversation_at_once_are_all_counted(shared: Database, ours: Factory) -> None:
    conversation = ours.row(CONVERSATIONS)

    def say(_: int) -> None:
        with connect(shared.url("worker"), name="test worker") as worker:
            for _ in range(10):
                with tenant_transaction(worker, ours.tenant_id):
                    changed(worker, SAY, ours.tenant_id, conversation["id"])

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(say, range(4)))
    assert count(ours, conversation) == 40


# ------------------------------------------------------------------------------------------------ contacts


@pytest.mark.parametrize(
    ("change", "day"),
    [
        ({"client_id": None}, 1),
        ({"started_at": JANUARY - timedelta(days=9)}, 1),
        ({"started_at": JANUARY + timedelta(days=9)}, 9),
        ({"deleted_at": JANUARY}, 2),
    ],
    ids=["nobody's", "of an earlier time", "of a later time", "deleted"],
)
def test_a_last_contact_that_was_none_is_forgotten(ours: Factory, change: dict[str, Any], day: int) -> None:
    client = ours.row(CLIENTS)
    talk(ours, client, 1)
    put(ours, CONVERSATIONS, talk(ours, client, 2), **change)
    assert contact(ours, client) == JANUARY + timedelta(days=day)


def test_a_conversation_that_goes_to_another_client_takes_its_contact_along(ours: Factory) -> None:
    one, two = (ours.row(CLIENTS) for _ in range(2))
    moved = talk(ours, one, 1)
    put(ours, CONVERSATIONS, moved, client_id=two["id"])
    assert (contact(ours, one), contact(ours, two)) == (None, JANUARY + timedelta(days=1))


def test_a_contact_that_is_not_the_last_goes_unnoticed(ours: Factory) -> None:
    client = ours.row(CLIENTS)
    first, _ = (talk(ours, client, day) for day in (1, 2))
    put(ours, CONVERSATIONS, first, client_id=None)
    assert contact(ours, client) == JANUARY + timedelta(days=2)


def test_a_conversation_that_is_gone_was_a_contact_all_the_same(ours: Factory) -> None:
    client = ours.row(CLIENTS)
    gone = talk(ours, client, 1)
    assert changed(ours.owner, "DELETE FROM assistants.conversations WHERE id = %s", gone) == 1
    assert contact(ours, client) == JANUARY + timedelta(days=1)


# ------------------------------------------------------------------------------------------------ users


def test_a_users_last_use_is_the_last_of_their_keys(ours: Factory) -> None:
    user, other = (ours.row(USERS) for _ in range(2))
    first, second = (ours.row(KEYS, user_id=user["id"]) for _ in range(2))
    assert held(ours, USERS, "last_used_at", user["id"]) is None
    for key, day, last in ((first, 2, 2), (second, 1, 2), (second, 3, 3)):
        put(ours, KEYS, key["id"], last_used_at=JANUARY + timedelta(days=day))
        assert held(ours, USERS, "last_used_at", user["id"]) == JANUARY + timedelta(days=last)
    put(ours, KEYS, second["id"], user_id=other["id"])
    assert held(ours, USERS, "last_used_at", other["id"]) == JANUARY + timedelta(days=3)


def test_a_key_that_was_used_when_it_is_written_counts(ours: Factory) -> None:
    user = ours.row(USERS)
    ours.row(KEYS, user_id=user["id"], last_used_at=JANUARY)
    ours.row(KEYS, last_used_at=JANUARY + timedelta(days=1))
    assert held(ours, USERS, "last_used_at", user["id"]) == JANUARY


@pytest.mark.parametrize(
    ("after", "is_noted"), [(-60, False), (59, False), (61, True)], ids=["earlier", "within a minute", "later"]
)
def test_a_user_was_active_when_they_last_did_something_to_the_minute(
    ours: Factory, after: int, is_noted: bool
) -> None:
    user = ours.row(USERS, last_active_at=JANUARY)
    session = ours.row("identity.user_sessions", user_id=user["id"])
    done = JANUARY + timedelta(seconds=after)
    ours.row("identity.session_activities", user_session_id=session["id"], created_at=done)
    assert held(ours, USERS, "last_active_at", user["id"]) == (done if is_noted else JANUARY)


def test_what_many_users_did_is_noted_for_each(ours: Factory) -> None:
    users = [ours.row(USERS, last_active_at=JANUARY) for _ in range(2)]
    sessions = [ours.row("identity.user_sessions", user_id=user["id"])["id"] for user in users]
    many = "SELECT %s, s, 't', %s::timestamptz + d * interval '1 day' FROM unnest(%s) AS s, generate_series(1, 3) AS d"
    changed(ours.owner, ACT.format(many), ours.tenant_id, JANUARY, sessions)
    active = [held(ours, USERS, "last_active_at", user["id"]) for user in users]
    assert active == [JANUARY + timedelta(days=3)] * 2


@pytest.mark.parametrize("column", ["last_login_at", "last_active_at", "last_used_at"])
def test_a_user_who_was_seen_was_not_changed(ours: Factory, column: str) -> None:
    user = ours.row(USERS)
    put(ours, USERS, user["id"], **{column: JANUARY})
    assert held(ours, USERS, "version", user["id"]) == 1
    put(
        ours, USERS, user["id"], **{column: None if column == "last_login_at" else "now"}, name="Ada", status="inactive"
    )
    assert held(ours, USERS, "version", user["id"]) == 2


# ------------------------------------------------------------------------------------------------ what is hidden


@pytest.mark.parametrize(
    ("table", "column", "child", "reference"),
    [
        (CONVERSATIONS, "message_count", "assistants.messages", "conversation_id"),
        (CLIENTS, "last_contact", CONVERSATIONS, "client_id"),
        (USERS, "last_used_at", KEYS, "user_id"),
        (USERS, "last_active_at", "identity.session_activities", "user_session_id"),
    ],
)
def test_what_a_login_does_not_see_is_counted_all_the_same(
    database: Database, table: str, column: str, child: str, reference: str
) -> None:
    worker = database.connect("worker")
    with new_tenant(database) as factory:
        row = factory.row(table, **({"last_active_at": JANUARY} if column == "last_active_at" else {}))
        given = {reference: row["id"]} | ({"last_used_at": JANUARY} if child == KEYS else {})
        if reference == "user_session_id":
            given[reference] = factory.row("identity.user_sessions", user_id=row["id"])["id"]
        agent = {"agent_id": factory.row("assistants.agents")["id"]} if child == CONVERSATIONS else {}
        factory.owner.execute(HIDE.format(named(table)))
        with worker.transaction():
            bind_tenant(worker, factory.tenant_id)
            assert value(worker, sql.SQL("SELECT count(*) FROM {}").format(named(table))) == 0
            Factory(worker, factory.tenant_id).row(child, **given, **agent)
        assert held(factory, table, column, row["id"]) != row[column]
