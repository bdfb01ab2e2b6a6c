"""Who acts for one user reaches nothing of another's: no persona, client, session or bill; and no role."""

from uuid import UUID

import psycopg
import pytest
from psycopg import sql

from tests.support.database import Database
from tests.support.factory import Factory, Row
from tests.support.statements import changed, rows, value
from tests.support.tenants import acting

TALKS, AGENTS = "assistants.conversations", "governance.agent_sessions"
WRITERS = ("worker", "operator")
TOKENS = "SELECT user_id, total_tokens FROM billing.token_usage_by_user"
MOVE = sql.SQL("UPDATE assistants.conversations SET {} = %s WHERE id = %s")
RAISE = sql.SQL("UPDATE identity.users SET {} WHERE id = %s")
RAISES = [sql.SQL("role = 'admin'"), sql.SQL("permissions = '[\"*\"]'"), sql.SQL("status = 'active'")]
Denied = psycopg.errors.InsufficientPrivilege


class Person:
    """A user of ours with a voice persona, a client and a session."""

    def __init__(self, ours: Factory) -> None:
        self.id: UUID = ours.row("identity.users")["id"]
        self.persona_id, self.client_id, self.session_id = (
            ours.row(name, user_id=self.id)["id"]
            for name in ("assistants.voice_personas", "assistants.clients", "identity.user_sessions")
        )

    def talk(self, **given: object) -> Row:
        return {"persona_id": self.persona_id, "channel": "email"} | given


@pytest.fixture
def ada(ours: Factory) -> Person:
    return Person(ours)


@pytest.fixture
def bob(ours: Factory) -> Person:
    return Person(ours)


@pytest.mark.parametrize("role", WRITERS)
def test_a_user_talks_with_what_is_their_own(
    shared: Database, ours: Factory, ada: Person, bob: Person, role: str
) -> None:
    agent_id = ours.row("assistants.agents")["id"]
    talks = [
        (ada.talk(user_id=ada.id, client_id=ada.client_id), "own"),
        (ada.talk(), "own"),
        ({"agent_id": agent_id, "user_id": ada.id}, "own"),
        (bob.talk(user_id=ada.id), "persona"),
        (ada.talk(client_id=bob.client_id), "client"),
        (ada.talk(user_id=bob.id), "nobody's"),
        ({"agent_id": agent_id, "user_id": ada.id, "client_id": bob.client_id}, "client"),
        ({"agent_id": agent_id}, "nobody's"),
    ]
    with acting(shared, role, ours.tenant_id, ada.id) as connection:
        writer = Factory(connection, ours.tenant_id)
        for values, whose in talks:
            row = values | {"tenant_id": ours.tenant_id}
            if whose == "own":
                assert writer.insert(TALKS, row)["id"]
                continue
            with pytest.raises(Denied, match="user_binds"), connection.transaction():
                writer.insert(TALKS, row)


def test_a_conversation_is_not_carried_over_to_what_is_anothers(
    shared: Database, ours: Factory, ada: Person, bob: Person
) -> None:
    talk = ours.row(TALKS, **ada.talk(user_id=ada.id, client_id=ada.client_id))["id"]
    with acting(shared, "worker", ours.tenant_id, ada.id) as worker:
        for name, others in (("persona_id", bob.persona_id), ("client_id", bob.client_id), ("user_id", bob.id)):
            with pytest.raises(Denied, match="user_binds"), worker.transaction():
                changed(worker, MOVE.format(sql.Identifier(name)), others, talk)
        assert changed(worker, "UPDATE assistants.conversations SET client_id = NULL WHERE id = %s", talk) == 1


def test_who_acts_for_nobody_writes_conversations_of_any_two(
    shared: Database, ours: Factory, ada: Person, bob: Person
) -> None:
    with acting(shared, "worker", ours.tenant_id) as worker:
        values = bob.talk(user_id=ada.id, tenant_id=ours.tenant_id)
        assert Factory(worker, ours.tenant_id).insert(TALKS, values)["user_id"] == ada.id


@pytest.mark.parametrize("role", WRITERS)
def test_an_agent_works_within_its_users_own_session(
    shared: Database, ours: Factory, ada: Person, bob: Person, role: str
) -> None:
    own = ours.values(AGENTS, user_id=ada.id, session_id=ada.session_id)
    move = "UPDATE governance.agent_sessions SET session_id = %s WHERE user_id = %s"
    with acting(shared, role, ours.tenant_id, ada.id) as connection:
        writer = Factory(connection, ours.tenant_id)
        with pytest.raises(Denied, match="user_binds"), connection.transaction():
            writer.insert(AGENTS, own | {"session_id": bob.session_id})
        writer.insert(AGENTS, own)
        with pytest.raises(Denied, match="user_binds"), connection.transaction():
            changed(connection, move, bob.session_id, ada.id)
        assert changed(connection, move, None, ada.id) == 1


