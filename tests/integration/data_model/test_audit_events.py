"""Deeds that are rows: a trigger notes each, whoever writes it, and says nothing of what was asked, said or sent."""

from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row

from db import audit
from db.connection import Connection
from tests.support.database import Database
from tests.support.factory import Factory, Row
from tests.support.statements import changed, rows
from tests.support.tenants import acting, let_go

CALLS, MCP_CALLS = "tools.tool_executions", "tools.mcp_tool_executions"
AGENTS, EMAILS, RUNS, SEARCHES = "assistants.agents", "mail.emails", "assistants.runs", "knowledge.rag_queries"
WRITERS = ("worker", "system", "operator")
NOTED = """
SELECT t.tgrelid::regclass::text, array_agg(t.tgname::text ORDER BY t.tgname)
FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
WHERE p.pronamespace = 'audit'::regnamespace AND p.proname LIKE 'note\\_%' AND t.tgparentid = 0 GROUP BY 1
"""
END = sql.SQL("UPDATE {} SET status = %s, duration_ms = 7 WHERE id = %s")
LIFE = (
    "UPDATE assistants.agents SET name = 'Ada' WHERE id = %s",
    "UPDATE assistants.agents SET status = 'inactive', system_prompt = 'x' WHERE id = %s",
    "UPDATE assistants.agents SET deleted_at = now() WHERE id = %s",
    "DELETE FROM assistants.agents WHERE id = %s",
)
SECRET = "a word that nobody is to read"
Denied = psycopg.errors.InsufficientPrivilege


def noted(connection: Connection, resource_id: object) -> list[Row]:
    """Return the deeds that concern a thing, from the first to the last."""
    query = "SELECT * FROM audit.audit_events WHERE resource_id = %s ORDER BY created_at, id"
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query, (str(resource_id),)).fetchall()


def told(event: Row) -> tuple[Any, ...]:
    """Return what a deed is, and how it ended."""
    return tuple(event[name] for name in ("event_type", "event_category", "resource_type", "status", "error_message"))


def calls(ours: Factory, table: str, **given: Any) -> Row:
    """Return a call's columns; a tool's with its run, an MCP server's with its conversation."""
    return ours.values(table, **given) | {"tool_name": "search"}


def email(ours: Factory, status: str, **given: Any) -> Row:
    direction = "inbound" if status == "received" else "outbound"
    sent = {"message_id": f"<{uuid4()}@x>", "sending_at": "2026-01-01", "sent_at": "2026-01-01"}
    return ours.values(EMAILS, direction=direction, status=status, to_emails=["a@b", "c@d"], **sent, **given)


def test_what_is_noted_is_said(shared: Database) -> None:
    assert dict(shared.rows(NOTED)) == {
        AGENTS: ["note_agent"],
        SEARCHES: ["note_retrieval"],
        EMAILS: ["note_email", "note_email_ended"],
        MCP_CALLS: ["note_call", "note_call_ended"],
        CALLS: ["note_call", "note_call_ended"],
    }


# ------------------------------------------------------------------------------------------------ calls of tools


@pytest.mark.parametrize("table", [CALLS, MCP_CALLS])
@pytest.mark.parametrize("role", WRITERS)
@pytest.mark.parametrize(
    ("ended", "as_told"),
    [
        ("success", ("action", "success", None)),
        ("error", ("error", "failure", "error")),
        ("timeout", ("error", "failure", "timeout")),
    ],
)
def test_a_call_is_noted_when_it_has_ended(
    shared: Database, ours: Factory, role: str, table: str, ended: str, as_told: tuple[str, ...]
) -> None:
    category, status, error = as_told
    values = calls(ours, table)
    with acting(shared, role, ours.tenant_id) as connection:
        at_once = Factory(connection, ours.tenant_id).insert(table, values | {"status": ended, "duration_ms": 7})["id"]
        later = Factory(connection, ours.tenant_id).insert(table, values)["id"]
        assert noted(connection, later) == []
        changed(connection, END.format(sql.Identifier(*table.split("."))), ended, later)
        for call_id in (at_once, later):
            [event] = noted(connection, call_id)
            assert told(event) == ("tool_call", category, table.partition(".")[2].removesuffix("s"), status, error)
            assert (event["tenant_id"], event["actor"]) == (ours.tenant_id, f"greenroom_{role}")
            assert (event["metadata"]["tool_name"], event["metadata"]["duration_ms"]) == ("search", 7)


