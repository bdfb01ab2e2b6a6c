"""Aged rows of tasks and messages, of several tenants and months, and the book of what they were.

The book is a schema of its own: of each row its key, the MD5 of its text, and whether a hold keeps it.
"""

from collections.abc import Callable, Sequence
from string import Template
from uuid import UUID

from db.connection import Connection, connect
from tests.benchmarks.retention.plan import KEPT, MESSAGES, TASKS, Kept, Plan
from tests.support.database import Database
from tests.support.factory import Factory
from tests.support.tenants import new_tenant

PINNED = """
SELECT set_config(name, value, false) FROM (VALUES ('timezone', 'UTC'), ('datestyle', 'ISO'), ('bytea_output', 'hex'),
    ('extra_float_digits', '1'), ('intervalstyle', 'postgres')) AS pinned (name, value)
"""
"""Settings of a session by which one row has one text."""
_TENANTS = 4
_MESSAGES_EACH = 250
_CHUNK = 100_000
_BOOK = """
CREATE SCHEMA book;
CREATE TABLE book.tasks (id uuid PRIMARY KEY, hash uuid NOT NULL, is_held boolean NOT NULL);
CREATE TABLE book.messages (LIKE book.tasks INCLUDING ALL);
CREATE TABLE book.conversations (place integer PRIMARY KEY, id uuid NOT NULL, tenant_id uuid NOT NULL, is_held boolean);
CREATE TABLE book.links (id uuid PRIMARY KEY, message_id uuid NOT NULL)
"""
# All that is seeded is over a year old.
_PERIOD = """
CREATE TABLE book.months AS SELECT until - make_interval(months => %(months)s) AS since, until
FROM (SELECT date_trunc('month', now(), 'UTC') - interval '13 months') AS last (until)
"""
_MONTHS = """
SELECT ops.create_month(relation::regclass, month) FROM book.months m,
    generate_series(m.since, m.until - interval '1 day', '1 month') AS month,
    unnest(ARRAY['queue.tasks_history', 'assistants.messages']) AS relation
"""
_CONVERSATIONS = """
WITH added AS (
    INSERT INTO assistants.conversations (tenant_id, agent_id, persona_id, channel)
    SELECT c.tenant_id, c.agent_id, c.persona_id, c.channel FROM generate_series(1, %(count)s) AS n
    JOIN LATERAL (SELECT *, row_number() OVER (ORDER BY id) - 1 AS place FROM assistants.conversations
        WHERE id = ANY (%(ids)s)) AS c ON c.place = n %% cardinality(%(ids)s::uuid[])
    RETURNING id, tenant_id)
INSERT INTO book.conversations SELECT (SELECT count(*) FROM book.conversations) + row_number() OVER () - 1, id,
    tenant_id, %(is_held)s FROM added
"""
# Quotes, backslashes, newlines, text and no text, what looks like a NULL, and letters of two scripts.
_TEXT = r"""CASE n %% 11 WHEN 0 THEN '' WHEN 1 THEN '\N' WHEN 2 THEN E'"quoted", \\ and,\r\nbroken\ttwice'
        WHEN 3 THEN 'Grüße, 你好 ' || md5(n::text) ELSE repeat(md5(n::text), 1 + n %% 9) END"""
