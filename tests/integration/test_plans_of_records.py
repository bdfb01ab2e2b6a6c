"""EXPLAIN guards: secrets, keys, the audit, what retention lets go, the designs' views, with 60,000 rows of each."""

import re
from collections.abc import Iterator
from uuid import UUID

import pytest
from psycopg.types.json import Jsonb

from db.embedded import EmbeddedServer
from tests.support.full import ANALYSED, FEW, MANY, Full, Whose, full, key
from tests.support.plans import Guard, Own, cases, faults

TENANT = {"tenant_id": lambda whose: whose.tenant}
TENANT_ID = {"id": lambda whose: whose.tenant}
# Of an even number the tenant's own, of an odd one a persona's.
SECRET = TENANT | {"secret_type": "other", "key_name": lambda whose: f"k{whose.number}"}
PERSONAS = TENANT | {
    "secret_type": "other", "key_name": lambda whose: f"k{odd(whose)}",
    "persona_id": lambda whose: key("personas", odd(whose)),
}  # fmt: skip
RESEALED = {"texts": ["y" * 60] * 5, "befores": ["x" * 60] * 5, "key_id": "new"}
DEED = {
    "event_type": "e", "category": "action", "description": "d", "metadata": Jsonb({}),
    "kinds": ["document"], "ids": ["x"],
}  # fmt: skip
ROTATED = {"key_ids": ["old"], "after": UUID(int=0), "place": "", "most": 50}
# One pepper hashed it, and one did not.
HASHES = {"key_hashes": lambda whose: ["0" * 32, f"{whose.number:032d}"]}
TOKEN = {"token_hash": lambda whose: str(whose.number)}
PAGE = """
SELECT ops.retention_page(b.run, 1000)
FROM ops.begin_retention('{}', '00000000-0000-4000-8000-000000000001', true) AS b
"""
# A view of a tenant is what it has: of many linear, of few little.
VIEWS = {
    "SELECT * FROM assistants.persona_activity": ("conversations_persona_*",),
    "SELECT * FROM assistants.response_times": ("messages_created_at_idx",),
    "SELECT * FROM governance.active_agent_sessions": ("agent_sessions_status_idx", "governance_events_session_idx"),
    "SELECT * FROM governance.user_activity_summary": ("agent_sessions_user_id_idx",),
    "SELECT * FROM billing.token_usage_by_user": ("messages_created_at_idx", "conversations_pkey", "users_pkey"),
    "SELECT * FROM ops.backup_critical_data": ("users_*", "agent_sessions_created_at_idx", "governance_events_*"),
}


def odd(whose: Whose) -> int:
    return whose.number + (5 if whose is MANY else 1)


