"""What two sessions get that want the same task, and what a storm of rescues does to batches."""

import threading
import time
import uuid
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

import psycopg

from tests.benchmarks.queue_layout.bench import Bench, Connection, Json, one, outcome
from tests.benchmarks.queue_layout.building import midnight
from tests.benchmarks.queue_layout.candidates import LAYOUTS, Layout
from tests.benchmarks.queue_layout.engine import Engine, keys

_IDLE_SECONDS = 0.5


def measure_races(bench: Bench) -> Json:
    """Pairs of statements on one task, then storms, on an empty history."""
    result: Json = {}
    for name in bench.layouts:
        layout = LAYOUTS[name]
        pairs = [(layout.finish, second) for second in (layout.finish, "rescue", "rescue_skipping")]
        for first, second in [*pairs, ("rescue", layout.finish)]:
            result[f"{name}: {first}, then {second}"] = _race(bench, layout, first, second)
        for rescue in ("rescue", "rescue_skipping"):
            result[f"{name}: storm of {rescue}"] = _storm(bench, layout, rescue)
    return result


def _race(bench: Bench, layout: Layout, first: str, second: str) -> Json:
    """Run `first`, hold its transaction until `second` blocks or ends, commit, report both."""
    schema = layout.schema(full=False)
    with bench.connect(schema) as holder, bench.connect(schema) as other, bench.connect(schema) as eye:
        parameters = _task_in_progress(eye, layout) | {"now": midnight(1)}
        got: Json = {}

        def run_second() -> None:
            got["second"] = outcome(other, layout.statement(second), parameters)

        thread = threading.Thread(target=run_second)
        with holder.transaction():
            got["first"] = outcome(holder, layout.statement(first), parameters)
            thread.start()
            got["second_waited"] = _comes_to_wait(eye, other.info.backend_pid, thread)
        thread.join()
        left = eye.execute(b"SELECT status FROM outbox_tasks WHERE id = ANY(%(ids)s)", parameters)
        got["left"] = [row[0] for row in left.fetchall()]
        eye.execute(layout.statement("empty"))
    return got


def _task_in_progress(conn: Connection, layout: Layout) -> Json:
    """Make one task in progress; the parameters that finish it."""
    conn.execute(layout.statement("load"), {"tasks": 1})
    claimed = keys(conn.execute(layout.statement("claim"), {"queue": "default", "batch": 1}).fetchall())
    conn.execute(layout.statement("take"), {**claimed, "worker": uuid.uuid4()})
    return claimed


def _comes_to_wait(eye: Connection, pid: int, thread: threading.Thread) -> bool:
    """Return whether the backend came to wait for a lock before its thread ended."""
    query = "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = %s"
    while thread.is_alive():
        row = eye.execute(query, (pid,)).fetchone()
        if row and row[0]:
            return True
        time.sleep(0.005)
    return False


def _storm(bench: Bench, layout: Layout, rescue: str) -> Json:
    """Drain while another session rescues whatever is in progress; errors and lost tasks."""
    schema, tasks = layout.schema(full=False), bench.tasks // 10
    with bench.connect(schema) as conn, ProcessPoolExecutor(bench.processes) as pool:
        before = one(conn, "SELECT count(*) FROM outbox_tasks")
        conn.execute(layout.statement("load"), {"tasks": tasks})
        jobs = [pool.submit(_drain_through_errors, bench, layout, schema) for _ in range(bench.processes)]
        rescues: Counter[str] = Counter()
        while not all(job.done() for job in jobs):
            rescues[outcome(conn, layout.statement(rescue), {"now": midnight(1)})] += 1
            time.sleep(0.02)
        after = one(conn, "SELECT count(*) FROM outbox_tasks")
        again = one(conn, "SELECT count(*) - count(DISTINCT id) FROM outbox_tasks")
        pending = one(conn, "SELECT count(*) FROM outbox_tasks WHERE status IN ('pending', 'in_progress')")
        conn.execute(layout.statement("empty"))
    return {
        "finished": sum(job.result()[0] for job in jobs),
        "lost": before + tasks - after,
        "twice": again,
        "not_done": pending,
        "errors_of_workers": dict(sum((job.result()[1] for job in jobs), Counter[str]())),
        "errors_of_rescue": {k: n for k, n in rescues.items() if k.startswith("SQLSTATE")},
        "rescues_with_rows": sum(n for k, n in rescues.items() if k.endswith(" rows") and k != "0 rows"),
    }


def _drain_through_errors(bench: Bench, layout: Layout, schema: str) -> tuple[int, Counter[str]]:
    """Drain until idle for a while, going on after errors."""
    engine, errors = Engine(bench, layout, schema), Counter[str]()
    with engine.conn:
        busy = time.monotonic()
        while time.monotonic() < busy + _IDLE_SECONDS:
            try:
                if engine.cycle():
                    busy = time.monotonic()
            except psycopg.Error as error:
                errors[f"SQLSTATE {error.sqlstate}"] += 1
    return engine.timing.tasks, errors
