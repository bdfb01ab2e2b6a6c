"""Assistants: what triggers keep of conversations and messages, how a persona is to speak, who sees what."""

from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.types.json import Jsonb

from db.migrate import migrate
from tests.support.database import Database
from tests.support.factory import Factory
from tests.support.statements import changed, column, rows, value
from tests.support.tenants import acting

BOUND = ("worker", "operator", "reader")
JANUARY = datetime(2026, 1, 1, tzinfo=UTC)
LAST_CONTACT = "SELECT last_contact FROM assistants.clients WHERE id = %s"
PROFILE = "SELECT assistants.effective_profile(%s)"
SAY = "INSERT INTO assistants.messages (tenant_id, conversation_id, role, content) SELECT %s, unnest(%s), 'user', 'hi'"
SPEAK = (
    "INSERT INTO assistants.messages (tenant_id, conversation_id, role, sender, content) VALUES (%s, %s, %s, %s, 'hi')"
)
MOVE_ONE = """
UPDATE assistants.messages SET conversation_id = %s WHERE id = (SELECT id FROM assistants.messages ORDER BY id LIMIT 1)
"""


def talk(factory: Factory, **given: Any) -> UUID:
    """Make a conversation with a voice persona of the factory's user."""
    persona_id = given.pop("persona_id", None) or factory.parent("assistants.voice_personas")["id"]
    made: UUID = factory.row("assistants.conversations", persona_id=persona_id, channel="email", **given)["id"]
    return made


def counts(connection: psycopg.Connection[Any], *conversations: UUID) -> list[int]:
    query = "SELECT message_count FROM assistants.conversations WHERE id = %s"
    return [value(connection, query, each) for each in conversations]


# ------------------------------------------------------------------------------------------------ conversations


@pytest.mark.parametrize(
    ("before", "change", "after"),
    [
        ("active", "ended_at = now()", ("completed", True, True)),
        ("active", "completed_at = now()", ("completed", True, True)),
        ("active", "status = 'completed'", ("completed", True, True)),
        ("active", "status = 'failed'", ("failed", True, False)),
        ("active", "status = 'cancelled'", ("cancelled", True, False)),
        ("active", "title = 'x'", ("active", False, False)),
        ("completed", "status = 'active'", ("active", False, False)),
        ("completed", "ended_at = NULL", ("active", False, False)),
        ("failed", "status = 'active'", ("active", False, False)),
        ("failed", "ended_at = NULL", ("active", False, False)),
    ],
)
def test_a_conversations_status_and_its_end_follow_each_other(
    shared: Database, ours: Factory, before: str, change: LiteralString, after: tuple[str, bool, bool]
) -> None:
    conversation = talk(ours, status=before)
    update = sql.SQL(
        "UPDATE assistants.conversations SET {} WHERE id = %s"
        " RETURNING status, ended_at IS NOT NULL, completed_at IS NOT NULL"
    )
    with acting(shared, "worker", ours.tenant_id) as worker:
        assert rows(worker, update.format(sql.SQL(change)), conversation) == [after]


def test_a_conversation_that_is_over_when_it_is_written_has_its_end(ours: Factory) -> None:
    begun = JANUARY + timedelta(days=36500)
    persona_id = ours.parent("assistants.voice_personas")["id"]
    given = {"persona_id": persona_id, "channel": "email", "started_at": begun}
    ended = ours.row("assistants.conversations", **given, ended_at=begun + timedelta(hours=1))
    assert (ended["status"], ended["completed_at"]) == ("completed", ended["ended_at"])
    failed = ours.row("assistants.conversations", **given, status="failed")
    assert (failed["ended_at"], failed["completed_at"]) == (begun, None), "never before it began"


def test_a_conversation_does_not_end_before_it_began(shared: Database, ours: Factory) -> None:
    conversation = talk(ours)
    update = "UPDATE assistants.conversations SET ended_at = '1999-01-01' WHERE id = %s"
    with acting(shared, "worker", ours.tenant_id) as worker, pytest.raises(psycopg.errors.CheckViolation) as caught:
        changed(worker, update, conversation)
    assert caught.value.diag.constraint_name in ("conversations_ended_at_check", "conversations_completed_at_check")


def test_a_clients_last_contact_is_the_start_of_its_last_conversation(shared: Database, ours: Factory) -> None:
    client, other = (ours.row("assistants.clients")["id"] for _ in range(2))
    later, earlier = JANUARY + timedelta(days=1), JANUARY
    conversation = talk(ours, client_id=client, started_at=later)
    talk(ours, client_id=client, started_at=earlier)
    talk(ours, started_at=later + timedelta(days=9))
    update = "UPDATE assistants.conversations SET {} = %s WHERE id = %s"
    with acting(shared, "worker", ours.tenant_id) as worker:
        assert value(worker, LAST_CONTACT, client) == later
        changed(worker, update.format("client_id"), other, conversation)
        assert value(worker, LAST_CONTACT, other) == later
        changed(worker, update.format("started_at"), later + timedelta(days=1), conversation)
        assert value(worker, LAST_CONTACT, other) == later + timedelta(days=1)


