"""What reads through the public name cost, by layout and by the width of history's partitions."""

import statistics
import time
import uuid
from collections import Counter

from psycopg import sql

from tests.benchmarks.queue_layout.bench import Bench, Connection, Json, one, vacuum
from tests.benchmarks.queue_layout.building import build, clear, drop
from tests.benchmarks.queue_layout.candidates import LAYOUTS, Layout

_QUERIES = ("by_id", "list_failed", "list_newest", "count_by_status")
_LIVE_TASKS = 10_000
_WIDTHS_DAYS, _WIDTHS_ROWS = (1, 7, 30), 1_000_000
_WARM_RUNS, _FIRST_READS = 5, 5


def measure_reads(bench: Bench) -> Json:
    """Plans through the public name, full history, a few live tasks."""
    result: Json = {}
    for name in bench.distinct:
        layout = LAYOUTS[name]
        schema = layout.schema(full=True)
        with bench.connect(schema) as conn:
            conn.execute(layout.statement("load"), {"tasks": _LIVE_TASKS})
            vacuum(conn, layout.live)
        result[name] = _plans(bench, layout, schema)
        clear(bench, layout)
    return result


def measure_widths(bench: Bench) -> Json:
    """Layout A with at most a million finished tasks in partitions of a day, a week, thirty days."""
    layout, result = LAYOUTS["A"], {}
    for width in _WIDTHS_DAYS:
        schema = f"layout_width_{width}"
        drop(bench, schema)
        build(bench, layout, min(bench.rows, _WIDTHS_ROWS), schema, width)
        figures = _plans(bench, layout, schema)
        result[f"{width} days"] = {"first_read_of_a_session_ms": _first_read(bench, layout, schema)} | {
            name: [plan["plan_ms"], plan["execute_ms"]] for name, plan in figures.items()
        }
        drop(bench, schema)
    return result


def _plans(bench: Bench, layout: Layout, schema: str) -> Json:
    """Explain each query of `_QUERIES`."""
    with bench.connect(schema) as conn:
        middle = one(
            conn,
            "SELECT id FROM outbox_tasks WHERE status = 'failed' AND completed_at > now() - interval '40 days' LIMIT 1",
        )
        return {name: _explained(conn, layout.statement(name), {"id": middle}) for name in _QUERIES}


def _explained(conn: Connection, query: sql.Composed, parameters: Json) -> Json:
    """Median planning and execution of warm runs, and the nodes that ran."""
    runs: list[Json] = []
    for _ in range(1 + _WARM_RUNS):
        cursor = conn.execute(sql.SQL("EXPLAIN (ANALYZE, FORMAT JSON) ") + query, parameters)
        runs += [plan for (plans,) in cursor.fetchall() for plan in plans]
    return {
        "plan_ms": round(statistics.median(run["Planning Time"] for run in runs[1:]), 2),
        "execute_ms": round(statistics.median(run["Execution Time"] for run in runs[1:]), 2),
        "nodes": dict(sorted(_executed(runs[-1]["Plan"]).items())),
    }


def _executed(plan: Json) -> Counter[str]:
    """Node types that ran, with how many of each."""
    counts = Counter([plan["Node Type"]] if plan["Actual Loops"] else [])
    for child in plan.get("Plans", []):
        counts += _executed(child)
    return counts


def _first_read(bench: Bench, layout: Layout, schema: str) -> float:
    """A read by id as the first statement of a connection: partitions are opened cold; ms."""
    times = []
    for _ in range(_FIRST_READS):
        with bench.connect(schema) as conn:
            begin = time.monotonic()
            conn.execute(layout.statement("by_id"), {"id": uuid.uuid4()})
            times.append(1000 * (time.monotonic() - begin))
    return round(statistics.median(times), 2)
