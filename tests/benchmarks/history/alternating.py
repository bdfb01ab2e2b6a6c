"""Two databases by turns: one that has something, one that has none of it."""

import statistics
import time
from collections.abc import Callable

from db import queue
from db.connection import Connection, connect
from db.roles import role_url
from tests.benchmarks.history.subject import Json, Parameters, Subject, Tell, summary
from tests.benchmarks.peers.adapters.greenroom import Noop
from tests.benchmarks.peers.servers import Servers
from workers.claiming import Claimer

# Spread over the months behind us, as a queue in use would have them.
_MONTHS = "SELECT queue.create_month('queue.tasks_history', now() - make_interval(months => %s::integer))"
_FINISHED = """
INSERT INTO queue.outbox_tasks (id, task_type, payload, payload_version, tenant_id, queue, priority, max_attempts,
    status, attempts, claim_number, created_at, updated_at, run_after, rank, started_at, completed_at)
SELECT uuidv7(at - now()), %(task_type)s, jsonb_build_object('n', n), 1, identity.default_tenant_id(), 'default',
    0, 5, 'done', 1, 1, at, at, at, (extract(epoch FROM at) * 1000000)::bigint, at, at
FROM generate_series(%(first)s::integer, %(last)s::integer) AS n
CROSS JOIN LATERAL (SELECT now() - interval '90 days' * (1 - n::float8 / %(count)s)) AS moment (at)
"""
_DEFERRED = """
INSERT INTO queue.outbox_tasks (task_type, payload, payload_version, tenant_id, queue, priority, max_attempts,
    run_after, rank, is_due)
SELECT %(task_type)s, jsonb_build_object('n', n), 1, identity.default_tenant_id(), 'default', 0, 5, at,
    (extract(epoch FROM at) * 1000000)::bigint, false
FROM generate_series(1, %(count)s::integer) AS n
CROSS JOIN LATERAL (SELECT now() + interval '1 day' + interval '30 days' * n / %(count)s) AS moment (at)
"""
_DUE = """
INSERT INTO queue.outbox_tasks (task_type, payload, payload_version, tenant_id, queue, priority, max_attempts)
SELECT %(task_type)s, jsonb_build_object('n', n), 1, identity.default_tenant_id(), 'default', 0, 5
FROM generate_series(1, %(count)s::integer) AS n
"""
# What is left, by the indexes of the claim and of what is claimed: to look at a million deferred rows would take time.
_IS_LEFT = """
SELECT (SELECT 1 FROM queue.tasks_live WHERE is_due AND hold_reason IS NULL AND claimed_until IS NULL
        ORDER BY queue LIMIT 1) IS NOT NULL
    OR (SELECT 1 FROM queue.tasks_live WHERE claimed_until IS NOT NULL ORDER BY claimed_until LIMIT 1) IS NOT NULL
"""
_HISTORY_BYTES = """
SELECT sum(pg_total_relation_size(relid))::bigint FROM pg_partition_tree('queue.tasks_history') WHERE isleaf
"""
_CHUNK, _CLAIMED, _ASKED = 500_000, 1000, 21


def finished(servers: Servers, parameters: Parameters, tell: Tell) -> Json:
    """Throughput with finished tasks in history, and with none."""
    full, none = Subject(servers, "finished_full"), Subject(servers, "finished_none")
    begun = time.monotonic()
    _fill(full, parameters.finished, tell)
    took = round(time.monotonic() - begun)

    def empty() -> None:
        with none.connect() as connection:
            connection.execute("TRUNCATE queue.tasks_history")

    found = _by_turns({"full": full, "none": none}, parameters, tell, before=empty)
    return {"finished_tasks": parameters.finished, "history_bytes": _history_bytes(full), "fill_seconds": took} | found