def test_a_client_of_another_tenant_is_not_contacted(shared: Database, ours: Factory, theirs: Factory) -> None:
    client, conversation = theirs.row("assistants.clients")["id"], talk(ours)
    with acting(shared, "worker", ours.tenant_id) as worker, pytest.raises(psycopg.errors.ForeignKeyViolation):
        changed(worker, "UPDATE assistants.conversations SET client_id = %s WHERE id = %s", client, conversation)
    with acting(shared, "owner") as owner:
        assert value(owner, LAST_CONTACT, client) is None


# ------------------------------------------------------------------------------------------------ messages


@pytest.mark.parametrize(
    ("role", "sender", "speaker"),
    [
        ("user", None, ("user", "user")),
        ("assistant", None, ("assistant", "persona")),
        ("persona", None, ("persona", "persona")),
        (None, "persona", ("persona", "persona")),
        (None, "user", ("user", "user")),
        ("system", None, ("system", None)),
        ("tool", None, ("tool", None)),
    ],
)
def test_a_messages_role_and_sender_follow_each_other(
    shared: Database, ours: Factory, role: str | None, sender: str | None, speaker: tuple[str, str | None]
) -> None:
    with acting(shared, "worker", ours.tenant_id) as worker:
        assert rows(worker, f"{SPEAK} RETURNING role, sender", ours.tenant_id, talk(ours), role, sender) == [speaker]


@pytest.mark.parametrize(
    ("role", "sender", "rule"),
    [
        ("user", "persona", "messages_speaker_check"),
        ("tool", "user", "messages_speaker_check"),
        ("bot", None, "messages_role_check"),
        (None, None, None),
    ],
)
def test_a_message_without_a_speaker_or_with_two_is_refused(
    shared: Database, ours: Factory, role: str | None, sender: str | None, rule: str | None
) -> None:
    with acting(shared, "worker", ours.tenant_id) as worker, pytest.raises(psycopg.IntegrityError) as caught:
        changed(worker, SPEAK, ours.tenant_id, talk(ours), role, sender)
    assert (caught.value.diag.constraint_name, caught.value.diag.column_name) == (rule, None if rule else "role")


def test_messages_are_counted_where_they_come_and_go(shared: Database, ours: Factory) -> None:
    one, two = talk(ours), talk(ours)
    with acting(shared, "worker", ours.tenant_id) as worker:
        changed(worker, SAY, ours.tenant_id, [one, two, one])
        assert counts(worker, one, two) == [2, 1]
        changed(worker, "UPDATE assistants.messages SET conversation_id = %s WHERE conversation_id = %s", two, one)
        assert counts(worker, one, two) == [0, 3]
        changed(worker, "DELETE FROM assistants.messages WHERE conversation_id = %s", two)
        assert counts(worker, one, two) == [0, 0]


def test_a_count_that_was_wrong_does_not_fall_below_nothing(shared: Database, ours: Factory) -> None:
    one, two = talk(ours), talk(ours)
    with acting(shared, "worker", ours.tenant_id) as worker:
        changed(worker, SAY, ours.tenant_id, [one, one])
        changed(worker, "UPDATE assistants.conversations SET message_count = 0 WHERE id = %s", one)
        changed(worker, MOVE_ONE, two)
        changed(worker, "DELETE FROM assistants.messages WHERE conversation_id = %s", one)
        assert counts(worker, one, two) == [0, 1]


def test_a_message_in_anothers_conversation_is_refused_and_not_counted(
    shared: Database, ours: Factory, theirs: Factory
) -> None:
    conversation = talk(theirs)
    with acting(shared, "worker", ours.tenant_id) as worker, pytest.raises(psycopg.errors.ForeignKeyViolation):
        changed(worker, SAY, ours.tenant_id, [conversation])
    with acting(shared, "owner") as owner:
        assert counts(owner, conversation) == [0]


# ------------------------------------------------------------------------------------------------ profiles


@pytest.mark.parametrize(
    ("lower", "upper", "merged"),
    [
        ({"tone": {"energy": 1, "humor": 0}}, {"tone": {"humor": 2}}, {"tone": {"energy": 1, "humor": 2}}),
        ({"a": {"b": {"c": 1}}}, {"a": {"b": {"d": 2}}}, {"a": {"b": {"c": 1, "d": 2}}}),
        ({"traits": [1, 2]}, {"traits": [3]}, {"traits": [3]}),
        ({"a": {"b": 1}}, {"a": "x"}, {"a": "x"}),
        ({"a": 1}, {"a": None}, {"a": None}),
        ({"a": 1}, {}, {"a": 1}),
        ([1], [2], [2]),
    ],
)  # fmt: skip
def test_what_lies_over_a_value_stands(shared: Database, ours: Factory, lower: Any, upper: Any, merged: Any) -> None:
    with acting(shared, "worker", ours.tenant_id) as worker:
        assert value(worker, "SELECT assistants.merge_profile(%s, %s)", Jsonb(lower), Jsonb(upper)) == merged