@pytest.mark.parametrize(
    ("table", "parent", "given"),
    [
        ("vault.provider_keys", "user_id", {"service": "openai"}),
        ("assistants.voice_personas", "user_id", {"youtube_url": "https://example.com/v"}),
        ("assistants.clients", "user_id", {"telegram_id": "55"}),
        ("assistants.persona_profiles", "persona_id", {}),
        ("people.mindscapes", "person_id", {}),
        ("mail.mailboxes", "persona_id", {"address": "ada@example.com"}),
    ],
)
def test_no_key_tells_what_another_tenant_has(
    shared: Database, ours: Factory, theirs: Factory, table: str, parent: str, given: Row
) -> None:
    taken = theirs.row(table, **given)[parent]
    free = type(theirs)(theirs.owner, theirs.tenant_id).values(table, **given)[parent]
    values = ours.values(table, **given)
    with acting(shared, "worker", ours.tenant_id) as worker:
        for theirs_id in (taken, free):
            with pytest.raises(psycopg.errors.ForeignKeyViolation), worker.transaction():
                Factory(worker, ours.tenant_id).insert(table, values | {parent: theirs_id})


# ------------------------------------------------------------------------------------------------ the bill


def test_a_personas_tokens_are_its_users_whoever_looks(
    shared: Database, ours: Factory, ada: Person, bob: Person
) -> None:
    talk = ours.row(TALKS, **bob.talk(user_id=ada.id))["id"]
    ours.row("assistants.messages", conversation_id=talk, role="persona", token_count=5)
    for user_id, seen in ((None, [(bob.id, 5)]), (bob.id, [(bob.id, 5)]), (ada.id, [])):
        with acting(shared, "reader", ours.tenant_id, user_id) as reader:
            assert rows(reader, TOKENS) == seen


# ------------------------------------------------------------------------------------------------ roles


@pytest.mark.parametrize("role", WRITERS)
@pytest.mark.parametrize("change", RAISES, ids=["role", "permission", "suspension"])
def test_a_user_raises_themselves_to_nothing(shared: Database, ours: Factory, role: str, change: sql.SQL) -> None:
    user_id = ours.row("identity.users", status="suspended")["id"]
    update = RAISE.format(change)
    with acting(shared, role, ours.tenant_id, user_id) as connection:
        with pytest.raises(Denied, match="gives no role"), connection.transaction():
            changed(connection, update, user_id)
        assert changed(connection, "UPDATE identity.users SET name = 'Ada' WHERE id = %s", user_id) == 1
    with acting(shared, role, ours.tenant_id) as connection:
        assert changed(connection, update, user_id) == 1


@pytest.mark.parametrize("given", [{"role": "admin"}, {"permissions": ["*"]}], ids=["role", "permission"])
def test_a_user_makes_themselves_nothing_at_first(shared: Database, ours: Factory, given: Row) -> None:
    user_id = shared.value("SELECT ops.uuid_v7()")
    values = ours.values("identity.users", id=user_id)
    with acting(shared, "worker", ours.tenant_id, user_id) as worker:
        writer = Factory(worker, ours.tenant_id)
        with pytest.raises(Denied, match="gives no role"), worker.transaction():
            writer.insert("identity.users", values | given)
        assert writer.insert("identity.users", values)["role"] == "user"


@pytest.mark.parametrize("given", [{"status": "suspended"}, {"role": "viewer"}], ids=["suspended", "viewer"])
def test_a_user_comes_not_again_as_more(shared: Database, ours: Factory, given: Row) -> None:
    user_id = ours.row("identity.users", **given)["id"]
    leave = "DELETE FROM identity.users WHERE id = %s"
    acts = acting(shared, "worker", ours.tenant_id, user_id)
    with acts as worker, pytest.raises(Denied, match="gives no role"), worker.transaction():
        changed(worker, leave, user_id)
    with acting(shared, "worker", ours.tenant_id) as worker:
        assert changed(worker, leave, user_id) == 1


@pytest.mark.parametrize(
    ("column", "to"),
    [
        ("scopes", '["all"]'),
        ("status", "active"),
        ("revoked_at", None),
        ("expires_at", None),
        ("expires_at", "9000-01-01"),
    ],
)
def test_a_user_opens_no_key_that_was_closed(shared: Database, ours: Factory, column: str, to: str | None) -> None:
    user_id = ours.row("identity.users")["id"]
    closed = {"status": "revoked", "revoked_at": "2026-01-01", "expires_at": "2027-01-01"}
    key = ours.row("identity.api_keys", user_id=user_id, **closed)["id"]
    update = sql.SQL("UPDATE identity.api_keys SET {} = %s WHERE id = %s").format(sql.Identifier(column))
    with acting(shared, "worker", ours.tenant_id, user_id) as worker:
        with pytest.raises(psycopg.Error) as refused, worker.transaction():
            changed(worker, update, to, key)
        assert refused.value.sqlstate in {"42501", "23514"}
        assert changed(worker, "UPDATE identity.api_keys SET name = 'old' WHERE id = %s", key) == 1


def test_a_user_may_leave(shared: Database, ours: Factory) -> None:
    user_id = ours.row("identity.users")["id"]
    with acting(shared, "worker", ours.tenant_id, user_id) as worker:
        changed(worker, "UPDATE identity.users SET status = 'inactive', deleted_at = now() WHERE id = %s", user_id)
        assert value(worker, "SELECT is_active FROM identity.users") is False
