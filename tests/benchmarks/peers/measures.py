"""What is measured. Every measurement starts from a copy of the leg's database as its set-up left it."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import psycopg
import redis

from tests.benchmarks.peers.adapters.common import Facts
from tests.benchmarks.peers.leg import Bench, LegError, bench
from tests.benchmarks.peers.legs import Leg
from tests.benchmarks.peers.servers import Servers

MEASURES = ("noop", "write", "enqueue", "latency")
CHUNK = 1000
# A row of its own is a commit of its own with most peers: fewer take as long.
WRITE_SHARE = 0.4
DRAIN_SECONDS = 90.0
EFFECT_SECONDS = 2.0
IDLE_SAMPLES = 250
IDLE_INTERVAL = 0.03
LOAD_SECONDS = 4.0
LOAD_TICK = 0.01
WARM = 10

Json = dict[str, Any]


@dataclass(frozen=True)
class Parameters:
    """How much is measured. `load_cap` bounds the rate of the half load, which the producer has to keep up with."""

    tasks: int
    rounds: int
    load_cap: int
    measures: tuple[str, ...] = MEASURES


@dataclass
class Result:
    """What a leg came to: lists hold a figure a round; `errors` says of a measure why there is no more of it."""

    leg: Leg
    facts: Facts | None = None
    rounds: dict[str, list[float]] = field(default_factory=dict)
    latency: dict[str, Json] = field(default_factory=dict)
    tasks: int = 0
    errors: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, value: float) -> None:
        """Keep a round's figure."""
        self.rounds.setdefault(name, []).append(value)

    def median(self, name: str) -> float | None:
        """Return the median of the rounds, None if there were none."""
        values = self.rounds.get(name)
        return median(values) if values else None


