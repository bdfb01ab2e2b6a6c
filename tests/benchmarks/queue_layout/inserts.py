"""How fast foreign clients insert through the public name."""

import statistics
import time
from concurrent.futures import ProcessPoolExecutor

from psycopg import sql

from tests.benchmarks.queue_layout.bench import Bench, Json
from tests.benchmarks.queue_layout.building import clear
from tests.benchmarks.queue_layout.candidates import LAYOUTS


def measure_inserts(bench: Bench) -> Json:
    """Rows a second through the public name, one and a thousand a statement, full history."""
    seen: dict[str, list[float]] = {}
    with ProcessPoolExecutor(bench.processes) as pool:
        for _ in range(bench.rounds):
            for name, rows in ((name, rows) for rows in (1, 1000) for name in bench.distinct):
                layout = LAYOUTS[name]
                schema = layout.schema(full=True)
                jobs = [pool.submit(_insert, bench, schema, rows) for _ in range(bench.processes)]
                seen.setdefault(f"{name} {rows} a statement", []).append(sum(job.result() for job in jobs))
                clear(bench, layout)
    return {key: round(statistics.median(rates)) for key, rates in seen.items()}


def _insert(bench: Bench, schema: str, rows: int) -> float:
    """Insert `rows` a statement for the time given; rows a second."""
    values = sql.SQL(", ").join([sql.SQL("('document.ingest', '{\"number\": 1}')")] * rows)
    text = sql.SQL("INSERT INTO outbox_tasks (task_type, payload) VALUES {} RETURNING id")
    with bench.connect(schema) as conn:
        query = text.format(values).as_bytes(conn)
        begin, done = time.monotonic(), 0
        while time.monotonic() < begin + bench.seconds:
            done += len(conn.execute(query).fetchall())
        return done / (time.monotonic() - begin)