_AT = "(SELECT since + (until - since) * ((n - 0.5) / %(count)s) FROM period)"
_INSERTS = {
    TASKS: """
INSERT INTO queue.tasks_history (task_type, payload, payload_version, status, attempts, last_error, failed_at,
    run_after, created_at, updated_at, started_at, completed_at, tenant_id, owner_kind, owner_id, metadata, queue,
    priority, rank, unique_key, max_attempts, claim_number, progress, progress_message, result, left_open)
SELECT 'load.aged', jsonb_build_object('n', n, 'text', text), 1, status, 1 + n %% 3,
    CASE WHEN status = 'failed' THEN 'Error: ' || text END, CASE WHEN status = 'failed' THEN at END,
    at - interval '3 seconds', at - interval '4 seconds', at, at - interval '2 seconds', at,
    (%(tenants)s::uuid[])[1 + n %% cardinality(%(tenants)s::uuid[])], CASE WHEN n %% 3 = 0 THEN 'user' END,
    CASE WHEN n %% 3 = 0 THEN md5((n / 50)::text)::uuid END, jsonb_build_object('from', 'load'), 'default', n %% 7 - 3,
    n, CASE WHEN n %% 5 = 0 THEN 'key ' || n END, 5, 2, CASE WHEN n %% 4 = 0 THEN 0.1 * (n %% 10) END,
    CASE WHEN n %% 4 = 0 THEN text END, CASE WHEN status = 'done' AND n %% 2 = 0 THEN jsonb_build_object('n', n) END,
    CASE WHEN n %% 100 = 0 THEN ARRAY['a "b"', '', NULL, 'c,d'] END
FROM generate_series(%(first)s::integer, %(last)s::integer) AS n, LATERAL (SELECT $at, $text,
    CASE n %% 20 WHEN 0 THEN 'failed' WHEN 1 THEN 'cancelled' ELSE 'done' END) AS each (at, text, status)
""",
    MESSAGES: """
INSERT INTO assistants.messages (tenant_id, conversation_id, sequence_number, role, content, rag_context, tool_calls,
    model_used, token_count, tokens_used, latency_ms, metadata, created_at)
SELECT c.tenant_id, c.id, n %% $each, CASE n %% 2 WHEN 0 THEN 'user' ELSE 'assistant' END,
    CASE WHEN n %% 97 > 0 THEN $text END, CASE WHEN n %% 10 = 1 THEN jsonb_build_object('chunks', n) END,
    CASE WHEN n %% 97 = 0 THEN jsonb_build_array(n) ELSE '[]' END, CASE WHEN n %% 2 = 1 THEN 'model' END, n %% 500,
    CASE WHEN n %% 2 = 1 THEN jsonb_build_object('total', n) END, n %% 1000, '{}', $at
FROM generate_series(%(first)s::integer, %(last)s::integer) AS n
JOIN book.conversations c ON c.is_held = %(is_held)s AND c.place = %(place)s + n / $each
""",
}
# The rows of a period, and what is noted of each.
_NOTED = """
WITH period AS (SELECT $period FROM book.months), added AS ($insert RETURNING *)
INSERT INTO book.$book SELECT a.id, md5(a::text)::uuid, %(is_held)s FROM added a
"""
# Of each thousandth message something tells that is younger, and stays.
_LINKS = """
WITH added AS (
    INSERT INTO tools.tool_executions (tenant_id, message_id, message_created_at, tool_name, input)
    SELECT m.tenant_id, m.id, m.created_at, 'search', '{}'
    FROM assistants.messages m JOIN book.messages b ON b.id = m.id
    WHERE NOT b.is_held ORDER BY b.hash LIMIT %(count)s RETURNING id, message_id)
INSERT INTO book.links SELECT id, message_id FROM added
"""
_HELD_MONTH = "until - interval '1 month' AS since, until"
_HOLD = """
INSERT INTO ops.retention_policies (name, tenant_id, table_schema, table_name, age_column, age, is_held, hold_reason)
VALUES ('held ' || %(name)s, %(tenant)s, %(schema)s, %(name)s, %(column)s, '1 day', true, 'a court''s order')
"""
Tell = Callable[[str], None]


def seed(database: Database, plan: Plan, tell: Tell) -> None:
    """Write all rows, as the owner, a hold on those of one tenant, and the book."""
    with connect(database.owner_url, name="seeding") as owner:
        owner.execute(PINNED)
        owner.execute(_BOOK)
        owner.execute(_PERIOD, {"months": plan.months})
        owner.execute(_MONTHS)
        tenants, held = _tenants(database, owner, plan)
        for kept in KEPT:
            _fill(owner, kept, tenants, plan.rows, "since, until", tell)
            _fill(owner, kept, [held], plan.held, _HELD_MONTH, tell)
            _hold(owner, kept, held)
        owner.execute(_LINKS, {"count": max(1, plan.rows // 1000)})
        for kept in KEPT:
            owner.execute(f"VACUUM (ANALYZE) {kept.relation}".encode())


def _tenants(database: Database, owner: Connection, plan: Plan) -> tuple[list[UUID], UUID]:
    """Make tenants with their conversations; return them, and the one whose rows are held."""
    made: list[UUID] = []
    talks: list[UUID] = []
    for _ in range(_TENANTS + 1):
        with new_tenant(database) as ours:
            made.append(ours.tenant_id)
            talks += [ours.row("assistants.conversations")["id"], _of_persona(ours)]
    for ids, count, is_held in ((talks[:-2], plan.rows, False), (talks[-2:], plan.held, True)):
        owner.execute(_CONVERSATIONS, {"ids": ids, "count": 1 + count // _MESSAGES_EACH, "is_held": is_held})
    return made[:-1], made[-1]


def _of_persona(ours: Factory) -> UUID:
    persona = ours.row("assistants.voice_personas")["id"]
    talk: UUID = ours.row("assistants.conversations", persona_id=persona)["id"]
    return talk


def _fill(owner: Connection, kept: Kept, tenants: Sequence[UUID], count: int, period: str, tell: Tell) -> None:
    """Write `count` rows, evenly over the months of the period, and note them in the book."""
    is_held = len(tenants) == 1
    place = owner.execute("SELECT min(place) FROM book.conversations WHERE is_held = %s", (is_held,)).fetchall()[0][0]
    values = {"tenants": list(tenants), "count": count, "is_held": is_held, "place": place}
    insert = Template(_INSERTS[kept]).substitute(text=_TEXT, at=_AT, each=_MESSAGES_EACH)
    statement = Template(_NOTED).substitute(period=period, insert=insert, book=kept.book)
    for first in range(1, count + 1, _CHUNK):
        last = min(first + _CHUNK - 1, count)
        owner.execute(statement.encode(), values | {"first": first, "last": last})
        tell(f"{last:,} of {count:,} {'held ' if is_held else ''}rows of {kept.relation}")


def _hold(owner: Connection, kept: Kept, tenant: UUID) -> None:
    schema, _, name = kept.relation.partition(".")
    owner.execute(_HOLD, {"tenant": tenant, "schema": schema, "name": name, "column": kept.age_column})
