"""EXPLAIN guards: what settles dependencies and batches keeps to its indexes beside 120,000 tasks."""

import json
from collections.abc import Iterator
from uuid import UUID

import pytest
from psycopg import sql

from db.dependencies import FIRST_ID
from db.embedded import EmbeddedServer
from tests.integration.queue.test_plans import Guard, explain, keep_to_conditions, nodes, ran, vacuum, work_off
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
    keep_to_conditions(plan, guard)
    touched = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    assert touched <= guard.buffers, f"{touched} buffers"


# What triggers call: each reads some rows of a large table, and no index from its one end to the other.
@pytest.mark.parametrize(
    ("call", "most"),
    [
        # ten rows of parents for ten children, and the rows that they leave
        ("SELECT queue.depend_on({fresh}, {live}, identity.default_tenant_id(), 'fail')", 1500),
        ("SELECT queue.depend_on({fresh}, {ended}, identity.default_tenant_id(), 'fail')", 1500),
        ("SELECT queue.check_circle(({fresh})[1], {waiting})", 500),
    ],
)
@pytest.mark.parametrize("mode", ["auto", "force_generic_plan"])
def test_a_function_keeps_to_its_index(full: Database, call: str, most: int, mode: str) -> None:
    arrays = {"fresh": ids(300_000), "live": ids(1), "ended": ids(200_000), "waiting": ids(60_001)}
    owner = full.connect()
    owner.execute("SELECT set_config('plan_cache_mode', %s, false)", (mode,))
    statement = sql.SQL(call).format(**{name: sql.Literal(found[:10]) for name, found in arrays.items()})
    plan = ran(owner, statement)
    touched = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    assert touched <= most, f"{touched} buffers"
