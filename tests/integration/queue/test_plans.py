"""EXPLAIN guards: with 60,000 live and 60,000 ended tasks each statement of a task's life keeps to its index.

Generic plans, as the role that runs the statement, under row security, with fresh statistics, with none, and with those
of a queue that was empty a moment ago: it fills faster than autovacuum analyses it. The long form (`make faults`) does
it with a million of each, within the same bounds.
"""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.types.json import Jsonb

from db.connection import Connection
from db.embedded import EmbeddedServer
from db.queries import Queries
from db.queue import FIRST_RANK, NO_TENANT
from pipelines.enqueue import enqueue_many
from tests.integration.queue.test_named_sql import _PARAMETER, numbered
from tests.support.database import Database, cloned
from tests.support.engine import Line
from tests.support.tasks import Noop
from tests.support.waiting import eventually

FEW, MANY = 60_000, 1_000_000
WORKER = UUID("00000000-0000-4000-8000-000000000001")
DEFAULT_TENANT = UUID("00000000-0000-7000-8000-000000000001")
OWNER = UUID("00000000-0000-4000-8000-00000000abcd")
# What the statements shall find, a hundred of each: they are among the many.
DEFERRED, CLAIMED, RUNNING, ENDED = ([UUID(int=kind * 1000 + n) for n in range(100)] for kind in (1, 2, 3, 6))
ONES = [1] * 100
LEASE = {"worker_id": WORKER, "lease_seconds": 30.0, "time_limit": 60.0}
TAKEN = {"ids": RUNNING, "claims": ONES, "worker_id": WORKER}
LIST = {"held": False, "limit": 50}
CLAIM = {
    "queue": "q1", "task_types": ["test.noop"], "versions": [1], "batch_sizes": [100], "free": 100.0,
    "claim_seconds": 30, "tenants": [NO_TENANT, DEFAULT_TENANT], "keys": ["", ""], "from_ranks": [FIRST_RANK] * 2,
    "served": [0, 0], "each": 10,
}  # fmt: skip
FIRST = {"first_tenant": NO_TENANT, "first_key": "", "first_rank": FIRST_RANK, "limit": 200, "each": 8}
STARTER = {"worker_id": WORKER, "lease_seconds": 30.0, "time_limits": [60.0]}
FAILED = {"statuses": ["failed"], "limit": 100}

_FILL = """
INSERT INTO queue.outbox_tasks (task_type, payload, payload_version, tenant_id, queue, rank, run_after, is_due,
    status, attempts, claimed_until, batch_size, lease_until, deadline_at, worker_id, started_at, claim_number,
    hold_reason, priority, max_attempts)
SELECT 'test.noop', '{"n": 1}', 1, identity.default_tenant_id(), 'q' || n %% 4, n, now() + (n || ' s')::interval,
    n %% 4 <> 0, CASE WHEN place = 1 THEN 'in_progress' ELSE 'pending' END, 1,
    CASE WHEN place IN (1, 2) THEN now() + interval '1 h' END, 1,
    CASE WHEN place = 1 THEN now() + interval '1 h' END, CASE WHEN place = 1 THEN now() + interval '1 h' END,
    CASE WHEN place = 1 THEN gen_random_uuid() END, CASE WHEN place = 1 THEN now() END, 1,
    CASE WHEN n %% 500 = 3 THEN 'held' END, 0, 5
FROM generate_series(1, %(live)s) n, LATERAL (SELECT CASE WHEN n <= 60000 THEN n %% 120 END AS place) occupied
"""
_FILL_HISTORY = """
INSERT INTO queue.outbox_tasks (task_type, payload, payload_version, tenant_id, status, completed_at, started_at,
    failed_at, last_error, queue, priority, max_attempts)
SELECT 'test.noop', '{"n": 1}', 1, identity.default_tenant_id(), s, at, now(), CASE s WHEN 'failed' THEN now() END,
    CASE s WHEN 'failed' THEN 'x' END, 'default', 0, 5
FROM generate_series(1, %(ended)s) n,
    LATERAL (SELECT CASE WHEN n %% 200 = 0 THEN 'failed' ELSE 'done' END AS s, now() + n * interval '1 us' AS at) ended
"""
# Deferred and due; claimed; running, with a lease; running no more; claimed, never taken and asked to end, as some that
# run are.
_FILL_FOUND = """
INSERT INTO queue.outbox_tasks (id, task_type, payload, payload_version, tenant_id, queue, rank, run_after, is_due,
    status, attempts, claimed_until, batch_size, lease_until, deadline_at, worker_id, started_at, claim_number,
    priority, max_attempts, owner_kind, owner_id, cancel_requested_at, cancel_reason)
SELECT lpad(to_hex(kind * 1000 + n), 32, '0')::uuid, 'test.noop', '{"n": 1}', 1, identity.default_tenant_id(), 'q2', n,
    now() - interval '1 h', kind <> 1, CASE WHEN kind IN (3, 4) THEN 'in_progress' ELSE 'pending' END, 1,
    CASE WHEN kind = 5 THEN now() - interval '1 s' WHEN kind > 1 THEN now() + interval '1 h' END, 1,
    CASE kind WHEN 3 THEN now() + interval '1 h' WHEN 4 THEN now() - interval '1 s' END,
    CASE WHEN kind IN (3, 4) THEN now() + interval '2 h' END,
    CASE kind WHEN 3 THEN %(worker)s WHEN 4 THEN gen_random_uuid() END,
    CASE WHEN kind IN (3, 4) THEN now() END, 1, 0, 5, CASE kind WHEN 1 THEN 'document' END,
    CASE kind WHEN 1 THEN %(owner)s::uuid END,
    CASE WHEN asked THEN now() END, CASE WHEN asked THEN 'x' END
FROM generate_series(1, 5) kind, generate_series(0, 99) n,
    LATERAL (SELECT kind = 5 OR kind = 3 AND n > 90) AS ask (asked)
"""
_FILL_ENDED = """
INSERT INTO queue.outbox_tasks (id, task_type, payload, payload_version, tenant_id, status, completed_at, started_at,
    failed_at, last_error, queue, priority, max_attempts, unique_key)
SELECT lpad(to_hex(6000 + n), 32, '0')::uuid, 'test.noop', '{"n": 1}', 1, identity.default_tenant_id(), 'failed', now(),
    now(), now(), 'x', 'default', 0, 5, CASE WHEN n % 2 = 0 THEN 'key ' || n END
FROM generate_series(0, 99) n
"""
TASK_TYPE = """
INSERT INTO queue.task_types (name, queue, scope, priority, max_attempts, batch_size, time_limit, payload_version,
    payload_schema)
VALUES ('test.noop', 'default', 'tenant', 0, 5, 100, '1 min', 1, '{}')
"""