@pytest.mark.parametrize("table", [CALLS, MCP_CALLS])
def test_a_call_whose_end_is_corrected_is_noted_again_and_no_other_change_is(
    shared: Database, ours: Factory, table: str
) -> None:
    name = sql.Identifier(*table.split("."))
    with acting(shared, "worker", ours.tenant_id) as worker:
        call_id = Factory(worker, ours.tenant_id).insert(table, calls(ours, table) | {"status": "success"})["id"]
        changed(worker, sql.SQL("UPDATE {} SET metadata = '{{}}', status = status WHERE id = %s").format(name), call_id)
        assert len(noted(worker, call_id)) == 1
        changed(worker, END.format(name), "error", call_id)
        assert sorted(event["status"] for event in noted(worker, call_id)) == ["failure", "success"]


def test_a_runs_call_is_its_users_and_its_personas(shared: Database, ours: Factory) -> None:
    run = ours.row(RUNS)
    values = calls(ours, CALLS, run_id=run["id"]) | {
        "tool_name": None,
        "status": "success",
        "trace_id": run["trace_id"],
    }
    with acting(shared, "worker", ours.tenant_id) as worker:
        [event] = noted(worker, Factory(worker, ours.tenant_id).insert(CALLS, values)["id"])
    assert [event[name] for name in ("user_id", "persona_id", "run_id", "trace_id")] == [
        run["user_id"],
        run["persona_id"],
        run["id"],
        run["trace_id"],
    ]
    tool = ours.parent("tools.tools")
    assert event["metadata"] == {
        "tool_id": str(tool["id"]),
        "tool_name": tool["name"],
        "agent_id": str(run["agent_id"]),
    }
    assert event["description"] == f"tool {tool['name']} called"


@pytest.mark.parametrize("table", [CALLS, MCP_CALLS])
def test_a_conversations_call_is_who_talks_and_the_agents_personas(shared: Database, ours: Factory, table: str) -> None:
    agent = ours.row(AGENTS, persona_id=ours.row("assistants.personas")["id"])
    user_id = ours.row("identity.users")["id"]
    talk = ours.row("assistants.conversations", agent_id=agent["id"], user_id=user_id)
    values = calls(ours, table, conversation_id=talk["id"], agent_id=agent["id"]) | {"status": "success"}
    with acting(shared, "worker", ours.tenant_id) as worker:
        [event] = noted(worker, Factory(worker, ours.tenant_id).insert(table, values)["id"])
    assert (event["user_id"], event["persona_id"]) == (user_id, agent["persona_id"])
    assert event["metadata"].items() >= {"agent_id": str(agent["id"]), "conversation_id": str(talk["id"])}.items()


def test_an_mcp_servers_code_of_an_error_is_kept(shared: Database, ours: Factory) -> None:
    values = calls(ours, MCP_CALLS) | {"status": "error", "error_code": "E7"}
    with acting(shared, "worker", ours.tenant_id) as worker:
        factory = Factory(worker, ours.tenant_id)
        [event] = noted(worker, factory.insert(MCP_CALLS, values)["id"])
        [fine] = noted(worker, factory.insert(MCP_CALLS, values | {"status": "success"})["id"])
    assert (event["error_message"], fine["error_message"]) == ("error: E7", None)


# ------------------------------------------------------------------------------------------------ searches, mail


@pytest.mark.parametrize("role", WRITERS)
def test_a_search_is_noted(shared: Database, ours: Factory, role: str) -> None:
    persona_id = uuid4()
    collection_id = ours.row("knowledge.collections")["id"]
    asked = {"collection_id": collection_id, "filters": {"persona_id": str(persona_id)}, "top_score": 0.5}
    values = ours.values(SEARCHES, **asked) | {"result_chunk_ids": [uuid4(), uuid4()], "response_ms": 12}
    with acting(shared, role, ours.tenant_id) as connection:
        [event] = noted(connection, Factory(connection, ours.tenant_id).insert(SEARCHES, values)["id"])
    assert told(event) == ("rag_retrieval", "access", "rag_query", "success", None)
    assert (event["persona_id"], event["actor"]) == (persona_id, f"greenroom_{role}")
    facts = {
        "collection_id": str(collection_id),
        "strategy": "hybrid",
        "results": 2,
        "top_score": 0.5,
        "response_ms": 12,
    }
    assert event["metadata"] == facts


@pytest.mark.parametrize("persona", ["nobody", 7, None, {"id": 1}])
def test_a_search_that_names_no_persona_is_noted_too(shared: Database, ours: Factory, persona: object) -> None:
    with acting(shared, "worker", ours.tenant_id) as worker:
        search = Factory(worker, ours.tenant_id).row(SEARCHES, filters={"persona_id": persona})
        assert [event["persona_id"] for event in noted(worker, search["id"])] == [None]