GUARDS = [
    Guard("worker", "vault.secret", SECRET, ("secrets_key_name_key",), 10, 20),
    Guard("worker", "vault.secret", PERSONAS, ("secrets_*",), 10, 20),
    Guard("worker", "vault.secret_id", SECRET, ("secrets_key_name_key",), 10, 20),
    Guard(
        "worker", "vault.put_secret",
        SECRET | {"id": Own("secrets"), "text": "y" * 60, "key_id": "new"}, ("secrets_key_name_key",), 10, 50,
    ),
    # A page of what stands under older keys: by the key where that is little, as it is but at the start of a rotation.
    Guard(
        "system", "vault.under",
        ROTATED, ("secrets_key_id_idx", "provider_keys_key_id_idx"), 300, 400, plan="force_custom_plan",
    ),
    # A generic plan walks on by ids: a rotation walks over each table once.
    Guard("system", "vault.under", ROTATED, ("secrets_pkey", "provider_keys_pkey"), 26_000, 1000),
    Guard("system", "vault.reseal_secrets", RESEALED | {"ids": Own("secrets", 5)}, ("secrets_pkey",), 20, 300),
    Guard(
        "system", "vault.reseal_provider_keys",
        RESEALED | {"ids": Own("provider_keys", 5)}, ("provider_keys_pkey",), 20, 300,
    ),
    Guard("worker", "audit.record", DEED | {"tenants": lambda whose: [whose.tenant]}, (), 10, 50),
    # a check of files is one event among all
    Guard("operator", "files.last_check", {}, ("audit_events_*event_type_idx",), 20, 50),
    # as docs/data-model.md has operators ask
    Guard(
        "operator",
        "SELECT * FROM audit.audit_log WHERE table_schema = 'assistants' AND table_name = 'personas'"
        " AND record_id = %(id)s ORDER BY changed_at",
        {"id": lambda whose: str(key("personas", whose.number))}, ("audit_log_record_idx",), 10, 50,
    ),
    *(
        Guard(role, view, {}, indexes, rows, pages, (whose,), plan, blind=False)
        for view, indexes in VIEWS.items()
        for role in ("operator", "reader")
        for plan in ("auto", "force_generic_plan")
        for whose, rows, pages in ((FEW, 600, 1500), (MANY, 150_000, 300_000))
        if whose is FEW or (role, plan) == ("operator", "auto")
    ),
    Guard("operator", "SELECT assistants.effective_profile(%(id)s)", {"id": Own("voices")}, ("voice_personas_pkey",)),
    # an approval that is asked for
    Guard(
        "worker", "UPDATE governance.agent_sessions SET status = 'running' WHERE id = %(id)s",
        {"id": Own("agents")}, ("agent_sessions_pkey", "governance_events_session_idx"), 10, 100, blind=False,
    ),
    # a page of a run: what refers to its table and goes along is asked of the catalogue, some 100 pages a table
    Guard("system", PAGE.format("agent-sessions"), {}, ("agent_sessions_completed_at_idx",), 1000, 8000),
    Guard("system", PAGE.format("sessions"), {}, ("sessions_expires_at_idx",), 600, 2500),
    Guard(
        "system", PAGE.format("user-sessions"),
        {}, ("user_sessions_ended_at_idx", "agent_sessions_session_id_idx"), 1000, 5000, blind=False,
    ),
    # each call of a product, as soon as there are statistics
    *(
        guard
        for role in ("worker", "operator", "system")
        for guard in (
            Guard(role, "identity.find_api_key", HASHES, ("api_keys_key_hash_key", "users_pkey"), 20, 300),
            Guard(role, "identity.find_session", TOKEN, ("sessions_token_hash_idx", "users_pkey"), 600, 50),
        )
    ),
    # a tenant is a row
    Guard("operator", "tenants.list", {}, (), 600, 50),
    Guard("operator", "tenants.find", {"name": "t7"}, (), 600, 50),
    *(Guard(role, "tenants.look", TENANT_ID, ("tenants_pkey",), 50, 100) for role in ("operator", "system")),
    Guard("operator", "tenants.set_status", TENANT_ID | {"status": "suspended"}, ("tenants_pkey",), 10, 100),
]  # fmt: skip


@pytest.fixture(scope="module")
def filled(server_without_fsync: EmbeddedServer, template_database: str) -> Iterator[Full]:
    """Secrets, events and changes, users with their keys, what they talked and what agents did for them."""
    with full(server_without_fsync, template_database, "records", "talks") as database:
        yield database


@pytest.mark.parametrize(("state", "guard"), cases(GUARDS), ids=str)
def test_the_statement_keeps_to_its_index(filled: Full, state: str, guard: Guard) -> None:
    assert faults(filled, state, guard) == []


@pytest.mark.parametrize(
    ("statement", "index", "told"),
    [
        ("UPDATE governance.agent_sessions", "governance.governance_events_session_idx", r"\d+ rows"),  # by a trigger
        # by a function, which without it goes block by block: no more rows, and not the oldest first
        (
            PAGE.format("agent-sessions"), "governance.agent_sessions_completed_at_idx",
            "it does not use agent_sessions_completed_at_idx, .*",
        ),
    ],
)  # fmt: skip
def test_an_index_that_is_gone_is_missed(filled: Full, statement: str, index: str, told: str) -> None:
    [guard] = [guard for guard in GUARDS if guard.statement.startswith(statement)]
    with filled.without(index):
        found = faults(filled, ANALYSED, guard)
    assert [fault for fault in found if re.fullmatch(f"{MANY.name}: {told}", fault)] != [], found


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        ("identity.find_api_key", "identity.api_keys_key_hash_key"),
        ("identity.find_session", "identity.sessions_token_hash_idx"),
    ],
)
def test_a_key_that_is_not_found_by_its_hash_is_missed(filled: Full, statement: str, index: str) -> None:
    [guard] = [guard for guard in GUARDS if guard.statement == statement and guard.role == "worker"]
    with filled.without(index):
        found = faults(filled, ANALYSED, guard)
    name = index.partition(".")[2]
    assert [fault for fault in found if fault.startswith(f"{MANY.name}: it does not use {name}")] != [], found