class Guard(NamedTuple):
    """A statement, who runs it with what, the index that it must use, and the most buffers that it may touch."""

    role: str
    name: str
    values: dict[str, Any]
    expected: str
    buffers: int = 1500
    plan: str = "force_generic_plan"


GUARDS = [
    Guard("relay", "queue.promote", {"limit": 100}, "tasks_live_deferred_idx"),
    Guard("relay", "queue.look", {}, "tasks_live_deferred_idx", 50),
    Guard("relay", "queue.capacity", {"depth": 2.0, "process_timeout": 30.0}, "tasks_live_occupied_idx", 2500),
    Guard("relay", "queue.claim", CLAIM, "tasks_live_claim_idx"),
    Guard(
        "relay", "queue.due_lanes",
        {"queue": "q1", "task_types": ["test.noop"], "first_tenant": NO_TENANT, "first_key": "", "limit": 200},
        "tasks_live_claim_idx", 50,
    ),
    Guard("relay", "queue.claim_first", CLAIM | FIRST, "tasks_live_claim_idx"),
    Guard("relay", "queue.start", CLAIM | STARTER, "tasks_live_claim_idx"),
    Guard("relay", "queue.start_first", CLAIM | STARTER | FIRST, "tasks_live_claim_idx"),
    Guard("relay", "leases.running", {"worker_id": WORKER}, "tasks_live_occupied_idx", 2500),
    Guard("worker", "leases.untake", TAKEN | {"delay": 0.0}, "tasks_live_id_key", 2500),
    Guard("worker", "leases.end_leases", TAKEN, "tasks_live_id_key"),
    Guard("relay", "queue.give_back", {"ids": CLAIMED, "claims": ONES, "delay": 0.0}, "tasks_live_id_key", 2500),
    Guard("relay", "queue.rescue", {"limit": 100}, "tasks_live_occupied_idx", 2500),
    Guard("relay", "queue.reclaim", {"limit": 100}, "tasks_live_occupied_idx", 2500),
    Guard("worker", "leases.take", {"ids": CLAIMED, "claims": ONES} | LEASE, "tasks_live_id_key"),
    Guard(
        "worker", "leases.finish",
        TAKEN | {"statuses": ["done"] * 100, "results": [None] * 100, "errors": [None] * 100},
        "tasks_live_id_key", 2500,
    ),
    Guard(
        "worker", "leases.reschedule",
        TAKEN | {"delays": [0.0] * 100, "errors": [None] * 100, "snoozes": ONES},
        "tasks_live_id_key",
    ),
    Guard("worker", "leases.renew", {"worker_id": WORKER, "lease_seconds": 30.0}, "tasks_live_occupied_idx", 2500),
    Guard("worker", "leases.end_cancelled", {}, "tasks_live_cancel_idx", 2500),
    Guard("worker", "leases.orders", TAKEN, "tasks_live_cancel_idx"),
    Guard("worker", "leases.orders", TAKEN, "tasks_live_id_key"),
    Guard("worker", "leases.next_deadline", {"worker_id": WORKER}, "tasks_live_occupied_idx", 2500),
    Guard("worker", "leases.expire_leases", {"worker_id": WORKER}, "tasks_live_occupied_idx", 2500),
    Guard("worker", "leases.hand_back", {"worker_id": WORKER}, "tasks_live_occupied_idx", 2500),
    Guard("worker", "leases.hold", {"id": RUNNING[0], "claim": 1, "worker_id": WORKER}, "tasks_live_id_key", 50),
    Guard("worker", "leases.report_progress", {"id": RUNNING[0], "claim": 1, "progress": 0.5}, "tasks_live_id_key", 50),
    Guard("producer", "queue.ended", {"ids": ENDED}, "_id_idx"),
    Guard("operator", "queue.ended", {"ids": ENDED}, "_id_idx"),
    Guard("operator", "tasks.list", LIST, "tasks_live_id_key", 200),
    # An operator's one listing is planned for what it asks; a generic plan would walk over all younger pages.
    Guard("operator", "tasks.list", LIST | {"before": RUNNING[99]}, "tasks_live_id_key", 200, "force_custom_plan"),
    Guard("operator", "tasks.list", LIST | {"owner_id": OWNER}, "owner_i", 200, "force_custom_plan"),
    Guard("operator", "tasks.show", {"id": DEFERRED[0]}, "tasks_live_id_key", 50),
    Guard("operator", "tasks.retry_now", {"id": DEFERRED[0]}, "tasks_live_id_key", 50),
    Guard("operator", "tasks.lock_live", {"id": DEFERRED[0]}, "tasks_live_id_key", 50),
    Guard("operator", "tasks.request_cancel", {"id": RUNNING[0], "reason": "x"}, "tasks_live_id_key", 50),
    Guard("operator", "tasks.cancel", {"id": DEFERRED[0], "reason": "x"}, "tasks_live_id_key", 50),
    Guard("operator", "tasks.replay", {"ids": ENDED}, "_id_idx"),
    Guard("operator", "tasks.replayable", {"ids": ENDED}, "_id_idx"),
    # Planned for the filter, by the index of what failed: a generic plan would walk over all that is done.
    Guard("operator", "replays.preview", FAILED, "completed_at_idx1", 500, "force_custom_plan"),
    Guard("system", "replays.following", FAILED, "completed_at_idx1", 500, "force_custom_plan"),
    Guard("system", "replays.standing", {"id": DEFERRED[0]}, "tasks_live_id_key", 50),
    Guard("system", "replays.note", {"id": DEFERRED[0], "replayed": 1, "skipped": 0}, "tasks_live_id_key", 50),
]  # fmt: skip


