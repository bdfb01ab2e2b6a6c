"""The views of assistants: how much personas talk and how long their answers take, for whoever may see it."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.support.database import Database
from tests.support.factory import Factory
from tests.support.statements import rows
from tests.support.tenants import acting

LOOKING = ("worker", "operator", "reader")
ACTIVITY = """
SELECT persona_id, conversation_count, message_count, last_started_at FROM assistants.persona_activity
WHERE tenant_id = %s ORDER BY conversation_count DESC
"""
TIMES = "SELECT tenant_id, response_count, avg_time_ms, median_time_ms, p95_time_ms FROM assistants.response_times"
STARTED = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def personas(ours: Factory) -> list[dict[str, Any]]:
    """Voice personas of two users: one has talked twice and once more in what is deleted, the other never."""
    talker, silent = (ours.row("assistants.voice_personas", user_id=ours.row("identity.users")["id"]) for _ in range(2))
    said = {"persona_id": talker["id"], "channel": "email"}
    for day in range(2):
        ours.row("assistants.conversations", **said, started_at=STARTED + timedelta(days=day))
    ours.row("assistants.conversations", **said, deleted_at=STARTED)
    ours.owner.execute("UPDATE assistants.conversations SET message_count = 3 WHERE tenant_id = %s", (ours.tenant_id,))
    return [talker, silent]


@pytest.mark.parametrize("role", LOOKING)
def test_activity_counts_what_each_persona_talked(
    shared: Database, ours: Factory, personas: list[dict[str, Any]], role: str
) -> None:
    talker, silent = personas
    with acting(shared, role, ours.tenant_id) as connection:
        assert rows(connection, ACTIVITY, ours.tenant_id) == [
            (talker["id"], 2, 6, STARTED + timedelta(days=1)),
            (silent["id"], 0, 0, None),
        ]


def test_activity_shows_a_user_its_own_and_a_tenant_none_of_anothers(
    shared: Database, ours: Factory, theirs: Factory, personas: list[dict[str, Any]]
) -> None:
    _, silent = personas
    with acting(shared, "reader", ours.tenant_id, silent["user_id"]) as reader:
        assert [found[0] for found in rows(reader, ACTIVITY, ours.tenant_id)] == [silent["id"]]
    with acting(shared, "reader", theirs.tenant_id) as reader:
        assert rows(reader, ACTIVITY, ours.tenant_id) == []
    with acting(shared, "system") as system:
        assert len(rows(system, ACTIVITY, ours.tenant_id)) == 2


@pytest.fixture
def answered(shared: Database, ours: Factory) -> UUID:
    """A tenant whose persona answered three times in the last days, and once before."""
    before = datetime.now(UTC) - timedelta(days=8)
    shared.rows("SELECT ops.create_month('assistants.messages', %s)", (before,))
    persona_id = ours.row("assistants.voice_personas")["id"]
    conversation = ours.row("assistants.conversations", persona_id=persona_id, channel="email")["id"]
    said = {"conversation_id": conversation, "content": "hi"}
    for milliseconds in (100, 200, 300):
        ours.row("assistants.messages", **said, role="persona", processing_time_ms=milliseconds)
    ours.row("assistants.messages", **said, role="persona", processing_time_ms=9000, created_at=before)
    ours.row("assistants.messages", **said, role="user", processing_time_ms=9000)
    ours.row("assistants.messages", **said, role="persona")
    return ours.tenant_id


@pytest.mark.parametrize("role", LOOKING)
def test_response_times_are_of_the_last_seven_days_answers(shared: Database, answered: UUID, role: str) -> None:
    with acting(shared, role, answered) as connection:
        assert rows(connection, TIMES) == [(answered, 3, 200, 200.0, 290.0)]


def test_response_times_are_none_of_anothers(shared: Database, theirs: Factory, answered: UUID) -> None:
    for tenant_id in (theirs.tenant_id, None):
        with acting(shared, "reader", tenant_id) as reader:
            assert rows(reader, TIMES) == []
    with acting(shared, "system") as system:
        assert answered in {found[0] for found in rows(system, TIMES)}


@pytest.mark.parametrize("view", ["persona_activity", "response_times"])
@pytest.mark.parametrize("role", ["relay", "producer"])
def test_the_views_are_no_relays_and_no_producers(shared: Database, role: str, view: str) -> None:
    with acting(shared, role) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        rows(connection, f"TABLE assistants.{view}")
