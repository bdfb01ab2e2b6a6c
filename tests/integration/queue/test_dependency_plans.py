"""EXPLAIN guards: what settles dependencies and batches keeps to its indexes beside 120,000 tasks."""

import json
from collections.abc import Iterator
from uuid import UUID

import pytest
from psycopg import sql
from psycopg.types.json import Jsonb

from db.connection import Connection
from db.dependencies import FIRST_ID
from db.embedded import EmbeddedServer
from tests.integration.queue.test_plans import (
    TASK_TYPE,
    Guard,
    assert_conditions,
    explain,
    nodes,
    ran,
    vacuum,
    work_off,
)
from tests.support.database import Database, cloned

_FILL = """
INSERT INTO queue.tasks_live (id, task_type, payload, payload_version, tenant_id, queue, priority,
    max_attempts, is_due, is_waiting, batch_id)
SELECT lpad(to_hex(n), 32, '0')::uuid, 'test.noop', '{}', 1, identity.default_tenant_id(), 'q', 0, 5,
    n <= 60000, n > 60000, CASE WHEN n <= 10 THEN lpad(to_hex(n), 32, '0')::uuid END
FROM generate_series(1, 120000) n;
INSERT INTO queue.task_dependencies (child_id, parent_id, tenant_id, on_parent_failed, parent_status)
SELECT lpad(to_hex(n), 32, '0')::uuid, lpad(to_hex(n - 60000 + d), 32, '0')::uuid, identity.default_tenant_id(), 'fail',
    CASE WHEN n % 2 = 0 THEN 'done' END
FROM generate_series(60001, 119990) n, generate_series(1, 2) d;
INSERT INTO queue.tasks_history (id, task_type, payload, payload_version, tenant_id, status, completed_at, started_at,
    queue, priority, max_attempts)
SELECT lpad(to_hex(n), 32, '0')::uuid, 'test.noop', '{}', 1, identity.default_tenant_id(), 'done', now(), now(),
    'q', 0, 5
FROM generate_series(200000, 260000) n;
INSERT INTO queue.task_dependencies (child_id, parent_id, tenant_id, on_parent_failed, parent_status)
SELECT lpad(to_hex(60001 + n), 32, '0')::uuid, lpad(to_hex(parent + n), 32, '0')::uuid, identity.default_tenant_id(),
    'fail', CASE parent WHEN 230000 THEN 'failed' END
FROM generate_series(0, 99) n, unnest(ARRAY[200000, 230000]) parent;
INSERT INTO queue.batches (id, name, tenant_id) SELECT lpad(to_hex(n), 32, '0')::uuid, 'b', identity.default_tenant_id()
FROM generate_series(1, 20000) n;
ALTER TABLE queue.settlements ALTER COLUMN id RESTART;
INSERT INTO queue.settlements (task_id) SELECT lpad(to_hex(n), 32, '0')::uuid FROM generate_series(1, 20000) n;
"""


def ids(first: int) -> list[UUID]:
    return [UUID(int=first + n) for n in range(100)]


GUARDS = [
    Guard("relay", "dependencies.pending", {"limit": 100}, "settlements_pkey", 50),
    Guard("relay", "dependencies.watch", {"ids": ids(1)}, "tasks_live_id_key", 2500),
    Guard(
        "relay", "dependencies.resolve",
        {"ids": ids(200_000), "limit": 100}, "task_dependencies_parent_id_idx", 4000,
    ),
    Guard(
        "relay", "dependencies.settle",
        {"settlements": list(range(1, 101)), "batches": ids(1), "watched": ids(1)}, "settlements_pkey", 2500,
    ),
    Guard("relay", "dependencies.end_children", {"ids": ids(60_001)}, "task_dependencies_pkey", 2500),
    Guard("relay", "dependencies.start_children", {"ids": ids(70_001)}, "tasks_live_id_key", 8000),
    Guard("relay", "dependencies.recheck", {"after": FIRST_ID, "limit": 100}, "tasks_live_waiting_idx", 300),
    Guard("relay", "dependencies.note_strays", {"ids": ids(60_001), "limit": 100}, "task_dependencies_pkey", 2500),
    Guard("relay", "dependencies.forget", {"seconds": 60.0, "limit": 100}, "task_dependencies_pkey", 2500),
    Guard("operator", "dependencies.wait_again", {"ids": ids(60_001)}, "task_dependencies_pkey", 4000),
    Guard("operator", "dependencies.graph", {"id": UUID(int=60_010), "limit": 50}, "task_dependencies_pkey", 3000),
    Guard("operator", "dependencies.neighbours", {"id": UUID(int=60_010), "limit": 100}, "task_dependencies_p", 100),
    Guard("operator", "dependencies.batch", {"id": UUID(int=5)}, "batches_pkey", 20),
    Guard("operator", "dependencies.batch_of", {"id": UUID(int=5)}, "tasks_live_id_key", 20),
]  # fmt: skip


