"""EXPLAIN guards: counters are looked at page by page, a tenant is erased, rows are counted and noted as they come."""

from collections.abc import Iterator
from typing import Any

import pytest
from psycopg.types.json import Jsonb

from db.embedded import EmbeddedServer
from tests.support.full import ANALYSED, FEW, Full, Whose, full, key
from tests.support.plans import Guard, Own, cases, faults

TENANT = {"id": lambda whose: whose.tenant}
# A tenant of which nothing is left but its row.
GONE = Whose("gone", key("tenants", 503), 1)
# By counter: the table's rows here, its index, what it is counted by, and how many rows a page has.
COUNTERS: tuple[tuple[str, str, str, tuple[str, ...], int], ...] = (
    ("message_count", "conversations", "conversations_pkey", ("messages_*",), 500),
    ("last_contact", "clients", "clients_pkey", ("conversations_client_id_idx",), 1000),
    ("last_used_at", "users", "users_pkey", ("api_keys_user_id_idx",), 1000),
    (
        "last_active_at", "users", "users_pkey",
        ("user_sessions_user_id_idx", "session_activities_user_session_id_idx"), 200,
    ),
    ("usage_count", "mappers", "mapper_configs_pkey", ("personas_mapper_id_idx",), 20),
)  # fmt: skip
# Quotas of those whose number is above 100: three of each.
QUOTAS = [key("quotas", number) for number in range(600, 605)]
CALL = Jsonb({"x": 1})


def counted(name: str, rows: str, index: str, by: tuple[str, ...], most: int) -> Iterator[Guard]:
    """Yield guards of a counter's three statements: a page that is looked at, five rows that are locked and mended."""
    page = {"after": key(rows, 30_000), "most": most}
    yield Guard("system", f"counters.look_at_{name}", page, (index, *by), 4 * most + 100, 16 * most + 100)
    yield Guard("system", f"counters.lock_{name}", {"ids": Own(rows, 5)}, (index,), 10, 50)
    yield Guard("system", f"counters.mend_{name}", {"ids": Own(rows, 5)}, (index, *by), 50, 400)


def erased(relation: str, rows: int, pages: int, index: str) -> Iterator[Guard]:
    """Yield guards of a page of 100 rows that a tenant has few of, and of the last one, which finds nothing."""
    values: dict[str, Any] = TENANT | {"relation": relation, "most": 100, "first_block": 0}
    yield Guard("system", "tenants.erase_page", values, (index,), rows, pages, (FEW,), blind=False)
    yield Guard("system", "tenants.erase_page", values, (index,), 50, 3500, (GONE,), blind=False)


GUARDS = [
    *(guard for counter in COUNTERS for guard in counted(*counter)),
    # of a tenant's metric all measures of the period
    Guard(
        "system", "counters.look_at_used_value",
        {"after": key("quotas", 600), "most": 200}, ("tenant_quotas_pkey", "usage_metrics_*"), 15_000, 8000,
    ),
    Guard("system", "counters.lock_used_value", {"ids": QUOTAS}, ("tenant_quotas_pkey",), 10, 50),
    Guard("system", "counters.mend_used_value", {"ids": QUOTAS}, ("tenant_quotas_pkey", "usage_metrics_*"), 300, 400),
    # of 60,000 a hundred have expired
    *(
        guard
        for rows, relation, index in (
            ("generated", "personas", "personas_unmarked_idx"),
            ("api_keys", "api_keys", "api_keys_status_expires_at_idx"),
        )
        for guard in (
            Guard("system", f"expiry.due_{relation}", {"most": 1000}, (index,), 150, 250),
            Guard(
                "system", f"expiry.mark_{relation}",
                {"ids": [key(rows, 600 * number) for number in range(1, 6)]}, (f"{relation}_pkey",), 20, 200,
            ),
        )
    ),
    # pages with what goes along, and the catalogue each time
    *erased("assistants.messages", 600, 9000, "messages_created_at_idx"),
    *erased("identity.api_keys", 400, 4000, "api_keys_*"),
    *erased("governance.governance_events", 400, 6000, "governance_events_*"),
    *erased("identity.users", 2500, 16_000, "users_*"),
    Guard("system", "tenants.empty", TENANT, (), 1000, 100),
    # all tables that tenants own, one by one
    Guard("system", "tenants.leftover", TENANT, (), 300, 4000, (GONE,)),
    Guard("system", "tenants.remove", TENANT, ("tenants_pkey", "messages_*", "users_*"), 300, 5000, (GONE,)),
    # what rows cost that are counted or noted as they come
    Guard(
        "worker",
        "INSERT INTO assistants.messages (tenant_id, conversation_id, role, sender, content)"
        " VALUES (%(id)s, %(talk)s, 'user', 'user', 'x')",
        TENANT | {"talk": Own("conversations")}, ("conversations_pkey",), 10, 50,
    ),
    Guard(
        "worker", "UPDATE assistants.conversations SET client_id = NULL WHERE id = %(id)s",
        {"id": Own("conversations")}, ("conversations_pkey", "clients_pkey"), 20, 100,
    ),
    Guard(
        "worker",
        "INSERT INTO identity.session_activities (tenant_id, user_session_id, activity_type)"
        " VALUES (%(id)s, %(session)s, 'a')",
        TENANT | {"session": Own("user_sessions")}, ("user_sessions_pkey", "users_pkey"), 10, 50,
    ),
    Guard(
        "worker",
        "INSERT INTO tools.tool_executions (tenant_id, tool_name, conversation_id, input, status)"
        " VALUES (%(id)s, 'x', %(talk)s, %(input)s, 'success')",
        TENANT | {"talk": Own("conversations"), "input": CALL}, ("conversations_pkey",), 10, 100,
    ),
]  # fmt: skip


@pytest.fixture(scope="module")
def filled(server_without_fsync: EmbeddedServer, template_database: str) -> Iterator[Full]:
    """Users with what they talked, have and use; the tenants of many rows and of few are deleted."""
    with full(server_without_fsync, template_database, "talks", "owned") as database:
        yield database


@pytest.mark.parametrize(("state", "guard"), cases(GUARDS), ids=str)
def test_the_statement_keeps_to_its_index(filled: Full, state: str, guard: Guard) -> None:
    assert faults(filled, state, guard) == []


# By a part of a statement, and by the foreign keys of all that refers to a tenant.
@pytest.mark.parametrize(
    ("statement", "index", "told"),
    [
        ("counters.mend_last_used_at", "identity.api_keys_user_id_idx", "it does not use api_keys_user_id_idx"),
        ("counters.look_at_usage_count", "people.personas_mapper_id_idx", "it does not use personas_mapper_id_idx"),
        (
            "tenants.remove",
            "assistants.messages_created_at_idx",
            "it reads all of messages",
        ),
    ],
)
def test_an_index_that_is_gone_is_missed(filled: Full, statement: str, index: str, told: str) -> None:
    [guard] = [guard for guard in GUARDS if guard.statement == statement]
    with filled.without(index):
        found = faults(filled, ANALYSED, guard)
    assert [fault for fault in found if told in fault] != [], found
