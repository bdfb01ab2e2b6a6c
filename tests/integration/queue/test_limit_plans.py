"""EXPLAIN guards of claims under limits: 100,000 tasks of a key that is at its limit cost those behind them nothing."""

import json
from collections.abc import Iterator

import pytest
from psycopg import sql

from db.embedded import EmbeddedServer
from db.queue import FIRST_RANK
from tests.integration.queue.test_plans import (
    DEFAULT_TENANT,
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
INSERT INTO queue.tasks_live (task_type, payload, payload_version, tenant_id, queue, rank, status, attempts,
    claimed_until, batch_size, claim_number, priority, max_attempts, limit_key)
SELECT 'test.noop', '{}', 1, identity.default_tenant_id(), 'q', n, 'pending', 0,
    CASE WHEN n <= 500 THEN now() + interval '1 h' END, 1, 1, 0, 5, CASE WHEN n <= 100000 THEN 'full' END
FROM generate_series(1, 101000) n
"""
_LIMITS = """
INSERT INTO queue.limits (kind, name, concurrency, rate, rate_seconds, burst)
SELECT 'key', 'full', 500, NULL, NULL, NULL UNION ALL SELECT 'queue', 'q', 1000, 5000, 1, 5000
UNION ALL SELECT 'tenant', ops.uuid_v7()::text, 5, NULL, NULL, NULL FROM generate_series(1, 2000)
"""
_TOKENS = """
INSERT INTO queue.limit_tokens (kind, name, tokens, refilled_at)
SELECT 'queue', 'q', 1000, now() UNION ALL SELECT 'key', n::text, 5, now() FROM generate_series(1, 20000) n
"""
_HELD = {"held_kinds": ["key", "queue"], "held_names": ["full", "q"]}
_WANTED = {"queue": "q", "task_types": ["test.noop"], "versions": [1], "batch_sizes": [100], "free": 100.0}
_LANES = {"tenants": [DEFAULT_TENANT] * 2, "keys": ["", "full"], "from_ranks": [FIRST_RANK] * 2, "served": [0, 0]}
_NAMES = {"queue": "q", "task_types": ["test.noop"], "tenants": [str(DEFAULT_TENANT)], "keys": ["full", ""]}
GUARDS = [
    Guard(
        "relay", "queue.due_lanes",
        {"queue": "q", "task_types": ["test.noop"], "first_tenant": DEFAULT_TENANT, "first_key": "", "limit": 200},
        "tasks_live_claim_idx", 80,
    ),
    Guard("relay", "limits.hold", _NAMES, "limits_pkey", 50),
    Guard(
        "relay", "limits.claim",
        _HELD | _WANTED | _LANES | {"limit": 100, "claim_seconds": 30}, "tasks_live_claim_idx", 2000,
    ),
]  # fmt: skip


_TABLES = ("tasks_live", "limits", "limit_tokens")


def fill(database: Database) -> None:
    for statement in (_FILL, _LIMITS, _TOKENS):
        database.rows(statement)


@pytest.fixture(scope="module", params=["analysed", "no statistics", "an old vacuum"])
def full(
    request: pytest.FixtureRequest, server_without_fsync: EmbeddedServer, template_database: str
) -> Iterator[Database]:
    """A queue of 100,000 tasks of a key that is full, and 1,000 behind them."""
    with cloned(server_without_fsync, template_database) as database:
        if request.param == "an old vacuum":
            fill(database)
            work_off(database, *_TABLES)
        fill(database)
        if request.param == "analysed":
            vacuum(database, "ANALYZE", *_TABLES)
        yield database


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_the_statement_keeps_to_its_index(full: Database, guard: Guard) -> None:
    plan = explain(full, guard)
    scanned = [n["Relation Name"] for n in nodes(plan) if n["Node Type"] == "Seq Scan" and "Relation Name" in n]
    # a look reads which limits stand at all
    large = set(scanned) & set(_TABLES) - ({"limits"} if guard.name == "queue.due_lanes" else set())
    assert large == set(), json.dumps(plan)[:4000]
    assert_conditions(plan, guard)
    used = {n["Index Name"] for n in nodes(plan) if "Index Name" in n}
    assert any(guard.expected in index for index in used), used
    removed = sum(n.get("Rows Removed by Filter", 0) for n in nodes(plan) if n.get("Relation Name") == "tasks_live")
    assert removed == 0, "tasks of a key that is full are not looked at"
    touched = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    assert touched <= guard.buffers, f"{touched} buffers"


def test_a_claim_finds_the_tasks_behind(full: Database) -> None:
    plan = explain(full, GUARDS[-1])
    assert plan["Actual Rows"] == 100


def test_a_pause_takes_back_what_is_on_its_way_and_reads_little(full: Database) -> None:
    worker, pause = full.connect("worker"), sql.SQL("SELECT queue.pause_key('full', 60)")
    plan = ran(worker, pause)
    touched = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    assert touched <= 8000, f"{touched} buffers for 500 tasks"
    on_their_way = "SELECT count(*) FROM queue.tasks_live WHERE claimed_until IS NOT NULL"
    with worker.transaction(force_rollback=True):
        assert worker.execute(on_their_way).fetchone() == (500,)
        worker.execute(pause)
        assert worker.execute(on_their_way).fetchone() == (0,)