@pytest.mark.parametrize(
    ("status", "as_told"),
    [
        ("received", ("email_received", "system", "email", "success", None)),
        ("sent", ("email_sent", "action", "email", "success", None)),
        ("failed", ("email_sent", "error", "email", "failure", "failed: 550")),
    ],
)
def test_mail_is_noted(shared: Database, ours: Factory, status: str, as_told: tuple[Any, ...]) -> None:
    run = ours.row(RUNS)
    values = email(ours, status, run_id=run["id"], size_bytes=9) | {"error_code": 550 if status == "failed" else None}
    with acting(shared, "worker", ours.tenant_id) as worker:
        [event] = noted(worker, Factory(worker, ours.tenant_id).insert(EMAILS, values)["id"])
    assert told(event) == as_told
    assert (event["persona_id"], event["run_id"], event["trace_id"]) == (
        values["persona_id"],
        run["id"],
        run["trace_id"],
    )
    assert event["user_id"] == run["user_id"]
    assert event["metadata"] == {"recipients": 2, "size_bytes": 9}


def test_mail_is_noted_each_time_that_it_ends_and_not_before(shared: Database, ours: Factory) -> None:
    with acting(shared, "worker", ours.tenant_id) as worker:
        email_id = Factory(worker, ours.tenant_id).insert(EMAILS, email(ours, "queued"))["id"]
        for status in ("sending", "failed", "failed", "sending", "unknown", "sent"):
            changed(
                worker,
                "UPDATE mail.emails SET status = %s, attempt_count = attempt_count + 1 WHERE id = %s",
                status,
                email_id,
            )
        events = noted(worker, email_id)
    assert sorted((event["status"], event["metadata"]["attempts"]) for event in events) == [
        ("failure", 2),
        ("success", 6),
    ]


# ------------------------------------------------------------------------------------------------ agents


def test_an_agents_life_is_noted(shared: Database, ours: Factory) -> None:
    persona_id = ours.row("assistants.personas")["id"]
    with acting(shared, "worker", ours.tenant_id) as worker:
        agent = Factory(worker, ours.tenant_id).row(AGENTS, name="Ada", persona_id=persona_id)
        for statement in LIFE:
            changed(worker, statement, agent["id"])
        events = {event["event_type"]: event for event in noted(worker, agent["id"])}
        assert len(noted(worker, agent["id"])) == 4, "what changes nothing is not noted"
    assert set(events) == {"agent.created", "agent.updated", "agent.deleted"}
    assert {event["persona_id"] for event in events.values()} == {persona_id}
    updated = events["agent.updated"]
    assert updated["metadata"] == {"changed": ["is_active", "status", "system_prompt"]}
    assert updated["old_values"] == {"status": "active", "is_active": True}
    assert updated["new_values"] == {"status": "inactive", "is_active": False}


def test_agents_that_go_with_their_tenant_are_noted(shared: Database, ours: Factory) -> None:
    agent = ours.row(AGENTS)
    let_go(shared.connect(), ours.tenant_id)
    with acting(shared, "system") as system:
        found = [(event["event_type"], event["tenant_id"]) for event in noted(system, agent["id"])]
    assert found == [("agent.created", ours.tenant_id), ("agent.deleted", ours.tenant_id)]


# ------------------------------------------------------------------------------------------------ by whom, and of whom


def written(connection: Connection, ours: Factory, values: dict[str, Row]) -> list[Row]:
    """Write a row of each kind; return their deeds."""
    factory = Factory(connection, ours.tenant_id)
    return [event for table, row in values.items() for event in noted(connection, factory.insert(table, row)["id"])]


def one_of_each(ours: Factory, **run: Any) -> dict[str, Row]:
    """Return columns of a row of each kind that is noted at once."""
    ended = {"status": "success"}
    return {
        CALLS: calls(ours, CALLS, **run) | ended,
        MCP_CALLS: calls(ours, MCP_CALLS) | ended,
        SEARCHES: ours.values(SEARCHES),
        EMAILS: email(ours, "sent", **run),
        AGENTS: ours.values(AGENTS),
    }


def test_a_deed_is_whose_the_session_says(shared: Database, ours: Factory) -> None:
    user_id, correlation_id = ours.row("identity.users")["id"], uuid4()
    values = one_of_each(ours, run_id=ours.row(RUNS)["id"])
    with acting(shared, "worker", ours.tenant_id, user_id) as worker:
        worker.execute("SELECT set_config('app.correlation_id', %s, true)", (str(correlation_id),))
        events = written(worker, ours, values)
        audit.record(worker, "door.opened", "door opened", audit.Resource("door", "7", ours.tenant_id))
        events += noted(worker, 7)
    assert len(events) == 6
    assert {event["user_id"] for event in events} == {user_id}
    # a run's own trace goes before
    assert [event["trace_id"] for event in events if event["run_id"] is None] == [str(correlation_id)] * 4


