"""Tools by words: found by the index, in the tenant that the transaction is bound to alone."""

from uuid import UUID

import psycopg
import pytest

from db.connection import Connection
from tests.support.database import Database
from tests.support.factory import Factory
from tests.support.statements import rows, value
from tests.support.tenants import acting

LOOKING = ("worker", "system", "operator", "reader")
FIND = 'SELECT id FROM tools.find_tools(%s, %s, category => %s, "limit" => %s)'
MANY = """
INSERT INTO tools.tools (tenant_id, name, description, category, schema)
SELECT %s, 'tool ' || n, 'does thing ' || n, 'thing ' || n, '{}' FROM generate_series(1, 5000) AS n
"""
SCANS = "SELECT pg_stat_get_xact_numscans(('tools.tools_' || %s || '_idx')::regclass)"


def find(
    connection: Connection, tenant_id: UUID, words: str | None, category: str | None = None, limit: int = 20
) -> list[UUID]:
    return [found for (found,) in rows(connection, FIND, tenant_id, words, category, limit)]


@pytest.mark.parametrize("role", LOOKING)
def test_tools_are_found_by_words_of_their_description(
    shared: Database, ours: Factory, theirs: Factory, role: str
) -> None:
    slides = ours.row("tools.tools", description="Makes slides of a document", category="office")["id"]
    ours.row("tools.tools", description="Reads a document")
    theirs.row("tools.tools", description="Makes slides of a document")
    with acting(shared, role, ours.tenant_id) as connection:
        assert find(connection, ours.tenant_id, "making slides") == [slides]
        assert find(connection, ours.tenant_id, "pencil") == []


def test_the_tool_that_says_it_more_is_found_first_and_a_category_narrows(shared: Database, ours: Factory) -> None:
    once = ours.row("tools.tools", description="Reads mail of a long and busy day", category="email")["id"]
    often = ours.row("tools.tools", description="Mail, mail and mail", category="office")["id"]
    with acting(shared, "worker", ours.tenant_id) as worker:
        assert find(worker, ours.tenant_id, "mail") == [often, once]
        assert find(worker, ours.tenant_id, "mail", limit=1) == [often]
        assert find(worker, ours.tenant_id, "mail", "email") == [once]
        assert find(worker, ours.tenant_id, None, "email") == [once]


@pytest.mark.parametrize("role", ["worker", "reader"])
def test_one_tool_of_many_is_found_by_the_index(shared: Database, ours: Factory, role: str) -> None:
    shared.rows(MANY, (ours.tenant_id,))
    shared.rows("VACUUM ANALYZE tools.tools")
    with acting(shared, role, ours.tenant_id) as connection:
        found = find(connection, ours.tenant_id, "thing 4711")
        assert len(found) == 1
        assert find(connection, ours.tenant_id, None, "thing 4711") == found
        assert [value(connection, SCANS, index) for index in ("description", "category")] == [1, 1]


@pytest.mark.parametrize("role", LOOKING)
def test_tools_of_a_tenant_that_a_transaction_is_not_bound_to_are_refused(
    shared: Database, ours: Factory, theirs: Factory, role: str
) -> None:
    for bound in (ours.tenant_id, None):
        with (
            acting(shared, role, bound) as connection,
            pytest.raises(psycopg.errors.InsufficientPrivilege, match="not bound to"),
        ):
            find(connection, theirs.tenant_id, "mail")


@pytest.mark.parametrize("role", ["relay", "producer"])
def test_who_only_hands_tasks_on_finds_no_tools(shared: Database, ours: Factory, role: str) -> None:
    with (
        acting(shared, role, ours.tenant_id) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied"),
    ):
        find(connection, ours.tenant_id, "mail")
