"""While rows of archives come back, what alters, refuses or notes is silent, and what gives back counts is not."""

import psycopg
import pytest

from tests.support.database import Database
from tests.support.factory import Factory
from tests.support.tenants import acting

ON_INSERT = """
SELECT t.tgrelid::regclass::text || '.' || t.tgname, strpos(pg_get_triggerdef(t.oid), 'ops.is_restoring()') > 0
FROM pg_trigger t WHERE NOT t.tgisinternal AND t.tgparentid = 0 AND t.tgtype & 4 <> 0
"""
# What gives back what a deletion took away.
GIVES_BACK = {
    "assistants.conversations.note_contact",
    "assistants.conversations.start_count",
    "assistants.messages.count_added",
    "identity.api_keys.note_key_made",
    "identity.session_activities.note_activity",
    "knowledge.chunk_terms.note_added",
}
# Of tables that no policy lets go, so that no archive has rows of them: rules, steering, tasks that live.
NEVER_ARCHIVED = {
    "alembic_version",
    "identity.operators",
    "identity.tenants",
    "ops.retention_policies",
    "ops.retention_runs",
    "queue.outbox_tasks",
    "queue.settlements",
    "queue.tasks_live",
}
SILENT = {
    "assistants.agents.note_agent",
    "assistants.conversations.settle",
    "assistants.messages.name_speaker",
    "assistants.personas.log_change",
    "governance.agent_sessions.check_approval",
    "governance.agent_sessions.check_references",
    "governance.agent_sessions.log_change",
    "governance.governance_events.copy_session",
    "governance.governance_events.log_change",
    "identity.api_keys.log_change",
    "identity.users.log_change",
    "identity.users.refuse_promotion_at_first",
    "knowledge.chunks.add_terms",
    "knowledge.rag_queries.note_retrieval",
    "mail.emails.complete_outgoing",
    "mail.emails.enqueue_sending",
    "mail.emails.note_email",
    "people.mapper_configs.number",
    "queue.tasks_history.document_follows",
    "tools.mcp_server_configs.check_mcp_server",
    "tools.mcp_server_configs.check_references",
    "tools.mcp_tool_executions.check_mcp_server",
    "tools.mcp_tool_executions.check_message",
    "tools.mcp_tool_executions.note_call",
    "tools.persona_tools.check_references",
    "tools.tool_executions.check_message",
    "tools.tool_executions.note_call",
    "vault.provider_keys.log_change",
    "vault.secrets.log_change",
}
OF_MONTHS = """
SELECT count(*), count(*) FILTER (WHERE strpos(pg_get_triggerdef(t.oid), 'ops.is_restoring()') > 0)
FROM pg_trigger t WHERE NOT t.tgisinternal AND t.tgparentid <> 0 AND t.tgtype & 4 <> 0
"""
SESSION = """
INSERT INTO governance.agent_sessions (tenant_id, user_id, agent_type, status) VALUES (%s, %s, 'coder', 'running')
"""


def test_each_trigger_of_new_rows_is_silent_or_says_why_not(shared: Database) -> None:
    found = dict(shared.rows(ON_INSERT))
    assert {name for name, is_silent in found.items() if is_silent} == SILENT
    loud = {name for name, is_silent in found.items() if not is_silent} - GIVES_BACK
    assert {name.rpartition(".")[0] for name in loud} == NEVER_ARCHIVED
    assert set(found) >= GIVES_BACK


def test_months_have_them_as_their_table_has(shared: Database) -> None:
    [(count, silent)] = shared.rows(OF_MONTHS)
    assert count == silent > 0


@pytest.mark.parametrize("table", sorted(NEVER_ARCHIVED - {"alembic_version", "queue.outbox_tasks"}))
def test_what_is_never_archived_takes_no_policy_that_does(shared: Database, table: str) -> None:
    schema, _, name = table.partition(".")
    with pytest.raises(psycopg.errors.CheckViolation, match="retention"):
        shared.rows(
            "INSERT INTO ops.retention_policies (name, table_schema, table_name, age_column, age, action) "
            "VALUES ('x', %s, %s, 'created_at', '1 year', 'archive')",
            (schema, name),
        )


@pytest.mark.parametrize("role", ["worker", "system"])
def test_who_says_that_rows_are_restored_is_refused_all_the_same(ours: Factory, shared: Database, role: str) -> None:
    user = ours.row("identity.users")["id"]
    with acting(shared, role, ours.tenant_id) as connection:
        connection.execute("SET LOCAL app.restoring = 'on'")
        with pytest.raises(psycopg.errors.CheckViolation, match="cannot run without approval"):
            connection.execute(SESSION, (ours.tenant_id, user))


def test_what_a_function_of_the_owners_writes_for_a_worker_who_says_so_is_noted(
    ours: Factory, shared: Database
) -> None:
    define = """
    CREATE FUNCTION public.add_agent(tenant uuid) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER AS $$
    BEGIN
        INSERT INTO assistants.agents (tenant_id, name, slug) VALUES (tenant, 'A', 'a-' || ops.uuid_v7());
        RETURN ops.is_restoring();
    END
    $$"""
    noted = "SELECT count(*) FROM audit.audit_events WHERE event_type = 'agent.created' AND tenant_id = %s"
    shared.rows(define)
    for role, is_silent in (("worker", False), ("system", True)):
        with acting(shared, role, ours.tenant_id) as connection:
            connection.execute("SET LOCAL app.restoring = 'on'")
            [(restoring,)] = connection.execute("SELECT public.add_agent(%s)", (ours.tenant_id,)).fetchall()
            assert restoring is is_silent
            [(events,)] = connection.execute(noted, (ours.tenant_id,)).fetchall()
            assert events == (0 if is_silent else 1)


def test_the_owners_pages_are_for_the_system_role_alone(shared: Database) -> None:
    for role in ("worker", "operator", "relay", "producer", "reader", "scheduler"):
        with acting(shared, role) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SELECT ops.restore_page(NULL, '', '{}', '[]')")
