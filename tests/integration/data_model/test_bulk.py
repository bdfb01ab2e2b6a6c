"""Counts and times that triggers keep, when a statement writes many rows: by the statement, in one order of locks."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest
from psycopg import sql

from db.connection import Connection
from tests.support.database import Database
from tests.support.factory import Factory
from tests.support.statements import changed, column, rows, value
from tests.support.tenants import acting, named
from tests.support.waiting import eventually

SAY = """
INSERT INTO assistants.messages (tenant_id, conversation_id, role, content) SELECT %(tenant)s, x, 'user', 'hi'
FROM unnest(%(ids)s::uuid[]) AS x
"""
MEET = """
INSERT INTO assistants.conversations (tenant_id, agent_id, client_id, started_at) SELECT %(tenant)s, a.id, x, now()
FROM assistants.agents a, unnest(%(ids)s::uuid[]) AS x WHERE a.tenant_id = %(tenant)s
"""
ACT = """
INSERT INTO identity.session_activities (tenant_id, user_session_id, activity_type) SELECT %(tenant)s, s.id, 'read'
FROM unnest(%(ids)s::uuid[]) AS x (id) JOIN identity.user_sessions s ON s.user_id = x.id
"""
USE = """
INSERT INTO identity.api_keys (tenant_id, user_id, name, key_hash, key_prefix, last_used_at)
SELECT %(tenant)s, x, 'k', ops.uuid_v7(), 'gr_1', now() FROM unnest(%(ids)s::uuid[]) AS x
"""
MOVE = "UPDATE assistants.messages SET conversation_id = %(to)s WHERE conversation_id = ANY (%(ids)s)"
WAITS = "SELECT count(*) FROM pg_locks WHERE pid = %s AND NOT granted"
COUNTS = "SELECT id, message_count FROM assistants.conversations WHERE id = ANY (%s) ORDER BY id"
# The triggers of products' tables that write rows of others with each row.
BY_ROW = """
SELECT t.tgrelid::regclass || '.' || t.tgname
FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_class c ON c.oid = t.tgrelid
WHERE NOT t.tgisinternal AND t.tgparentid = 0 AND t.tgtype & 1 = 1 AND c.relnamespace <> 'queue'::regnamespace
    AND p.prosrc ~ 'UPDATE (?!queue)[a-z]+\\.[a-z_]+'
"""
# A persona's memories are written under one lock (knowledge.lock_memory): no two transactions meet at its document.
UNDER_A_LOCK = {
    "knowledge.chunks.move_memories",
    "knowledge.documents.hide_memories",
    "knowledge.memories.follow_change",
    "knowledge.memories.follow_end",
}


def many(ours: Factory, table: str, number: int = 20) -> list[UUID]:
    """Make rows of a table; return their keys, the greatest first."""
    return sorted((ours.row(table)["id"] for _ in range(number)), reverse=True)


def of_users(ours: Factory) -> list[UUID]:
    """Make users who were active long ago, with a session each."""
    users = [ours.row("identity.users", last_active_at="2020-01-01")["id"] for _ in range(20)]
    for user in users:
        ours.row("identity.user_sessions", user_id=user)
    return sorted(users, reverse=True)


def write(connection: Connection, query: str, ours: Factory, ids: list[UUID], **given: Any) -> None:
    connection.execute(query.encode(), {"tenant": ours.tenant_id, "ids": ids, **given})


@pytest.mark.parametrize(
    ("table", "query"),
    [
        ("assistants.conversations", SAY),
        ("assistants.clients", MEET),
        ("identity.users", ACT),
        ("identity.users", USE),
    ],
    ids=["messages", "contacts", "activities", "keys"],
)
def test_a_statement_locks_what_it_counts_in_the_order_of_keys(
    shared: Database, ours: Factory, table: str, query: str
) -> None:
    ours.row("assistants.agents")
    ids = of_users(ours) if table == "identity.users" else many(ours, table)
    lock = sql.SQL("SELECT id FROM {} WHERE id = ANY (%s) FOR NO KEY UPDATE NOWAIT").format(named(table))
    blocker, watcher = shared.connect(), shared.connect()
    with acting(shared, "worker", ours.tenant_id) as worker, ThreadPoolExecutor(1) as threads:
        with blocker.transaction():
            assert rows(blocker, lock, ids[-1:]) == [(ids[-1],)]
            written = threads.submit(write, worker, query, ours, ids)
            eventually(lambda: value(watcher, WAITS, worker.info.backend_pid))
            # It waits for the least key, and holds no other.
            assert len(rows(blocker, lock, ids[:-1])) == len(ids) - 1
        written.result()


def test_what_counts_comes_once_a_statement_and_not_once_a_row(shared: Database) -> None:
    assert column(shared.connect(), BY_ROW) == UNDER_A_LOCK


def test_messages_that_move_at_once_are_counted_where_they_went(ours: Factory) -> None:
    to, *others = many(ours, "assistants.conversations", 3)
    for each in (to, *others, others[0]):
        write(ours.owner, SAY, ours, [each])
    write(ours.owner, MOVE, ours, [to, *others], to=to)
    assert dict(rows(ours.owner, COUNTS, [to, *others])) == {to: 4, others[0]: 0, others[1]: 0}


def test_a_message_that_stays_touches_no_conversation(ours: Factory) -> None:
    [talk] = many(ours, "assistants.conversations", 1)
    write(ours.owner, SAY, ours, [talk])
    before = value(ours.owner, "SELECT xmin FROM assistants.conversations WHERE id = %s", talk)
    assert changed(ours.owner, "UPDATE assistants.messages SET content = 'ho' WHERE conversation_id = %s", talk) == 1
    assert value(ours.owner, "SELECT xmin FROM assistants.conversations WHERE id = %s", talk) == before


def test_contacts_of_many_clients_are_the_last_of_each(ours: Factory) -> None:
    ours.row("assistants.agents")
    one, two = many(ours, "assistants.clients", 2)
    write(
        ours.owner,
        MEET.replace("now()", "'2026-01-01'::timestamptz + row_number() OVER () * interval '1 day'"),
        ours,
        [one, two, one],
    )
    assert contacts(ours, one, two) == ["2026-01-04", "2026-01-03"]
    swap = """
        UPDATE assistants.conversations SET client_id = CASE client_id WHEN %s THEN %s ELSE %s END,
            started_at = started_at - interval '1 day' WHERE client_id IN (%s, %s)
    """
    assert changed(ours.owner, swap, one, two, one, one, two) == 3
    assert contacts(ours, one, two) == ["2026-01-02", "2026-01-03"]
    assert changed(ours.owner, "UPDATE assistants.conversations SET client_id = NULL WHERE client_id = %s", one) == 1
    assert contacts(ours, one, two) == [None, "2026-01-03"]


def contacts(ours: Factory, *clients: UUID) -> list[str | None]:
    query = "SELECT to_char(last_contact AT TIME ZONE 'UTC', 'YYYY-MM-DD') FROM assistants.clients WHERE id = %s"
    return [value(ours.owner, query, client) for client in clients]
