"""One trial: a queue at a share of its saturation, retention beside it under kills, and what both came to."""

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.benchmarks.retention.judging import judge, strays
from tests.benchmarks.retention.killing import Killer, Tally
from tests.benchmarks.retention.plan import KEPT, Plan
from tests.benchmarks.retention.processor import Meter
from tests.benchmarks.retention.producing import Producer
from tests.benchmarks.retention.seeding import Tell, seed
from tests.benchmarks.retention.tasks import MODULE
from tests.faults.rig import Rig
from tests.support.waiting import pass_time

QUEUE = "retention"
_TIMES = {
    "RELAY_CLAIM_SECONDS": "2",
    "RELAY_RESCUE_SECONDS": "0.3",
    "RELAY_PROCESS_TIMEOUT": "3",
    "WORKER_LEASE_SECONDS": "3",
    "WORKER_GRACE_SECONDS": "2",
}
# The rig's witness looks at each end of an attempt, which is a good part of a task that does nothing.
_UNWATCHED = (
    "DROP TRIGGER witness_of_updates ON queue.tasks_live",
    "DROP TRIGGER witness_of_ends ON queue.tasks_live",
)
# A run that takes all there is asks first, unless it is told not to.
_POLICIES = """
UPDATE ops.retention_policies SET action = 'archive', is_enabled = true, most_share = 1 WHERE name = ANY (%s)
"""
_BACKLOG, _WARM_SECONDS, _DRAIN_SECONDS = 5000, 2.0, 120.0
_ENDED = "SELECT count(*) FROM queue.tasks_history WHERE task_type = 'load.noop' AND completed_at >= %s"
_LATENCY = """
SELECT count(*), percentile_cont(ARRAY[0.5, 0.95, 0.99, 1.0]) WITHIN GROUP (ORDER BY
    extract(epoch FROM started_at - run_after)::float8 * 1000)
FROM queue.tasks_history WHERE task_type = 'load.noop' AND created_at >= %s AND created_at < %s
"""
_ARCHIVED = """
SELECT count(*), sum(row_count)::bigint, sum(byte_count)::bigint FROM ops.archives
WHERE table_schema || '.' || table_name = %s
"""


@dataclass
class Figures:
    """What a trial measured; `complaints` is what it should not have found."""

    seed: int
    saturation: int = 0
    rate: int = 0
    baseline: dict[str, float] = field(default_factory=dict)
    meanwhile: dict[str, float] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)
    tasks: int = 0
    archives: int = 0
    archived: dict[str, int] = field(default_factory=dict)
    bytes: int = 0
    strays: int = 0
    complaints: list[str] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """How much longer the 99th of 100 claims took beside retention."""
        return self.meanwhile["p99_ms"] / self.baseline["p99_ms"]

    def line(self) -> str:
        """One line for people."""
        rows = sum(self.archived.values())
        return (
            f"retention under load, seed {self.seed}: {rows:,} rows in {self.archives} archives of "
            f"{self.bytes / 1e6:,.0f} MB, {self.tally.seconds:,.0f} s ({rows / self.tally.seconds:,.0f} rows/s), "
            f"{self.tally.kills} kills ({self.tally.hits} attempts lost, {self.tally.fires} fires, {self.strays} stray "
            f"files); {self.tasks:,} tasks at {self.rate:,}/s of {self.saturation:,}/s, due to start p50 "
            f"{self.baseline['p50_ms']:.1f} then {self.meanwhile['p50_ms']:.1f} ms, p99 {self.baseline['p99_ms']:.1f} "
            f"then {self.meanwhile['p99_ms']:.1f} ms ({self.ratio:.2f} ×; others had {self.baseline['others']:.0%} and "
            f"{self.meanwhile['others']:.0%} of the processor); {len(self.complaints)} complaints"
        )

    def as_json(self) -> dict[str, Any]:
        """Return all of it, for programs."""
        return asdict(self) | {"ratio": round(self.ratio, 3)}


