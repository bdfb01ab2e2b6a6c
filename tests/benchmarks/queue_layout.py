"""Measures candidates for the physical layout of the queue's tasks, on a database of your choice.

A: one table partitioned by status, moves written out on the leaves. A2: the same, moves left to
row movement. B: two tables behind a view. C: one plain table, completion in place.
The SQL is beside this file. Each layout stands in schemas of its own, `layout_a_empty` and
`layout_a_full` and so on, which the first run fills and later runs keep (`--rebuild` drops them).
Caveats: client and server share the machine; tasks are small; ids are version 7, so in order.

    python tests/benchmarks/queue_layout.py --dsn postgresql://postgres@localhost/scratch
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

FOLDER = Path(__file__).with_name("queue_layout_sql")
Json = dict[str, Any]
Connection = psycopg.Connection[tuple[Any, ...]]
Operands = dict[str, sql.Composable]


def sections(path: Path) -> dict[str, sql.SQL]:
    """Read the statements of a file by their `-- name:` lines."""
    parts = re.split(r"^-- name: (\w+)$", path.read_text(), flags=re.MULTILINE)[1:]
    return {name: sql.SQL(text) for name, text in zip(parts[::2], parts[1::2], strict=True)}


@dataclass(frozen=True)
class Layout:
    """A candidate: the file of its schema, where its rows stand, how it finishes a task."""

    name: str
    file: str
    live: str
    history: str
    finish: str

    def statement(self, name: str) -> sql.Composed:
        text = {**sections(FOLDER / "common.sql"), **sections(FOLDER / self.file)}[name]
        return text.format(live=sql.Identifier(self.live), history=sql.Identifier(self.history))

    def schema(self, full: bool) -> str:
        return f"layout_{self.file[0]}_{'full' if full else 'empty'}"

    @property
    def partitioned(self) -> bool:
        return self.history != self.live


LAYOUTS = {
    "A": Layout("A", "a.sql", "tasks_live", "tasks_history", "finish_by_move"),
    "A2": Layout("A2", "a.sql", "tasks_live", "tasks_history", "finish_by_update"),
    "B": Layout("B", "b.sql", "tasks_live", "tasks_history", "finish_by_move"),
    "C": Layout("C", "c.sql", "outbox_tasks", "outbox_tasks", "finish_in_place"),
}


@dataclass(frozen=True)
class Bench:
    """The parameters of a run, printed with its results."""

    dsn: str = field(repr=False)
    rows: int
    seconds: float
    tasks: int
    batch: int
    rounds: int
    processes: int
    history_days: int
    partition_days: int
    layouts: list[str]

    def connect(self, schema: str) -> Connection:
        return psycopg.connect(self.dsn, autocommit=True, options=f"-c search_path={schema},public")


# ---------------------------------------------------------------- setting up


def midnight(days: int) -> datetime:
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return today + timedelta(days=days)


def create_partitions(conn: Connection, table: str, past_days: int, width: int) -> None:
    """Cover the past and two widths of the future with partitions of `width` days."""
    bounds = [midnight(days) for days in range(-past_days - 1, 3 * width, width)]
    for low, high in pairwise(bounds):
        conn.execute(
            sql.SQL("CREATE TABLE {} PARTITION OF {} FOR VALUES FROM ({}) TO ({})").format(
                sql.Identifier(f"{table}_{low:%Y%m%d}"), sql.Identifier(table), low, high
            )
        )


def build(bench: Bench, layout: Layout, rows: int, schema: str, width: int) -> None:
    """Create a layout in a new schema and fill its history, indexes last."""
    with bench.connect(schema) as conn:
        conn.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
        conn.execute(layout.statement("columns"))
        conn.execute(layout.statement("schema"))
        if layout.partitioned:
            create_partitions(conn, layout.history, bench.history_days, width)
        if rows:
            conn.execute(layout.statement("fill"), {"rows": rows, "days": bench.history_days})
        conn.execute(layout.statement("history_indexes"))
        conn.execute(layout.statement("live_indexes"))
        vacuum(conn, layout.live)
        vacuum(conn, layout.history)


def exists(bench: Bench, schema: str) -> bool:
    with bench.connect(schema) as conn:
        found = conn.execute("SELECT to_regclass('outbox_tasks') IS NOT NULL").fetchone()
    return bool(found and found[0])


def drop(bench: Bench, schema: str) -> None:
    with bench.connect(schema) as conn:
        conn.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(schema)))


def prepare(bench: Bench, rebuild: bool) -> None:
    """Build what is missing, two schemas at a time."""
    wanted = {
        LAYOUTS[name].schema(full): (LAYOUTS[name], bench.rows if full else 0)
        for full in (True, False)
        for name in bench.layouts
    }
    with ProcessPoolExecutor(2) as pool:
        jobs = []
        for schema, (layout, rows) in wanted.items():
            if rebuild:
                drop(bench, schema)
            if not exists(bench, schema):
                jobs.append(pool.submit(build, bench, layout, rows, schema, bench.partition_days))
        for job in jobs:
            job.result()


def vacuum(conn: Connection, table: str) -> float:
    """Vacuum and analyze a table; seconds."""
    begin = time.monotonic()
    conn.execute(sql.SQL("VACUUM (ANALYZE) {}").format(sql.Identifier(table)))
    return time.monotonic() - begin


# ---------------------------------------------------------------- the life of a task


@dataclass
class Timing:
    """What one process did: tasks finished, and when each statement began and how long it took."""

    begin: float
    end: float = 0.0
    tasks: int = 0
    statements: list[tuple[str, float, float]] = field(default_factory=list)


class Engine:
    """Claims, takes and finishes batches over one connection, timing each statement."""

    def __init__(self, bench: Bench, layout: Layout, schema: str) -> None:
        self.conn = bench.connect(schema)
        self.batch = bench.batch
        self.worker = uuid.uuid4()
        self.timing = Timing(time.monotonic())
        names = {"claim": "claim", "take": "take", "finish": layout.finish, "load": "load"}
        self.sql = {k: layout.statement(name).as_bytes(self.conn) for k, name in names.items()}

    def run(self, step: str, parameters: Json) -> list[tuple[Any, ...]]:
        begin = time.monotonic()
        cursor = self.conn.execute(self.sql[step], parameters)
        rows = cursor.fetchall() if cursor.description else []
        self.timing.statements.append((step, begin, time.monotonic() - begin))
        return rows

    def cycle(self) -> int:
        """Run one batch through its whole life; how many were claimed."""
        claimed = self.run("claim", {"queue": "default", "batch": self.batch})
        if not claimed:
            return 0
        taken = self.run("take", {**keys(claimed), "worker": self.worker})
        finished = self.run("finish", keys(taken))
        self.timing.tasks += len(finished)
        return len(claimed)


def keys(rows: list[tuple[Any, ...]]) -> Json:
    return {"ids": [row[0] for row in rows], "claims": [row[1] for row in rows]}


def drain(bench: Bench, layout: Layout, schema: str) -> Timing:
    """Work until nothing is due."""
    engine = Engine(bench, layout, schema)
    with engine.conn:
        while engine.cycle():
            pass
        engine.timing.end = time.monotonic()
    return engine.timing


def supply_and_drain(bench: Bench, layout: Layout, schema: str, seconds: float) -> Timing:
    """Load a batch, work a batch, for a time."""
    engine = Engine(bench, layout, schema)
    with engine.conn:
        while time.monotonic() < engine.timing.begin + seconds:
            engine.run("load", {"tasks": engine.batch})
            engine.cycle()
        engine.timing.end = time.monotonic()
    return engine.timing


def drained(bench: Bench, pool: ProcessPoolExecutor, layout: Layout, schema: str) -> Json:
    """Load the tasks, drain them from several processes, vacuum; the figures of one round."""
    with bench.connect(schema) as conn:
        conn.execute(layout.statement("load"), {"tasks": bench.tasks})
        conn.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(layout.live)))
        before = wal_position(conn)
        jobs = [pool.submit(drain, bench, layout, schema) for _ in range(bench.processes)]
        timings = [job.result() for job in jobs]
        written = wal_position(conn) - before
        vacuumed = vacuum(conn, layout.live)
    elapsed = max(t.end for t in timings) - min(t.begin for t in timings)
    return {
        "tasks_per_second": sum(t.tasks for t in timings) / elapsed,
        "wal_bytes_per_task": written / bench.tasks,
        "vacuum_seconds": vacuumed,
    } | {f"{step}_ms": 1000 * median_of(timings, step) for step in ("claim", "take", "finish")}


def median_of(timings: list[Timing], step: str) -> float:
    return statistics.median(s for t in timings for name, _, s in t.statements if name == step)


def wal_position(conn: Connection) -> int:
    return int(one(conn, "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"))


def one(conn: Connection, query: str) -> Any:
    row = conn.execute(query.encode()).fetchone()
    return row[0] if row else None


def medians(rounds: list[Json]) -> Json:
    """Medians and, for the rate, the lowest and highest round."""
    result: Json = {k: round(statistics.median(r[k] for r in rounds), 2) for k in rounds[0]}
    rates = [r["tasks_per_second"] for r in rounds]
    return result | {"lowest": round(min(rates)), "highest": round(max(rates))}


def measure_lifecycle(bench: Bench) -> Json:
    """Claim, take, finish: empty history against full, in alternating rounds."""
    seen: dict[str, list[Json]] = {}
    with ProcessPoolExecutor(bench.processes) as pool:
        for _ in range(bench.rounds):
            for name in bench.layouts:
                for full in (False, True):
                    key = f"{name} {'full' if full else 'empty'}"
                    schema = LAYOUTS[name].schema(full)
                    figures = drained(bench, pool, LAYOUTS[name], schema)
                    seen.setdefault(key, []).append(figures)
    return {key: medians(rounds) for key, rounds in seen.items()}


def without_a2(bench: Bench) -> list[str]:
    """Layouts whose tables differ: A2 shares all but its finish with A."""
    return [name for name in bench.layouts if name != "A2"]


def measure_conditions(bench: Bench) -> Json:
    """The same beside a million deferred tasks, and beside a snapshot that stays open."""
    result: Json = {}
    with ProcessPoolExecutor(bench.processes) as pool:
        for name in without_a2(bench):
            layout = LAYOUTS[name]
            for condition in (plain, deferred, old_snapshot):
                schema = layout.schema(True)
                with condition(bench, layout) as facts:
                    rounds = [drained(bench, pool, layout, schema) for _ in range(bench.rounds)]
                result[f"{name} {condition.__name__}"] = medians(rounds) | facts
    return result


@contextmanager
def plain(_bench: Bench, _layout: Layout) -> Iterator[Json]:
    yield {}


@contextmanager
def deferred(bench: Bench, layout: Layout) -> Iterator[Json]:
    """A million tasks not yet due; on leaving, how fast they are promoted in batches."""
    with bench.connect(layout.schema(True)) as conn:
        conn.execute(layout.statement("defer"), {"tasks": 1_000_000})
        vacuum(conn, layout.live)
        facts: Json = {}
        yield facts
        begin, later, batches = time.monotonic(), midnight(30), 20
        for _ in range(batches):
            conn.execute(layout.statement("promote"), {"now": later, "batch": 1000})
        facts["promoted_per_second"] = round(1000 * batches / (time.monotonic() - begin))
        conn.execute(layout.statement("empty"))
        vacuum(conn, layout.live)


@contextmanager
def old_snapshot(bench: Bench, layout: Layout) -> Iterator[Json]:
    with bench.connect(layout.schema(True)) as conn, conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        conn.execute("SELECT 1 FROM outbox_tasks LIMIT 1")
        yield {}


# ---------------------------------------------------------------- foreign inserts


def insert_for(bench: Bench, schema: str, rows: int) -> float:
    """Insert `rows` a statement through the public name, for the time given; rows a second."""
    values = sql.SQL(", ").join([sql.SQL("('document.ingest', '{\"number\": 1}')")] * rows)
    text = sql.SQL("INSERT INTO outbox_tasks (task_type, payload) VALUES {} RETURNING id")
    with bench.connect(schema) as conn:
        query = text.format(values).as_bytes(conn)
        begin, done = time.monotonic(), 0
        while time.monotonic() < begin + bench.seconds:
            done += len(conn.execute(query).fetchall())
        return done / (time.monotonic() - begin)


def measure_insert(bench: Bench) -> Json:
    """Rows a second through the public name, one and a thousand a statement, full history."""
    seen: dict[str, list[float]] = {}
    names = without_a2(bench)
    with ProcessPoolExecutor(bench.processes) as pool:
        for _ in range(bench.rounds):
            for name, rows in ((name, rows) for rows in (1, 1000) for name in names):
                layout = LAYOUTS[name]
                jobs = [pool.submit(insert_for, bench, layout.schema(True), rows) for _ in range(bench.processes)]
                rate = sum(job.result() for job in jobs)
                seen.setdefault(f"{name} {rows} a statement", []).append(rate)
                clear(bench, layout)
    return {key: round(statistics.median(rates)) for key, rates in seen.items()}


def clear(bench: Bench, layout: Layout) -> None:
    with bench.connect(layout.schema(True)) as conn:
        conn.execute(layout.statement("empty"))
        vacuum(conn, layout.live)


# ---------------------------------------------------------------- races


def outcome(conn: Connection, query: sql.Composed, parameters: Json | None = None) -> str:
    """What a session gets: a number of rows or an SQLSTATE."""
    try:
        return f"{conn.execute(query, parameters).rowcount} rows"
    except psycopg.Error as error:
        return f"SQLSTATE {error.sqlstate}"


def wait_until_blocked(observer: Connection, pid: int, thread: threading.Thread) -> bool:
    """Whether the backend came to wait for a lock before its thread ended."""
    query = "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = %s"
    while thread.is_alive():
        row = observer.execute(query, (pid,)).fetchone()
        if row and row[0]:
            return True
        time.sleep(0.005)
    return False


def race(bench: Bench, layout: Layout, first: str, second: str) -> Json:
    """Run `first`, hold its transaction until `second` blocks or ends, commit, report both."""
    schema = layout.schema(False)
    with bench.connect(schema) as one_, bench.connect(schema) as two, bench.connect(schema) as eye:
        parameters = in_progress_task(eye, layout) | {"now": midnight(1)}
        got: Json = {}

        def run_second() -> None:
            got["second"] = outcome(two, layout.statement(second), parameters)

        thread = threading.Thread(target=run_second)
        with one_.transaction():
            got["first"] = outcome(one_, layout.statement(first), parameters)
            thread.start()
            got["second_waited"] = wait_until_blocked(eye, two.info.backend_pid, thread)
        thread.join()
        left = eye.execute(b"SELECT status FROM outbox_tasks WHERE id = ANY(%(ids)s)", parameters)
        got["left"] = [row[0] for row in left.fetchall()]
        eye.execute(layout.statement("empty"))
    return got


def in_progress_task(conn: Connection, layout: Layout) -> Json:
    """Make one task in progress; the parameters that finish it."""
    conn.execute(layout.statement("load"), {"tasks": 1})
    claim = layout.statement("claim")
    claimed = keys(conn.execute(claim, {"queue": "default", "batch": 1}).fetchall())
    conn.execute(layout.statement("take"), {**claimed, "worker": uuid.uuid4()})
    return claimed


def measure_races(bench: Bench) -> Json:
    """What each of two sessions gets, and what a storm of rescues does to batches."""
    result: Json = {}
    for name in bench.layouts:
        layout = LAYOUTS[name]
        pairs = [(layout.finish, second) for second in (layout.finish, "rescue", "rescue_skipping")]
        for first, second in [*pairs, ("rescue", layout.finish)]:
            result[f"{name}: {first}, then {second}"] = race(bench, layout, first, second)
        for rescue in ("rescue", "rescue_skipping"):
            result[f"{name}: storm of {rescue}"] = storm(bench, layout, rescue)
    return result


def storm(bench: Bench, layout: Layout, rescue: str) -> Json:
    """Drain while another session rescues whatever is in progress; errors and lost tasks."""
    schema, tasks = layout.schema(False), bench.tasks // 10
    with bench.connect(schema) as conn, ProcessPoolExecutor(bench.processes) as pool:
        before = one(conn, "SELECT count(*) FROM outbox_tasks")
        conn.execute(layout.statement("load"), {"tasks": tasks})
        jobs = [pool.submit(drain_through_errors, bench, layout, schema) for _ in range(bench.processes)]
        got: dict[str, int] = {}
        while not all(job.done() for job in jobs):
            count(got, outcome(conn, layout.statement(rescue), {"now": midnight(1)}))
            time.sleep(0.02)
        finished = sum(job.result()[0] for job in jobs)
        errors = [error for job in jobs for error in job.result()[1]]
        after = one(conn, "SELECT count(*) FROM outbox_tasks")
        again = one(conn, "SELECT count(*) - count(DISTINCT id) FROM outbox_tasks")
        pending = one(conn, "SELECT count(*) FROM outbox_tasks WHERE status <> 'done'")
        clear_left = layout.statement("empty")
        conn.execute(clear_left)
    return {
        "finished": finished,
        "lost": before + tasks - after,
        "twice": again,
        "not_done": pending,
        "errors_of_workers": {error: errors.count(error) for error in sorted(set(errors))},
        "errors_of_rescue": {k: n for k, n in got.items() if k.startswith("SQLSTATE")},
        "rescues_with_rows": sum(n for k, n in got.items() if k.endswith(" rows") and k != "0 rows"),
    }


def count(counts: dict[str, int], key: str) -> None:
    counts[key] = counts.get(key, 0) + 1


def drain_through_errors(bench: Bench, layout: Layout, schema: str) -> tuple[int, list[str]]:
    """Drain until idle for half a second, going on after errors."""
    engine, errors = Engine(bench, layout, schema), []
    with engine.conn:
        busy = time.monotonic()
        while time.monotonic() < busy + 0.5:
            try:
                if engine.cycle():
                    busy = time.monotonic()
            except psycopg.Error as error:
                errors.append(f"SQLSTATE {error.sqlstate}")
    return engine.timing.tasks, errors


# ---------------------------------------------------------------- maintenance under load


@dataclass(frozen=True)
class Operation:
    """Statements of maintenance, with {history}, {old} and {new} partition, {low} and {high}."""

    name: str
    statements: list[str]
    transactional: bool = True


OPERATIONS = [
    Operation("nothing", ["SELECT 1"]),
    Operation("DROP TABLE", ["DROP TABLE {old}"]),
    Operation("DETACH", ["ALTER TABLE {history} DETACH PARTITION {old}"]),
    Operation(
        "DETACH CONCURRENTLY, DROP",
        ["ALTER TABLE {history} DETACH PARTITION {old} CONCURRENTLY", "DROP TABLE {old}"],
        transactional=False,
    ),
    Operation(
        "CREATE PARTITION OF",
        ["CREATE TABLE {new} PARTITION OF {history} FOR VALUES FROM ({low}) TO ({high})"],
    ),
    Operation(
        "CREATE apart, ATTACH",
        [
            "CREATE TABLE {new} (LIKE {history} INCLUDING ALL)",
            "ALTER TABLE {new} ADD CHECK (status IN ('done', 'failed', 'cancelled')"
            " AND completed_at >= {low} AND completed_at < {high})",
            "ALTER TABLE {history} ATTACH PARTITION {new} FOR VALUES FROM ({low}) TO ({high})",
        ],
    ),
]
DELETION = Operation("DELETE of a week", ["DELETE FROM {history} WHERE completed_at < {oldest}"])


def under_load(bench: Bench, layout: Layout, operation: Operation) -> Json:
    """Run an operation beside workers at full speed, while a reader keeps a transaction open.

    The reader opens at a tenth of the time and ends at seven tenths, the operation starts at
    three tenths: what waits for the reader waits four tenths of `seconds`.
    """
    schema = layout.schema(True)
    with ProcessPoolExecutor(bench.processes) as pool, bench.connect(schema) as reader:
        names = operands(reader, layout)
        jobs = [pool.submit(supply_and_drain, bench, layout, schema, bench.seconds) for _ in range(bench.processes)]
        time.sleep(bench.seconds * 0.1)
        with reader.transaction():
            reader.execute(b"SELECT 1 FROM outbox_tasks LIMIT 1")
            time.sleep(bench.seconds * 0.2)
            thread, facts = start(bench, layout, operation, names)
            time.sleep(bench.seconds * 0.4)
        timings = [job.result() for job in jobs]
        thread.join()
    clear(bench, layout)
    return facts | {
        f"{step}_{name}_ms": round(1000 * value, 1)
        for step in ("claim", "finish", "load")
        for name, value in extremes(timings, step).items()
    }


def extremes(timings: list[Timing], step: str) -> dict[str, float]:
    taken = sorted(s for t in timings for name, _, s in t.statements if name == step)
    return {"median": statistics.median(taken), "max": taken[-1]}


def start(bench: Bench, layout: Layout, operation: Operation, names: Operands) -> tuple[threading.Thread, Json]:
    """Start the operation in a thread; its facts fill in while it runs."""
    facts: Json = {"locks": {}}
    thread = threading.Thread(target=operate, args=(bench, layout, operation, names, facts))
    thread.start()
    return thread, facts


def operate(bench: Bench, layout: Layout, operation: Operation, names: Operands, facts: Json) -> None:
    """Run the statements, sampling the locks of their backend from another one."""
    schema, stop = layout.schema(True), threading.Event()
    with bench.connect(schema) as conn, bench.connect(schema) as eye:
        pid = conn.info.backend_pid
        watcher = threading.Thread(target=watch, args=(eye, pid, facts["locks"], stop))
        watcher.start()
        try:
            begin = time.monotonic()
            conn.autocommit = not operation.transactional
            for statement in operation.statements:
                conn.execute(sql.SQL(statement).format(**names))
                note_locks(conn, pid, facts["locks"])
            conn.commit()
            facts["seconds"] = round(time.monotonic() - begin, 3)
        finally:
            stop.set()
            watcher.join()


def operands(conn: Connection, layout: Layout) -> Operands:
    """Names and bounds for an operation, looked up before the load begins."""
    names = [
        row[0]
        for row in conn.execute(
            b"SELECT inhrelid::regclass::text FROM pg_inherits"
            b" WHERE inhparent = to_regclass('tasks_history') AND NOT inhdetachpending ORDER BY 1"
        ).fetchall()
    ] or [f"tasks_history_{midnight(0):%Y%m%d}"]
    newest = datetime.strptime(names[-1][-8:], "%Y%m%d").replace(tzinfo=UTC)
    low = newest + timedelta(days=30)
    oldest = None
    if not layout.partitioned:
        oldest = one(conn, "SELECT min(completed_at) + interval '7 days' FROM outbox_tasks")
    return {
        "history": sql.Identifier(layout.history),
        "old": sql.Identifier(names[0]),
        "new": sql.Identifier(f"tasks_history_{low:%Y%m%d}"),
        "low": sql.Literal(low),
        "high": sql.Literal(low + timedelta(days=7)),
        "oldest": sql.Literal(oldest),
    }


def watch(eye: Connection, pid: int, locks: Json, stop: threading.Event) -> None:
    while not stop.is_set():
        note_locks(eye, pid, locks)
        time.sleep(0.001)


def note_locks(conn: Connection, pid: int, locks: Json) -> None:
    """Add the backend's locks on the queue's tables: relation, then modes, waited for or not."""
    rows = conn.execute(
        "SELECT relation::regclass::text, mode || CASE WHEN granted THEN '' ELSE ' (waits)' END"
        " FROM pg_locks JOIN pg_class ON pg_class.oid = relation"
        " WHERE pid = %s AND locktype = 'relation' AND relkind IN ('r', 'p', 'v')"
        " AND relname LIKE '%%tasks%%'",
        (pid,),
    ).fetchall()
    for relation, mode in rows:
        modes = locks.setdefault(relation, [])
        if mode not in modes:
            modes.append(mode)


def measure_maintenance(bench: Bench) -> Json:
    """Latency of claims and finishes during partition work, and the locks it takes."""
    result: Json = {}
    for name in without_a2(bench):
        layout = LAYOUTS[name]
        operations = OPERATIONS if layout.partitioned else [OPERATIONS[0], DELETION]
        for operation in operations:
            result[f"{name}: {operation.name}"] = under_load(bench, layout, operation)
    return result


# ---------------------------------------------------------------- reading


def explained(conn: Connection, query: sql.Composed, parameters: Json) -> Json:
    """Median planning and execution of five warm runs, and the nodes that ran."""
    runs = []
    for _ in range(6):
        cursor = conn.execute(sql.SQL("EXPLAIN (ANALYZE, FORMAT JSON) ") + query, parameters)
        runs += [plan for (plans,) in cursor.fetchall() for plan in plans]
    return {
        "plan_ms": round(statistics.median(run["Planning Time"] for run in runs[1:]), 2),
        "execute_ms": round(statistics.median(run["Execution Time"] for run in runs[1:]), 2),
        "nodes": dict(sorted(executed(runs[-1]["Plan"]).items())),
    }


def executed(plan: Json) -> dict[str, int]:
    """Node types that ran, with how many of each."""
    counts: dict[str, int] = {}
    if plan["Actual Loops"]:
        count(counts, plan["Node Type"])
    for child in plan.get("Plans", []):
        for node, number in executed(child).items():
            counts[node] = counts.get(node, 0) + number
    return counts


def reads(bench: Bench, layout: Layout, schema: str) -> Json:
    queries = ["by_id", "list_failed", "list_newest", "list_pending", "count_by_status"]
    with bench.connect(schema) as conn:
        middle = one(
            conn,
            "SELECT id FROM outbox_tasks WHERE status = 'failed' AND completed_at > now() - interval '40 days' LIMIT 1",
        )
        return {q: explained(conn, layout.statement(q), {"id": middle}) for q in queries}


def measure_reads(bench: Bench) -> Json:
    """Plans through the public name, full history, a few live tasks."""
    result: Json = {}
    for name in without_a2(bench):
        layout = LAYOUTS[name]
        with bench.connect(layout.schema(True)) as conn:
            conn.execute(layout.statement("load"), {"tasks": 10_000})
            vacuum(conn, layout.live)
        result[name] = reads(bench, layout, layout.schema(True))
        clear(bench, layout)
    return result


def measure_widths(bench: Bench) -> Json:
    """Layout A with a million finished tasks in partitions of a day, a week, thirty days."""
    layout, result = LAYOUTS["A"], {}
    with ProcessPoolExecutor(bench.processes) as pool:
        for width in (1, 7, 30):
            schema = f"layout_width_{width}"
            drop(bench, schema)
            build(bench, layout, min(bench.rows, 1_000_000), schema, width)
            rounds = [drained(bench, pool, layout, schema) for _ in range(bench.rounds)]
            figures = reads(bench, layout, schema)
            result[f"{width} days"] = {
                "drain": medians(rounds),
                "first_read_of_a_session_ms": first_read(bench, schema),
            } | {q: [f["plan_ms"], f["execute_ms"]] for q, f in figures.items()}
            drop(bench, schema)
    return result


def first_read(bench: Bench, schema: str) -> float:
    """A read by id as the first statement of a connection: partitions are opened cold; ms."""
    times = []
    for _ in range(5):
        with bench.connect(schema) as conn:
            begin = time.monotonic()
            conn.execute(LAYOUTS["A"].statement("by_id"), {"id": uuid.uuid4()})
            times.append(1000 * (time.monotonic() - begin))
    return round(statistics.median(times), 2)


# ---------------------------------------------------------------- row security, tuning


def measure_policies(bench: Bench) -> Json:
    """Who sees what under FORCE ROW LEVEL SECURITY, in a transaction that is rolled back."""
    result: Json = {}
    for name in without_a2(bench):
        layout = LAYOUTS[name]
        steps = ["policies", "policies_on_live"] if layout.file == "a.sql" else ["policies"]
        for last in range(1, len(steps) + 1):
            with bench.connect(layout.schema(False)) as conn:
                key = f"{name} {' + '.join(steps[:last])}"
                result[key] = seen_by_tenant(conn, layout, steps[:last])
    return result


def seen_by_tenant(conn: Connection, layout: Layout, steps: list[str]) -> Json:
    relations = dict.fromkeys(["outbox_tasks", layout.live, layout.history])
    schema = sql.Identifier(one(conn, "SELECT current_schema()"))
    with conn.transaction(force_rollback=True):
        for step in steps:
            conn.execute(layout.statement(step))
        conn.execute(layout.statement("load"), {"tasks": 3})
        conn.execute(b"CREATE ROLE layout_tenant")
        for target in (sql.SQL("USAGE ON SCHEMA {}"), sql.SQL("ALL ON ALL TABLES IN SCHEMA {}")):
            conn.execute(sql.SQL("GRANT ") + target.format(schema) + sql.SQL(" TO layout_tenant"))
        conn.execute(b"SET LOCAL ROLE layout_tenant")
        conn.execute(b"SELECT set_config('app.current_tenant_id', gen_random_uuid()::text, true)")
        seen: Json = {relation: visible(conn, relation) for relation in relations}
        insert = sql.SQL("INSERT INTO outbox_tasks (task_type) VALUES ('x')").format()
        seen["insert for another tenant"] = outcome(conn, insert)
    return seen


def visible(conn: Connection, relation: str) -> str:
    return outcome(conn, sql.SQL("SELECT id FROM {}").format(sql.Identifier(relation)))


@dataclass(frozen=True)
class Tuning:
    """Storage settings of the live leaf, and columns whose partial index goes."""

    settings: str = "fillfactor = 100"
    unindexed: tuple[str, ...] = ()


EAGER = (
    "autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000,"
    " autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0,"
    " autovacuum_analyze_threshold = 50000"
)
TUNINGS = {
    "as it comes": Tuning(),
    "fillfactor 70": Tuning("fillfactor = 70"),
    "fillfactor 50": Tuning("fillfactor = 50"),
    "eager autovacuum": Tuning(EAGER),
    "claims not indexed": Tuning(unindexed=("claimed_until",)),
    "claims, leases not indexed": Tuning(unindexed=("claimed_until", "lease_until")),
}


def measure_tuning(bench: Bench) -> Json:
    """A steady load on copies of layout A's live leaf with other settings, alternating."""
    layout, seen = LAYOUTS["A"], dict[str, list[Json]]()
    with ProcessPoolExecutor(bench.processes) as pool:
        for number in range(bench.rounds):
            for name, tuning in TUNINGS.items():
                schema = f"layout_tuning_{number}"
                drop(bench, schema)
                build(bench, layout, 0, schema, bench.partition_days)
                seen.setdefault(name, []).append(tuned(bench, pool, schema, tuning))
                drop(bench, schema)
    return {name: medians(rounds) for name, rounds in seen.items()}