def deferred(servers: Servers, parameters: Parameters, tell: Tell) -> Json:
    """Throughput and the cost of a relay's statements with tasks due in the future, and with none."""
    many, none = Subject(servers, "deferred_many"), Subject(servers, "deferred_none")
    with many.connect() as connection:
        connection.execute(_DEFERRED, {"task_type": Noop.task_type, "count": parameters.deferred})
        connection.execute("VACUUM (ANALYZE) queue.tasks_live")
    found: Json = {"deferred_tasks": parameters.deferred, "statements_ms": _statements(many, none, parameters, tell)}
    for subject in (many, none):
        subject.judge_by(_IS_LEFT)
    return found | _by_turns({"many": many, "none": none}, parameters, tell)


def _fill(subject: Subject, count: int, tell: Tell) -> None:
    with subject.connect() as connection:
        for months in range(1, 4):
            connection.execute(_MONTHS, (months,))
        for first in range(1, count + 1, _CHUNK):
            last = min(first + _CHUNK - 1, count)
            values = {"task_type": Noop.task_type, "first": first, "last": last, "count": count}
            connection.execute(_FINISHED, values)
            tell(f"{last:,} of {count:,} finished tasks")
        connection.execute("VACUUM (ANALYZE) queue.tasks_history")


def _history_bytes(subject: Subject) -> int:
    with subject.connect() as connection:
        [(size,)] = connection.execute(_HISTORY_BYTES).fetchall()
    return int(size)


def _by_turns(
    subjects: dict[str, Subject], parameters: Parameters, tell: Tell, before: Callable[[], None] = lambda: None
) -> Json:
    """Measure each once unreported, since caches fill; then in turns, the first of a turn being another each time."""
    rates: dict[str, list[float]] = {name: [] for name in subjects}
    for turn in range(parameters.rounds + 1):
        before()
        for name in list(subjects)[:: 1 if turn % 2 else -1]:
            rate = subjects[name].rate(parameters.tasks)
            if turn:
                rates[name].append(rate)
            tell(f"{name}: {rate:,.0f} tasks/s" + ("" if turn else " (to warm up)"))
    having, none = rates.values()
    ratio = statistics.median(having) / statistics.median(none)
    return {"tasks_per_second": {name: summary(found) for name, found in rates.items()}, "ratio": round(ratio, 3)}


def _statements(many: Subject, none: Subject, parameters: Parameters, tell: Tell) -> Json:
    """Return milliseconds of what a relay asks in a round: promote, look, and a claim, which is rolled back."""
    found: dict[str, dict[str, list[float]]] = {"many": {}, "none": {}}
    for subject in (many, none):
        with subject.connect() as connection:
            connection.execute(_DUE, {"task_type": Noop.task_type, "count": 2 * _CLAIMED})
            connection.execute("ANALYZE queue.tasks_live")
    with (
        connect(role_url(many.url, "relay"), name="bench") as of_many,
        connect(role_url(none.url, "relay"), name="bench") as of_none,
    ):
        for _ in range(_ASKED):
            for name, connection in (("many", of_many), ("none", of_none)):
                for what, milliseconds in _round_of_a_relay(connection).items():
                    found[name].setdefault(what, []).append(milliseconds)
    for subject in (many, none):
        with subject.connect() as connection:
            connection.execute("DELETE FROM queue.tasks_live WHERE is_due")
            connection.execute("VACUUM (ANALYZE) queue.tasks_live")
    result = {name: {what: summary(values, 3) for what, values in asked.items()} for name, asked in found.items()}
    tell(", ".join(f"{name} {what} {of['median']} ms" for name, asked in result.items() for what, of in asked.items()))
    return result


def _round_of_a_relay(connection: Connection) -> dict[str, float]:
    wanted = queue.Capacity("default", 1e9, [Noop.task_type], [1], [100])
    times: dict[str, float] = {}
    with connection.transaction(force_rollback=True):
        for what, act in (
            ("promote", lambda: queue.promote(connection, _CLAIMED)),
            ("look", lambda: queue.look(connection)),
            ("claim", lambda: Claimer(limit=_CLAIMED, claim_seconds=30).claim(connection, wanted)),
        ):
            begun = time.perf_counter()
            act()
            times[what] = (time.perf_counter() - begun) * 1000
    return times