_LONG = (pytest.mark.faults, pytest.mark.timeout(600))


@pytest.fixture(
    scope="module",
    params=[
        ("analysed", FEW), ("no statistics", FEW), ("an old vacuum", FEW),
        pytest.param(("analysed", MANY), marks=_LONG), pytest.param(("no statistics", MANY), marks=_LONG),
        pytest.param(("an old vacuum", MANY), marks=_LONG),
    ],
    ids=lambda param: f"{param[0]}, {param[1]:,} tasks",
)  # fmt: skip
def full(
    request: pytest.FixtureRequest, server_without_fsync: EmbeddedServer, template_database: str
) -> Iterator[Database]:
    """A queue that is full and has a past."""
    statistics, tasks = request.param
    with cloned(server_without_fsync, template_database) as database:
        owner = database.connect()
        if statistics == "an old vacuum":
            owner.execute(_FILL, {"live": 10_000})
            work_off(database, "tasks_live")
        owner.execute(_FILL, {"live": tasks})
        owner.execute(_FILL_FOUND, {"worker": WORKER, "owner": OWNER})
        owner.execute(_FILL_HISTORY, {"ended": tasks})
        owner.execute(_FILL_ENDED)
        worker = (uuid4(), "worker", "h", 1, ["q0", "q1"], Jsonb({"test.noop": 1}), 4)
        owner.execute(
            "INSERT INTO queue.processes (id, kind, host, pid, queues, task_types, slots)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s)",
            worker,
        )
        owner.execute(TASK_TYPE)
        if statistics == "analysed":
            vacuum(database, "ANALYZE", "tasks_live", "tasks_history")
        yield database


def vacuum(database: Database, options: str, *tables: str) -> None:
    names = sql.SQL(", ").join(sql.Identifier("queue", table) for table in tables)
    with psycopg.connect(database.superuser_url, autocommit=True) as connection:
        connection.execute(sql.SQL("VACUUM ({}) {}").format(sql.SQL(options), names))