def tuned(bench: Bench, pool: ProcessPoolExecutor, schema: str, tuning: Tuning) -> Json:
    """Load and work for a time; the rate, and what the leaf weighs after it."""
    with bench.connect(schema) as conn:
        conn.execute(sql.SQL("ALTER TABLE tasks_live SET ({})").format(sql.SQL(tuning.settings)))
        for column in tuning.unindexed:
            name = sql.Identifier(f"tasks_live_{column}_idx")
            conn.execute(sql.SQL("DROP INDEX {}").format(name))
        jobs = [
            pool.submit(supply_and_drain, bench, LAYOUTS["A"], schema, bench.seconds) for _ in range(bench.processes)
        ]
        timings = [job.result() for job in jobs]
        size = one(conn, "SELECT pg_total_relation_size('tasks_live')")
    return {
        "tasks_per_second": sum(t.tasks for t in timings) / bench.seconds,
        "live_leaf_megabytes": size / 2**20,
        "claim_median_ms": 1000 * median_of(timings, "claim"),
    }


def measure_renewals(bench: Bench) -> Json:
    """Renewals of leases with the lease indexed and not, at several fill factors."""
    with bench.connect(LAYOUTS["A"].schema(False)) as conn:
        return {
            f"fillfactor {fill}, {index}": renewals(conn, f"fillfactor = {fill}", index)
            for fill in (100, 70, 50)
            for index in ("lease indexed", "lease not indexed")
        }