_TABLES = ("tasks_live", "tasks_history", "task_dependencies", "batches", "settlements")


def fill(database: Database) -> None:
    for statement in _FILL.strip().split(";\n"):
        database.rows(statement)


@pytest.fixture(scope="module", params=["analysed", "no statistics", "an old vacuum"])
def full(
    request: pytest.FixtureRequest, server_without_fsync: EmbeddedServer, template_database: str
) -> Iterator[Database]:
    """Tasks that wait for tasks, in plenty."""
    with cloned(server_without_fsync, template_database) as database:
        fill(database)
        if request.param == "an old vacuum":
            work_off(database, *_TABLES)
            fill(database)
        elif request.param == "analysed":
            vacuum(database, "ANALYZE", *_TABLES)
        yield database


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_the_statement_keeps_to_its_index(full: Database, guard: Guard) -> None:
    plan = explain(full, guard)
    scanned = [n["Relation Name"] for n in nodes(plan) if n["Node Type"] == "Seq Scan" and "Relation Name" in n]
    large = {"tasks_live", "task_dependencies", "batches", "settlements"} & set(scanned)
    assert large == set(), json.dumps(plan)[:4000]
    used = {n["Index Name"] for n in nodes(plan) if "Index Name" in n}
    assert any(guard.expected in index for index in used), used
    assert_conditions(plan, guard)
    touched = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    assert touched <= guard.buffers, f"{touched} buffers"


# What an enqueue calls: each reads some rows of a large table, and no index from its one end to the other.
@pytest.mark.parametrize(
    ("call", "added", "most"),
    [
        # ten parents for ten children
        ("SELECT queue.depend_on({fresh}, {live}, identity.default_tenant_id(), 'fail')", 100, 1500),
        ("SELECT queue.depend_on({fresh}, {ended}, identity.default_tenant_id(), 'fail')", 100, 1500),
        ("SELECT queue.check_circle(({fresh})[1], {waiting})", 0, 500),
    ],
)
@pytest.mark.parametrize("mode", ["auto", "force_generic_plan"])
def test_a_function_keeps_to_its_index(full: Database, call: str, added: int, most: int, mode: str) -> None:
    arrays = {"fresh": ids(300_000), "live": ids(1), "ended": ids(200_000), "waiting": ids(60_001)}
    owner = full.connect()
    owner.execute("SELECT set_config('plan_cache_mode', %s, false)", (mode,))
    statement = sql.SQL(call).format(**{name: sql.Literal(found[:10]) for name, found in arrays.items()})
    plan = ran(owner, statement)
    touched = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    assert touched <= most, f"{touched} buffers"
    with owner.transaction(force_rollback=True):
        before = count_dependencies(owner)
        owner.execute(statement)
        assert count_dependencies(owner) - before == added


def count_dependencies(owner: Connection) -> int:
    [(count,)] = owner.execute("SELECT count(*) FROM queue.task_dependencies").fetchall()
    return int(count)


def test_a_plan_that_was_made_for_an_empty_table_is_good_for_a_full_one(
    server_without_fsync: EmbeddedServer, template_database: str
) -> None:
    """A producer's session keeps the plans of functions: those of a quiet night are used in the morning's burst."""
    enqueue = (
        "SELECT queue.enqueue('test.noop', jsonb_build_object('n', %s::integer),"
        " jsonb_build_object('unique_key', 'night ' || %s, 'depends_on', %s::jsonb))"
    )
    with cloned(server_without_fsync, template_database) as database:
        database.rows(TASK_TYPE)
        fill(database)
        work_off(database, *_TABLES)
        producer = database.connect("producer")
        [(first,)] = producer.execute(enqueue, (0, 0, "[]")).fetchall()
        for n in range(1, 8):
            producer.execute(enqueue, (n, n, Jsonb([str(first)])))
        database.rows("DELETE FROM queue.settlements")  # their numbers begin anew
        fill(database)
        plan = ran(producer, sql.SQL(enqueue), (9, 9, Jsonb([str(first)])))
        touched = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
        assert touched <= 600, f"{touched} buffers"