def work_off(database: Database, *tables: str) -> None:
    """Empty tables, and leave what autovacuum does when it comes upon a queue worked off: many pages and no row."""
    with psycopg.connect(database.superuser_url, autocommit=True) as connection:
        for table in tables:
            connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier("queue", table)))
    vacuum(database, "ANALYZE, TRUNCATE false", *tables)


def explain(database: Database, guard: Guard) -> dict[str, Any]:
    """Return the plan, as it ran, of the statement's generic form; what it changed is rolled back."""
    file, _, name = guard.name.partition(".")
    text = Queries(file).text(name).as_string(None)
    values = {parameter: guard.values.get(parameter) for parameter in dict.fromkeys(_PARAMETER.findall(text))}
    connection = database.connect(guard.role)
    with connection.transaction(force_rollback=True):
        connection.execute("SELECT set_config('plan_cache_mode', %s, true)", (guard.plan,))
        if file == "replays":
            Queries(file).run(connection, "plan_for_values")
        connection.execute(sql.SQL("PREPARE q AS ") + sql.SQL(numbered(text)))
        arguments = sql.SQL(", ").join(sql.Placeholder() for _ in values)
        call = sql.SQL("EXECUTE q({})").format(arguments) if values else sql.SQL("EXECUTE q")
        plan = ran(connection, call, list(values.values()))
        connection.execute("DEALLOCATE q")
    return plan


def ran(connection: Connection, statement: sql.Composable, values: Sequence[Any] = ()) -> dict[str, Any]:
    """Return the plan of a statement as it ran the second time: the first reads the catalog, too. Changes nothing."""
    cursor = psycopg.ClientCursor(connection)
    plans: list[dict[str, Any]] = []
    for _ in range(2):
        with connection.transaction(force_rollback=True):
            cursor.execute(sql.SQL("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) ") + statement, values)
            plans += [row[0][0]["Plan"] for row in cursor]
    return plans[-1]


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: f"{guard.role}-{guard.name}")
def test_the_statement_keeps_to_its_index(full: Database, guard: Guard) -> None:
    plan = explain(full, guard)
    scanned = [n["Relation Name"] for n in nodes(plan) if n["Node Type"] == "Seq Scan" and "Relation Name" in n]
    large = [name for name in scanned if name == "tasks_live" or name.startswith("tasks_history")]
    # the months to come are empty, and an empty table is read as well as an index of it
    large = [name for name in large if full.value(f"SELECT count(*) FROM (SELECT FROM queue.{name} LIMIT 1) x")]  # noqa: S608
    assert large == [], json.dumps(plan)[:4000]
    used = {n["Index Name"] for n in nodes(plan) if "Index Name" in n}
    assert any(guard.expected in index for index in used), used
    assert_conditions(plan, guard)
    touched = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    assert touched <= guard.buffers, f"{touched} buffers"


_OF_IDS = re.compile("(tasks|task_dependencies|batches|settlements|limits|limit_tokens)_.*(id_key|id_idx|pkey)$")
# Pages in the order of their ids begin wherever they begin; a look reads which limits stand at all.
_WALKS = ("tasks.list", "dependencies.recheck", "dependencies.pending", "queue.due_lanes")


def assert_conditions(plan: dict[str, Any], guard: Guard) -> None:
    """Assert that a statement found rows by its index, and read no index of ids from its one end to the other."""
    scans = [node for node in nodes(plan) if "Index Name" in node]
    found = [n["Actual Rows"] * n["Actual Loops"] for n in scans if guard.expected in n["Index Name"]]
    assert sum(found) > 0, "it found nothing"
    whole = [n["Index Name"] for n in scans if "Index Cond" not in n and _OF_IDS.match(n["Index Name"])]
    assert whole == [] or guard.name in _WALKS, json.dumps(plan)[:4000]


def test_a_take_changes_no_index(database: Database, line: Line) -> None:
    enqueue_many(database.connect("producer"), [Noop(n=n) for n in range(10)])  # all find room in one page
    claims = line.claim()
    end_backend(database, line.relay)  # what a backend counted shows once it tells, at the latest when it ends
    eventually(lambda: updates(database) == (10, 0))
    assert len(line.take(claims)) == 10
    end_backend(database, line.worker)
    eventually(lambda: updates(database) == (20, 10))


def end_backend(database: Database, connection: Connection) -> None:
    with psycopg.connect(database.superuser_url, autocommit=True) as superuser:
        superuser.execute("SELECT pg_terminate_backend(%s)", (connection.info.backend_pid,))


def updates(database: Database) -> tuple[int, int]:
    """Return how many rows of live tasks were updated, and of those how many without a new entry in any index."""
    query = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'tasks_live'"
    [(all_of_them, hot)] = database.rows(query)
    return all_of_them, hot