@pytest.mark.parametrize("user", ["", "ada", "7"])
def test_a_session_that_names_nobody_refuses_no_deed(shared: Database, ours: Factory, user: str) -> None:
    values = one_of_each(ours)
    del values[AGENTS]  # its other triggers are none of ours
    with acting(shared, "system") as system:
        for name in ("current_user_id", "correlation_id"):
            system.execute("SELECT set_config(%s, %s, true)", (f"app.{name}", user))
        events = written(system, ours, values)
    assert [(event["user_id"], event["trace_id"]) for event in events if event["run_id"] is None] == [(None, None)] * 4


def test_no_word_of_what_was_asked_said_or_sent_is_noted(shared: Database, ours: Factory) -> None:
    said = {"text": SECRET}
    values = one_of_each(ours)
    values[CALLS] |= {"status": "error", "input": said, "output": said, "error_message": SECRET, "metadata": said}
    values[MCP_CALLS] |= {"status": "error", "parameters": said, "result": said, "error_message": SECRET}
    values[SEARCHES] |= {"query_text": SECRET, "filters": said, "feedback": said}
    values[EMAILS] |= dict.fromkeys(
        ("subject", "body_text", "body_html", "to_email", "from_email", "error_message"), SECRET
    )
    values[EMAILS] |= {"to_emails": [SECRET], "cc": SECRET, "headers": said}
    values[AGENTS] |= {"system_prompt": SECRET, "config": said, "metadata": said, "description": SECRET}
    with acting(shared, "worker", ours.tenant_id) as worker:
        events = written(worker, ours, values)
        changed(
            worker,
            "UPDATE assistants.agents SET system_prompt = NULL, config = '{}', metadata = '{}', description = NULL",
        )
        events += [
            event for event in noted(worker, events[-1]["resource_id"]) if event["event_type"] == "agent.updated"
        ]
    assert len(events) == 6
    assert [event["event_type"] for event in events if SECRET in str(event)] == []


def test_nobody_writes_another_tenants_deed(shared: Database, ours: Factory, theirs: Factory) -> None:
    values = one_of_each(theirs)
    with acting(shared, "worker", ours.tenant_id) as worker:
        for table, row in values.items():
            with pytest.raises(Denied, match="row-level security"), worker.transaction():
                Factory(worker, ours.tenant_id).insert(table, row)
        assert {event["tenant_id"] for event in written(worker, ours, one_of_each(ours))} == {ours.tenant_id}


def test_who_writes_a_row_needs_no_right_to_the_audit(database: Database) -> None:
    """As a product's own login would be, which has rights to its tables."""
    alone = Factory(database.connect(), database.value("SELECT identity.default_tenant_id()"))
    values = one_of_each(alone, run_id=alone.row(RUNS)["id"])
    database.rows("REVOKE INSERT ON audit.audit_events FROM greenroom_worker")
    database.rows("REVOKE EXECUTE ON FUNCTION audit.session_user_id, audit.session_trace_id FROM greenroom_worker")
    database.rows("REVOKE SELECT ON assistants.runs, tools.tools FROM greenroom_worker")
    with acting(database, "worker", alone.tenant_id) as worker:
        assert [event["actor"] for event in written(worker, alone, values)] == ["greenroom_worker"] * 5


@pytest.mark.parametrize("function", ["tool_call", "mcp_call", "retrieval", "email", "agent"])
@pytest.mark.parametrize("role", [*WRITERS, "reader"])
def test_nobody_has_a_table_of_his_own_noted(shared: Database, role: str, function: str) -> None:
    create = "CREATE TRIGGER t AFTER INSERT ON mine FOR EACH ROW EXECUTE FUNCTION audit.{}()"
    with acting(shared, role) as connection:
        connection.execute("CREATE TEMPORARY TABLE mine (id uuid, tenant_id uuid)")
        with pytest.raises(Denied, match=f"note_{function}"):
            connection.execute(sql.SQL(create).format(sql.Identifier(f"note_{function}")))


@pytest.mark.parametrize("role", ["relay", "producer", "reader"])
def test_whoever_writes_no_deeds_does_not_ask_who_acts(shared: Database, role: str) -> None:
    for call in ("audit.session_user_id()", "audit.session_trace_id()"):
        with acting(shared, role) as connection, pytest.raises(Denied):
            rows(connection, f"SELECT {call}")
