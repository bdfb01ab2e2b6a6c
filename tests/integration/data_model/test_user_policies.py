"""What a transaction that acts for a user sees and writes of keys, sessions, clients, conversations and messages."""

from dataclasses import dataclass
from uuid import UUID

import psycopg
import pytest
from psycopg import sql

from tests.support.database import Database
from tests.support.factory import Factory, Row
from tests.support.statements import changed, rows, value
from tests.support.tenants import acting, ids, named

BOUND = ("worker", "operator", "reader")
# Each table with the column that says whose a row is, or of what.
TABLES = {
    "identity.sessions": "user_id",
    "identity.api_keys": "user_id",
    "assistants.clients": "user_id",
    "assistants.conversations": "persona_id",
    "assistants.messages": "conversation_id",
}
GIVE_AWAY = sql.SQL("UPDATE {} SET {} = %s WHERE id = %s")
TOUCH = sql.SQL("UPDATE {} SET tenant_id = tenant_id WHERE id = %s")
DELETE = sql.SQL("DELETE FROM {} WHERE id = %s")
SAY = "INSERT INTO assistants.messages (tenant_id, conversation_id, role, content) VALUES (%s, %s, 'user', 'hi')"
COUNT = "SELECT message_count FROM assistants.conversations WHERE id = %s"
TALK = """
INSERT INTO assistants.conversations (tenant_id, persona_id, client_id, channel, started_at)
VALUES (%s, %s, %s, 'email', '2030-01-01') RETURNING id
"""


@dataclass(frozen=True)
class Person:
    """A user of ours with a row in each of the tables."""

    id: UUID
    rows: dict[str, Row]

    @property
    def keys(self) -> dict[str, UUID]:
        return {name: row["id"] for name, row in self.rows.items()}


def person(factory: Factory) -> Person:
    user_id = factory.row("identity.users")["id"]
    persona = factory.row("assistants.voice_personas", user_id=user_id)["id"]
    made = {name: factory.row(name, user_id=user_id) for name, owner in TABLES.items() if owner == "user_id"}
    client = made["assistants.clients"]["id"]
    talk = factory.row("assistants.conversations", persona_id=persona, client_id=client)
    said = {"role": "persona", "processing_time_ms": 7, "token_count": 3}
    message = factory.row("assistants.messages", conversation_id=talk["id"], **said)
    return Person(user_id, made | {"assistants.conversations": talk, "assistants.messages": message})


@pytest.fixture
def ada(ours: Factory) -> Person:
    return person(ours)


@pytest.fixture
def bob(ours: Factory) -> Person:
    return person(ours)


@pytest.mark.parametrize("role", BOUND)
def test_who_acts_for_a_user_sees_that_users_rows(
    shared: Database, ours: Factory, ada: Person, bob: Person, role: str
) -> None:
    tenants_own = ours.row("identity.api_keys")["id"]
    with acting(shared, role, ours.tenant_id, ada.id) as connection:
        assert {name: ids(connection, name) for name in TABLES} == {name: {key} for name, key in ada.keys.items()}
    with acting(shared, role, ours.tenant_id) as connection:
        seen = {name: ids(connection, name) for name in TABLES}
    both = {name: {ada.keys[name], bob.keys[name]} for name in TABLES}
    assert seen == both | {"identity.api_keys": both["identity.api_keys"] | {tenants_own}}


@pytest.mark.parametrize("role", BOUND)
def test_another_tenants_user_sees_nothing_of_ours(
    shared: Database, ours: Factory, theirs: Factory, ada: Person, role: str
) -> None:
    stranger = theirs.row("identity.users")["id"]
    with acting(shared, role, ours.tenant_id, stranger) as connection:
        assert [ids(connection, name) for name in TABLES] == [set()] * len(TABLES)


def test_a_user_sees_a_conversation_of_its_own_with_an_agent(shared: Database, ours: Factory, ada: Person) -> None:
    made = ours.row("assistants.conversations", user_id=ada.id)["id"]
    ours.row("assistants.conversations", user_id=ours.row("identity.users")["id"])
    with acting(shared, "worker", ours.tenant_id, ada.id) as worker:
        assert ids(worker, "assistants.conversations") == {made, ada.keys["assistants.conversations"]}
        assert changed(worker, SAY, ours.tenant_id, made) == 1


@pytest.mark.parametrize(("name", "owner"), TABLES.items())
def test_who_acts_for_a_user_writes_that_users_rows_alone(
    shared: Database, ours: Factory, ada: Person, bob: Person, name: str, owner: str
) -> None:
    own, others = (ours.values(name, **{owner: each.rows[name][owner]}) for each in (ada, bob))
    give_away, touch, delete = (each.format(named(name), sql.Identifier(owner)) for each in (GIVE_AWAY, TOUCH, DELETE))
    with acting(shared, "worker", ours.tenant_id, ada.id) as worker:
        writer = Factory(worker, ours.tenant_id)
        assert writer.insert(name, own)
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="user_binds"), worker.transaction():
            writer.insert(name, others)
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="user_binds"), worker.transaction():
            changed(worker, give_away, bob.rows[name][owner], ada.keys[name])
        for statement in (touch, delete):
            assert changed(worker, statement, bob.keys[name]) == 0
            assert changed(worker, statement, ada.keys[name]) == 1


@pytest.mark.parametrize("role", ["system", "owner"])
def test_system_and_owner_pass(shared: Database, ours: Factory, ada: Person, bob: Person, role: str) -> None:
    with acting(shared, role, ours.tenant_id, ada.id) as connection:
        assert all({ada.keys[name], bob.keys[name]} <= ids(connection, name) for name in TABLES)


# ------------------------------------------------------------------------------------------------ what follows rows


def test_counters_follow_what_is_done_for_a_user(shared: Database, ours: Factory, ada: Person) -> None:
    talk, client = (ada.keys[f"assistants.{name}"] for name in ("conversations", "clients"))
    with acting(shared, "worker", ours.tenant_id, ada.id) as worker:
        assert value(worker, COUNT, talk) == 1
        changed(worker, SAY, ours.tenant_id, talk)
        assert value(worker, COUNT, talk) == 2
        changed(worker, "DELETE FROM assistants.messages WHERE conversation_id = %s", talk)
        assert value(worker, COUNT, talk) == 0
        changed(worker, TALK, ours.tenant_id, ada.rows["assistants.conversations"]["persona_id"], client)
        query = "SELECT last_contact = '2030-01-01' FROM assistants.clients WHERE id = %s"
        assert value(worker, query, client)


@pytest.mark.parametrize("role", BOUND)
def test_views_show_a_user_its_own(shared: Database, ours: Factory, ada: Person, bob: Person, role: str) -> None:
    activity = "SELECT user_id, conversation_count, message_count FROM assistants.persona_activity"
    times = "SELECT response_count FROM assistants.response_times"
    tokens = "SELECT user_id, total_tokens FROM billing.token_usage_by_user"
    with acting(shared, role, ours.tenant_id, ada.id) as connection:
        assert rows(connection, activity) == [(ada.id, 1, 1)]
        assert rows(connection, times) == [(1,)]
        assert rows(connection, tokens) == [(ada.id, 3)]
    with acting(shared, role, ours.tenant_id) as connection:
        assert sorted(rows(connection, tokens)) == sorted([(ada.id, 3), (bob.id, 3)])
        assert rows(connection, times) == [(2,)]
