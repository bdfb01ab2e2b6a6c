"""Partition work beside workers at full speed: the locks it takes, and how long claims and finishes wait for it."""

import threading
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from psycopg import sql

from tests.benchmarks.queue_layout.bench import Bench, Connection, Json, one
from tests.benchmarks.queue_layout.building import clear, midnight
from tests.benchmarks.queue_layout.candidates import LAYOUTS, Layout
from tests.benchmarks.queue_layout.engine import durations, supply_and_drain

Operands = dict[str, sql.Composable]


@dataclass(frozen=True)
class Operation:
    """Statements of maintenance, with {history}, {old} and {new} partition, {low} and {high}."""

    name: str
    statements: list[str]
    transactional: bool = True


_NOTHING = Operation("nothing", ["SELECT 1"])
_OPERATIONS = [
    _NOTHING,
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
_DELETION = Operation("DELETE of a week", ["DELETE FROM {history} WHERE completed_at < {oldest}"])


def measure_locks(bench: Bench) -> Json:
    """Longest claim and finish during partition work, and the locks it takes. Each operation uses a partition up."""
    result: Json = {}
    for name in bench.distinct:
        layout = LAYOUTS[name]
        for operation in _OPERATIONS if layout.is_partitioned else [_NOTHING, _DELETION]:
            result[f"{name}: {operation.name}"] = _under_load(bench, layout, operation)
    return result


def _under_load(bench: Bench, layout: Layout, operation: Operation) -> Json:
    """Run an operation beside workers at full speed, while a reader keeps a transaction open.

    The reader opens at a tenth of the time and ends at seven tenths, the operation starts at
    three tenths: what waits for the reader waits four tenths of `seconds`.
    """
    schema = layout.schema(full=True)
    facts: Json = {"locks": {}}
    with ProcessPoolExecutor(bench.processes) as pool, bench.connect(schema) as reader:
        arguments = (bench, layout, operation, _operands(reader, layout), facts)
        thread = threading.Thread(target=_operate, args=arguments)
        jobs = [pool.submit(supply_and_drain, bench, layout, schema) for _ in range(bench.processes)]
        time.sleep(bench.seconds * 0.1)
        with reader.transaction():
            reader.execute(b"SELECT 1 FROM outbox_tasks LIMIT 1")
            time.sleep(bench.seconds * 0.2)
            thread.start()
            time.sleep(bench.seconds * 0.4)
        timings = [job.result() for job in jobs]
        thread.join()
    clear(bench, layout)
    return facts | {f"{step}_max_ms": round(1000 * max(durations(timings, step)), 1) for step in ("claim", "finish")}


def _operands(conn: Connection, layout: Layout) -> Operands:
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
    if not layout.is_partitioned:
        oldest = one(conn, "SELECT min(completed_at) + interval '7 days' FROM outbox_tasks")
    return {
        "history": sql.Identifier(layout.history),
        "old": sql.Identifier(names[0]),
        "new": sql.Identifier(f"tasks_history_{low:%Y%m%d}"),
        "low": sql.Literal(low),
        "high": sql.Literal(low + timedelta(days=7)),
        "oldest": sql.Literal(oldest),
    }


def _operate(bench: Bench, layout: Layout, operation: Operation, operands: Operands, facts: Json) -> None:
    """Run the statements, sampling the locks of their backend from another one; `facts` fills in meanwhile."""
    schema, stop = layout.schema(full=True), threading.Event()
    with bench.connect(schema) as conn, bench.connect(schema) as eye:
        pid = conn.info.backend_pid
        watcher = threading.Thread(target=_watch, args=(eye, pid, facts["locks"], stop))
        watcher.start()
        try:
            begin = time.monotonic()
            conn.autocommit = not operation.transactional
            for statement in operation.statements:
                conn.execute(sql.SQL(statement).format(**operands))
                _note_locks(conn, pid, facts["locks"])
            conn.commit()
            facts["seconds"] = round(time.monotonic() - begin, 3)
        finally:
            stop.set()
            watcher.join()


def _watch(eye: Connection, pid: int, locks: Json, stop: threading.Event) -> None:
    while not stop.is_set():
        _note_locks(eye, pid, locks)
        time.sleep(0.001)


def _note_locks(conn: Connection, pid: int, locks: Json) -> None:
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