class Run:
    """All legs over the same servers."""

    def __init__(
        self, servers: Servers, peers_python: Path, parameters: Parameters, tell: Callable[[str], None]
    ) -> None:
        self._servers = servers
        self._python = peers_python
        self._parameters = parameters
        self._tell = tell

    def measure(self, legs: list[Leg]) -> list[Result]:
        """Set up all legs, then go round: each leg once a round, in another order each time; latency at the end."""
        results = [Result(leg, tasks=max(200, int(self._parameters.tasks * leg.share))) for leg in legs]
        for result in results:
            self._guarded(result, "setup", self._set_up)
        for number in range(self._parameters.rounds):
            for result in random.Random(number).sample(results, len(results)):
                self._round(result)
        if "latency" in self._parameters.measures:
            for result in results:
                self._guarded(result, "latency", self._latency)
        return results

    def _round(self, result: Result) -> None:
        if "noop" in self._parameters.measures:
            self._guarded(result, "noop", lambda r: self._throughput(r, "noop"))
        if "write" in self._parameters.measures:
            self._guarded(result, "write", lambda r: self._throughput(r, "write"))
        if "enqueue" in self._parameters.measures:
            self._guarded(result, "enqueue", self._enqueue)

    def _guarded(self, result: Result, what: str, act: Callable[[Result], str]) -> None:
        """Do it unless this leg has failed at it, or at its set-up; the other measures and the other legs go on."""
        if errors_of(result, what):
            return
        try:
            self._tell(f"{result.leg.name} {what}: {act(result)}")
        except (LegError, psycopg.Error, redis.RedisError) as error:
            result.errors[what] = str(error)
            self._tell(f"{result.leg.name} {what} FAILED: {error}")

    def _set_up(self, result: Result) -> str:
        url = self._servers.create(_template(result.leg))
        with bench(result.leg, self._python, url, self._servers.redis_url) as at:
            result.facts = Facts(**at.call("facts"))
            at.call("setup")
        return result.facts.settings

    @contextmanager
    def _fresh(self, leg: Leg) -> Iterator[Bench]:
        with (
            self._servers.copy(_template(leg)) as url,
            bench(leg, self._python, url, self._servers.redis_url) as at,
        ):
            yield at

    def _throughput(self, result: Result, task: str) -> str:
        assert result.facts is not None
        with self._fresh(result.leg) as at:
            tasks = result.tasks if task == "noop" else int(result.tasks * WRITE_SHARE)
            rate, waited = throughput(self._servers, at, result.facts, task, tasks)
        result.add(task, rate)
        result.add(f"{task}_start_seconds", waited)
        return f"{rate:,.0f} tasks/s (first handler after {waited:.2f} s)"

    def _enqueue(self, result: Result) -> str:
        one_by_one = max(500, min(5000, result.tasks // 10))
        in_bulk = max(5000, result.tasks)
        with self._fresh(result.leg) as at:
            self._servers.settle(at.database)
            seconds = at.call("enqueue", task="noop", count=one_by_one, chunk=0, warm=WARM)["seconds"]
            result.add("enqueue_one", one_by_one / seconds)
        with self._fresh(result.leg) as at:
            self._servers.settle(at.database)
            seconds = at.call("enqueue", task="noop", count=in_bulk, chunk=CHUNK, warm=WARM)["seconds"]
            result.add("enqueue_many", in_bulk / seconds)
        return (
            f"{result.rounds['enqueue_one'][-1]:,.0f}/s one by one, {result.rounds['enqueue_many'][-1]:,.0f}/s in bulk"
        )

    def _latency(self, result: Result) -> str:
        """Idle, then at half of the no-op throughput (bounded), on the same processes."""
        load = min(self._parameters.load_cap, (result.median("noop") or 0.0) / 2)
        with self._fresh(result.leg) as at, at.working():
            _warm_up(at)
            at.call("pace", first=1, count=IDLE_SAMPLES + WARM, burst=1, interval=IDLE_INTERVAL)
            result.latency["idle"] = _waits(at, range(1 + WARM, 1 + WARM + IDLE_SAMPLES))
            if load:
                result.latency["load"] = _loaded(at, load)
        return ", ".join(
            f"{name} p50 {found['p50_ms']:.1f} p95 {found['p95_ms']:.1f} p99 {found['p99_ms']:.1f} ms"
            for name, found in result.latency.items()
        )


def errors_of(result: Result, what: str) -> list[str]:
    """Return why a measure of a leg is not to be had: nothing works without the set-up."""
    return [result.errors[name] for name in ("setup", what) if name in result.errors]


def throughput(servers: Servers, at: Bench, facts: Facts, task: str, tasks: int) -> tuple[float, float]:
    """Enqueue tasks, then let the leg's processes run them.

    Returns tasks a second, from the first handler's start until none is left that is not visible as done, and the
    seconds until that start.
    """
    at.call("enqueue", task=task, count=tasks, chunk=CHUNK)
    servers.settle(at.database)
    with at.working() as check:
        went = time.monotonic()
        ended = _drained(facts, at, check)
        if task == "write":
            _await_effects(at.database, tasks)
    begun = min(at.marks("begun").values())
    return tasks / (ended - begun), begun - went


def _drained(facts: Facts, at: Bench, check: Callable[[], None]) -> float:
    """Return when the last task was seen as done; asks so seldom that it costs little."""
    deadline = time.monotonic() + DRAIN_SECONDS
    with _probe(facts, at) as is_left:
        while time.monotonic() < deadline:
            asked = time.monotonic()
            if not is_left() and at.marks("begun"):
                return time.monotonic()
            check()
            time.sleep(min(0.25, max(0.005, 10 * (time.monotonic() - asked))))
    raise LegError(f"tasks were left after {DRAIN_SECONDS:.0f} s; the workers said: {at.log()}")


def _template(leg: Leg) -> str:
    return f"template_{leg.peer}_{leg.variant}"


@contextmanager
def _probe(facts: Facts, at: Bench) -> Iterator[Callable[[], bool]]:
    """Yield what says whether a task is left that is not visible as done."""
    if facts.sql is not None:
        query = facts.sql.encode()
        with psycopg.connect(at.database, autocommit=True) as connection:
            yield lambda: bool(connection.execute(query).fetchall()[0][0])
    else:
        with redis.Redis.from_url(at.redis) as client:
            yield lambda: sum(int(client.execute_command(*command)) for command in facts.redis) > 0


def _await_effects(database: str, expected: int) -> None:
    """A row for each task, or the figure is worth nothing; a peer that acknowledges first may run its last ones yet."""
    deadline = time.monotonic() + EFFECT_SECONDS
    with psycopg.connect(database, autocommit=True) as connection:
        while True:
            [(rows, numbers)] = connection.execute("SELECT count(*), count(DISTINCT n) FROM bench.effects").fetchall()
            if (rows, numbers) == (expected, expected):
                return
            if time.monotonic() > deadline:
                raise LegError(f"{expected} tasks wrote {rows} rows of {numbers} numbers")
            time.sleep(0.05)


def _warm_up(at: Bench) -> None:
    """Enqueue one task and wait until it has started: the workers are there."""
    at.call("pace", first=0, count=1, burst=1, interval=0.0)
    deadline = time.monotonic() + 30
    while 0 not in at.marks("started"):
        if time.monotonic() > deadline:
            raise LegError(f"the first task did not start within 30 s; the workers said: {at.log()}")
        time.sleep(0.05)
    time.sleep(1.0)  # both processes are up, and what they do at their start is done


def _loaded(at: Bench, rate: float) -> Json:
    first, burst = 100_000, max(1, round(rate * LOAD_TICK))
    count = int(rate * LOAD_SECONDS)
    answer = at.call("pace", first=first, count=count, burst=burst, interval=burst / rate)
    return {"wanted_rate": round(rate), "rate": round(count / answer["seconds"])} | _waits(
        at, range(first + burst, first + count)
    )


def _waits(at: Bench, numbers: range) -> Json:
    """Return quantiles of the milliseconds from the producer's return from commit to the handler's start."""
    deadline = time.monotonic() + 15
    started: dict[int, float] = {}
    while len(started) < len(numbers) and time.monotonic() < deadline:
        time.sleep(0.1)
        started = {number: time_ for number, time_ in at.marks("started").items() if number in numbers}
    committed = at.marks("committed")
    waits = sorted((started[number] - committed[number]) * 1000 for number in numbers if number in started)
    if len(waits) < len(numbers):
        raise LegError(f"{len(numbers) - len(waits)} of {len(numbers)} tasks did not start; {at.log()}")
    return {
        "samples": len(waits),
        "p50_ms": round(median(waits), 3),
        "p95_ms": round(waits[int(len(waits) * 0.95)], 3),
        "p99_ms": round(waits[int(len(waits) * 0.99)], 3),
        "max_ms": round(waits[-1], 3),
    }
