"""The life of a task as relay and worker drive it: claim, take, finish in batches, each statement timed."""

import statistics
import time
import uuid
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from psycopg import sql

from tests.benchmarks.queue_layout.bench import Bench, Connection, Json, one, vacuum
from tests.benchmarks.queue_layout.candidates import Layout


@dataclass
class Timing:
    """What one process did: tasks finished, and how long each statement took."""

    begin: float
    end: float = 0.0
    tasks: int = 0
    statements: list[tuple[str, float]] = field(default_factory=list)


class Engine:
    """Claims, takes and finishes batches over one connection, timing each statement."""

    def __init__(self, bench: Bench, layout: Layout, schema: str) -> None:
        self.conn = bench.connect(schema)
        self.batch = bench.batch
        self.timing = Timing(time.monotonic())
        self._worker = uuid.uuid4()
        names = {"claim": "claim", "take": "take", "finish": layout.finish, "load": "load"}
        self._sql = {k: layout.statement(name).as_bytes(self.conn) for k, name in names.items()}

    def run(self, step: str, parameters: Json) -> list[tuple[Any, ...]]:
        """Run one step's statement; its rows."""
        begin = time.monotonic()
        cursor = self.conn.execute(self._sql[step], parameters)
        rows = cursor.fetchall() if cursor.description else []
        self.timing.statements.append((step, time.monotonic() - begin))
        return rows

    def cycle(self) -> int:
        """Run one batch through its whole life; how many were claimed."""
        claimed = self.run("claim", {"queue": "default", "batch": self.batch})
        if not claimed:
            return 0
        taken = self.run("take", {**keys(claimed), "worker": self._worker})
        finished = self.run("finish", keys(taken))
        self.timing.tasks += len(finished)
        return len(claimed)


def keys(rows: list[tuple[Any, ...]]) -> Json:
    """Return the ids and claim numbers of rows as the parameters that address them."""
    return {"ids": [row[0] for row in rows], "claims": [row[1] for row in rows]}


def drain(bench: Bench, layout: Layout, schema: str) -> Timing:
    """Work until nothing is due."""
    engine = Engine(bench, layout, schema)
    with engine.conn:
        while engine.cycle():
            pass
        engine.timing.end = time.monotonic()
    return engine.timing


def supply_and_drain(bench: Bench, layout: Layout, schema: str) -> Timing:
    """Load a batch, work a batch, for the time given."""
    engine = Engine(bench, layout, schema)
    with engine.conn:
        while time.monotonic() < engine.timing.begin + bench.seconds:
            engine.run("load", {"tasks": engine.batch})
            engine.cycle()
        engine.timing.end = time.monotonic()
    return engine.timing


def drained(bench: Bench, pool: ProcessPoolExecutor, layout: Layout, schema: str) -> Json:
    """Load the tasks, drain them from several processes, vacuum; the figures of one round."""
    with bench.connect(schema) as conn:
        conn.execute(layout.statement("load"), {"tasks": bench.tasks})
        conn.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(layout.live)))
        before = _wal_position(conn)
        jobs = [pool.submit(drain, bench, layout, schema) for _ in range(bench.processes)]
        timings = [job.result() for job in jobs]
        written = _wal_position(conn) - before
        vacuumed = vacuum(conn, layout.live)
    elapsed = max(t.end for t in timings) - min(t.begin for t in timings)
    return {
        "tasks_per_second": sum(t.tasks for t in timings) / elapsed,
        "wal_bytes_per_task": written / bench.tasks,
        "vacuum_seconds": vacuumed,
    } | {f"{step}_ms": 1000 * statistics.median(durations(timings, step)) for step in ("claim", "take", "finish")}


def durations(timings: list[Timing], step: str) -> list[float]:
    """Return how long each statement of that step took, in all processes; seconds."""
    return [seconds for timing in timings for name, seconds in timing.statements if name == step]


def _wal_position(conn: Connection) -> int:
    return int(one(conn, "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"))