def test_nothing_lies_over_no_value(shared: Database) -> None:
    with acting(shared, "worker") as worker:
        merge = "SELECT assistants.merge_profile(%s::jsonb, %s::jsonb)"
        assert value(worker, merge, Jsonb({"a": 1}), None) == {"a": 1}
        assert value(worker, merge, None, Jsonb({"a": 1})) == {"a": 1}
        assert value(worker, merge, None, None) is None


@pytest.mark.parametrize("role", BOUND)
def test_a_personas_profile_is_the_extracted_one_under_the_users(shared: Database, ours: Factory, role: str) -> None:
    persona = ours.row("assistants.voice_personas")
    with acting(shared, role, ours.tenant_id) as connection:
        assert value(connection, PROFILE, persona["id"]) == {}
    found, given = {"tone": {"energy": "high", "humor": "none"}}, {"tone": {"humor": "dry"}, "dos": ["smile"]}
    ours.row("assistants.persona_profiles", persona_id=persona["id"], auto_extracted=found, manual_overrides=given)
    with acting(shared, role, ours.tenant_id, persona["user_id"]) as connection:
        effective = {"tone": {"energy": "high", "humor": "dry"}, "dos": ["smile"]}
        assert value(connection, PROFILE, persona["id"]) == effective


def test_a_persona_that_is_not_seen_has_no_profile(shared: Database, ours: Factory, theirs: Factory) -> None:
    persona_id = ours.row("assistants.voice_personas")["id"]
    other = ours.row("identity.users")["id"]
    for tenant_id, user_id, asked in (
        (ours.tenant_id, None, uuid4()),
        (theirs.tenant_id, None, persona_id),
        (ours.tenant_id, other, persona_id),
    ):
        with acting(shared, "worker", tenant_id, user_id) as worker:
            assert value(worker, PROFILE, asked) is None


# ------------------------------------------------------------------------------------------------ users and times


@pytest.fixture
def voices(ours: Factory) -> list[tuple[UUID, UUID]]:
    """The voice personas of two users of ours, each with its profile, and those users."""
    found = []
    for _ in range(2):
        persona = ours.row("assistants.voice_personas", user_id=ours.row("identity.users")["id"])
        ours.row("assistants.persona_profiles", persona_id=persona["id"])
        found.append((persona["id"], persona["user_id"]))
    return found


@pytest.mark.parametrize("role", BOUND)
def test_a_user_sees_its_own_voice_personas(
    shared: Database, ours: Factory, voices: list[tuple[UUID, UUID]], role: str
) -> None:
    personas = {persona_id for persona_id, _ in voices}
    for user_id, seen in ((voices[0][1], {voices[0][0]}), (None, personas)):
        with acting(shared, role, ours.tenant_id, user_id) as connection:
            assert column(connection, "SELECT id FROM assistants.voice_personas") == seen
            assert column(connection, "SELECT persona_id FROM assistants.persona_profiles") == seen


def test_a_user_changes_no_other_users_voice_personas(
    shared: Database, ours: Factory, voices: list[tuple[UUID, UUID]]
) -> None:
    (own, ada), (others, bob) = voices
    with acting(shared, "worker", ours.tenant_id, ada) as worker:
        assert (
            changed(worker, "UPDATE assistants.voice_personas SET name = 'x' WHERE id = ANY (%s)", [own, others]) == 1
        )
        assert changed(worker, "DELETE FROM assistants.persona_profiles WHERE persona_id = %s", others) == 0
        for statement, values in (
            ("UPDATE assistants.voice_personas SET user_id = %s WHERE id = %s", (bob, own)),
            ("UPDATE assistants.persona_profiles SET persona_id = %s WHERE persona_id = %s", (others, own)),
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege), worker.transaction():
                changed(worker, statement, *values)


def test_an_owner_who_is_no_user_is_forgotten_on_the_way_up(database: Database) -> None:
    database.close()
    migrate(database.owner_url, revision="0014")
    insert = (
        "INSERT INTO assistants.personas (tenant_id, name, system_prompt, owner_id)"
        " VALUES (identity.default_tenant_id(), 'P', 'x', %s)"
    )
    user = "INSERT INTO identity.users (tenant_id, email) VALUES (identity.default_tenant_id(), 'a@b.cc') RETURNING id"
    known = database.value(user)
    for owner_id in (known, uuid4()):
        database.rows(insert, (owner_id,))
    migrate(database.owner_url)
    assert database.rows("SELECT owner_id FROM assistants.personas ORDER BY owner_id") == [(known,), (None,)]
