"""What deferred tasks, and a snapshot that stays open, do to the throughput."""

import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

from tests.benchmarks.queue_layout.bench import Bench, Json, medians, vacuum
from tests.benchmarks.queue_layout.building import midnight
from tests.benchmarks.queue_layout.candidates import LAYOUTS, Layout
from tests.benchmarks.queue_layout.engine import drained

_PROMOTED_BATCH, _PROMOTED_BATCHES = 1000, 20


def measure_deferred(bench: Bench) -> Json:
    """Claim, take, finish: alone, beside deferred tasks, beside a snapshot that stays open. One after the other."""
    result: Json = {}
    with ProcessPoolExecutor(bench.processes) as pool:
        for name in bench.distinct:
            layout = LAYOUTS[name]
            for condition in (plain, deferred, old_snapshot):
                with condition(bench, layout) as facts:
                    rounds = [drained(bench, pool, layout, layout.schema(full=True)) for _ in range(bench.rounds)]
                result[f"{name} {condition.__name__}"] = medians(rounds) | facts
    return result


@contextmanager
def plain(_bench: Bench, _layout: Layout) -> Iterator[Json]:
    """Nothing beside the load."""
    yield {}


@contextmanager
def deferred(bench: Bench, layout: Layout) -> Iterator[Json]:
    """Tasks that are not yet due; on leaving, how fast they are promoted in batches."""
    with bench.connect(layout.schema(full=True)) as conn:
        conn.execute(layout.statement("defer"), {"tasks": bench.deferred})
        vacuum(conn, layout.live)
        facts: Json = {}
        yield facts
        begin, later, promoted = time.monotonic(), midnight(30), 0
        for _ in range(_PROMOTED_BATCHES):
            promoted += conn.execute(layout.statement("promote"), {"now": later, "batch": _PROMOTED_BATCH}).rowcount
        facts["promoted_per_second"] = round(promoted / (time.monotonic() - begin))
        conn.execute(layout.statement("empty"))
        vacuum(conn, layout.live)


@contextmanager
def old_snapshot(bench: Bench, layout: Layout) -> Iterator[Json]:
    """A transaction that keeps vacuum from removing what died since."""
    with bench.connect(layout.schema(full=True)) as conn, conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        conn.execute("SELECT 1 FROM outbox_tasks LIMIT 1")
        yield {}