def renewals(conn: Connection, settings: str, index: str) -> Json:
    """Renew the leases of 2,000 running tasks 50 times; rows a second and the share of HOT."""
    conn.execute(b"CREATE TABLE renewed (LIKE tasks_live INCLUDING ALL)")
    conn.execute(sql.SQL("ALTER TABLE renewed SET ({})").format(sql.SQL(settings)))
    if index == "lease not indexed":
        conn.execute(b"DROP INDEX renewed_lease_until_idx")
    conn.execute(
        b"INSERT INTO renewed (task_type, status, worker_id, lease_until)"
        b" SELECT 'x', 'in_progress', gen_random_uuid(), now() FROM generate_series(1, 2000)"
    )
    begin = time.monotonic()
    for _ in range(50):
        conn.execute(b"UPDATE renewed SET lease_until = clock_timestamp()")
    elapsed = time.monotonic() - begin
    conn.execute(b"SELECT pg_stat_force_next_flush()")
    hot = one(conn, "SELECT pg_stat_get_tuples_hot_updated('renewed'::regclass)")
    conn.execute(b"DROP TABLE renewed")
    return {"rows_per_second": round(100_000 / elapsed), "hot_percent": round(hot / 1000, 1)}


# ---------------------------------------------------------------- the command


MEASURES: dict[str, Callable[[Bench], Json]] = {
    "lifecycle": measure_lifecycle,
    "insert": measure_insert,
    "conditions": measure_conditions,
    "races": measure_races,
    "reads": measure_reads,
    "policies": measure_policies,
    "widths": measure_widths,
    "tuning": measure_tuning,
    "renewals": measure_renewals,
    "maintenance": measure_maintenance,
}


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dsn", required=True, help="a superuser's address of a scratch database")
    parser.add_argument("--rows", type=int, default=10_000_000, help="finished tasks a layout")
    parser.add_argument("--seconds", type=float, default=5, help="of each timed load")
    parser.add_argument("--tasks", type=int, default=150_000, help="drained in each round")
    parser.add_argument("--batch", type=int, default=250)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--history-days", type=int, default=90)
    parser.add_argument("--partition-days", type=int, default=7)
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=list(LAYOUTS))
    parser.add_argument("--measures", nargs="+", choices=MEASURES, default=list(MEASURES))
    parser.add_argument("--rebuild", action="store_true", help="fill anew instead of keeping")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> None:
    """Build what is missing, measure, write parameters and results as JSON."""
    options = vars(parse(arguments))
    measures, rebuild = options.pop("measures"), options.pop("rebuild")
    bench = Bench(**options)
    prepare(bench, rebuild)
    with bench.connect("public") as conn:
        server = one(conn, "SELECT version()")
    parameters = {k: v for k, v in asdict(bench).items() if k != "dsn"} | {"server": server}
    results = {}
    for name in measures:
        begin = time.monotonic()
        results[name] = MEASURES[name](bench)
        sys.stderr.write(f"{name}: {time.monotonic() - begin:.0f} s\n")
    json.dump({"parameters": parameters, "results": results}, sys.stdout, indent=2, default=str)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main(sys.argv[1:])