class Trial:
    """A plan over a rig with Redis; `run` does all of it once."""

    def __init__(self, rig: Rig, plan: Plan, seed: int, tell: Tell) -> None:
        self.rig, self.plan, self._tell = rig, plan, tell
        self.figures = Figures(seed)

    def run(self) -> Figures:
        """Seed, measure, retain under kills, judge."""
        found, database = self.figures, self.rig.database
        seed(database, self.plan, self._tell)
        for statement in _UNWATCHED:
            database.rows(statement)
        worker = self._start()
        with Producer(database.url("producer")) as producer:
            found.saturation = self._saturation(producer)
            found.rate = self.plan.rate or int(found.saturation * self.plan.share)
            self._tell(f"{found.saturation:,} tasks a second at most; from here on {found.rate:,}")
            producer.pace(found.rate)
            pass_time(_WARM_SECONDS)
            meter = Meter()
            with self._window() as baseline:
                pass_time(self.plan.baseline)
            found.baseline["others"], meter = meter.others(), Meter()
            with self._window() as meanwhile:
                self._retain(worker)
            found.meanwhile["others"] = meter.others()
            found.tasks = producer.pace(0)
            self.rig.await_end(_DRAIN_SECONDS)
        found.baseline |= self._latency(baseline)
        found.meanwhile |= self._latency(meanwhile)
        self._judge()
        return found

    def _start(self) -> Any:
        """Start who serves the queue, and a worker that does nothing but retain; return that one."""
        self.rig.add("relay", launcher=("console",), TASK_MODULES=MODULE, **_TIMES)
        for _ in range(self.plan.workers):
            self.rig.add("worker", TASK_MODULES=MODULE, WORKER_QUEUES="default", **_TIMES)
        alone = {"WORKER_QUEUES": QUEUE, "WORKER_THREADS": "1", "DATABASE_SYSTEM_URL": self.rig.database.url("system")}
        worker = self.rig.add("worker", TASK_MODULES=MODULE, **alone, **_TIMES)
        self.rig.await_workers()
        return worker

    def _saturation(self, producer: Producer) -> int:
        """Return how many tasks a second the engine ends while so many wait that it never runs dry."""
        if self.plan.rate:
            return 0
        producer.pace(-_BACKLOG)
        pass_time(_WARM_SECONDS)
        with self._window() as window:
            pass_time(self.plan.saturate)
        producer.pace(0)
        self.rig.await_end(_DRAIN_SECONDS)
        since, until = window
        ended = (
            "SELECT count(*) FROM queue.tasks_history WHERE task_type = 'load.noop' AND completed_at BETWEEN %s AND %s"
        )
        return int(self.rig.database.value(ended, (since, until)) / (until - since).total_seconds())

    def _retain(self, worker: Any) -> None:
        plan, policies = self.plan, [kept.policy for kept in KEPT]
        self.rig.database.rows(_POLICIES, (policies,))
        killer = Killer(self.rig, worker, policies, len(KEPT) * plan.rows, random.Random(self.figures.seed))
        self.figures.tally = killer.tally
        killer.enforce(plan.kills, plan.kill_within, plan.seconds)
        self._tell(f"{killer.tally}")

    @contextmanager
    def _window(self) -> Iterator[list[datetime]]:
        """Yield a list that has the block's beginning and end by Postgres' clock, once it is over."""
        clock = "SELECT clock_timestamp()"
        window = [self.rig.database.value(clock)]
        yield window
        window.append(self.rig.database.value(clock))

    def _latency(self, window: list[datetime]) -> dict[str, float]:
        [(count, quantiles)] = self.rig.database.rows(_LATENCY, window)
        names = ("p50_ms", "p95_ms", "p99_ms", "max_ms")
        return {"samples": count} | {name: round(value, 2) for name, value in zip(names, quantiles, strict=True)}

    def _judge(self) -> None:
        found, database, folder = self.figures, self.rig.database, self.folder
        begun = time.monotonic()
        found.complaints = judge(database, folder)
        done = int(
            database.value("SELECT count(*) FROM queue.tasks_history WHERE task_type = 'load.noop' AND status = 'done'")
        )
        if done != found.tasks:
            found.complaints.append(f"{found.tasks} tasks were enqueued, {done} are done")
        for kept in KEPT:
            [(archives, rows, size)] = database.rows(_ARCHIVED, (kept.relation,))
            found.archives += archives
            found.archived[kept.relation] = int(rows or 0)
            found.bytes += int(size or 0)
        found.strays = len(strays(database, folder))
        self._tell(f"judged in {time.monotonic() - begun:.0f} s")

    @property
    def folder(self) -> Path:
        """Where the keys of archives begin."""
        return self.rig.folder / "storage" / "archives"
