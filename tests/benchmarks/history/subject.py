"""The parameters of a run, and a database with Greenroom's schema on which two engines can be let loose."""

import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from db.connection import Connection, connect
from tests.benchmarks.peers.adapters.common import Facts
from tests.benchmarks.peers.leg import bench
from tests.benchmarks.peers.legs import LEGS
from tests.benchmarks.peers.measures import throughput
from tests.benchmarks.peers.servers import Servers

Json = dict[str, Any]
Tell = Callable[[str], None]
[ENGINES] = [leg for leg in LEGS if leg.name == "greenroom-engines"]


@dataclass(frozen=True)
class Parameters:
    """How much is measured; times are in seconds, `rate` is tasks a second."""

    tasks: int = 60_000
    rounds: int = 5
    finished: int = 10_000_000
    deferred: int = 1_000_000
    held: float = 600.0
    steady: float = 1800.0
    rate: int = 1000
    sample: float = 60.0
    idle: float = 60.0


QUICK = Parameters(
    tasks=2000, rounds=2, finished=20_000, deferred=10_000, held=15.0, steady=12.0, rate=200, sample=3.0, idle=10.0
)


class Subject:
    """A database of its own, with the schema, the bench's task types and two engines that serve them."""

    def __init__(self, servers: Servers, name: str) -> None:
        self._servers = servers
        self.url = servers.create(name)
        with bench(ENGINES, Path(sys.executable), self.url, servers.redis_url) as at:
            at.call("setup")
            self._facts = Facts(**at.call("facts"))

    def rate(self, tasks: int) -> float:
        """Return no-op tasks a second, from the first handler's start until the last is done; history keeps them."""
        with bench(ENGINES, Path(sys.executable), self.url, self._servers.redis_url) as at:
            return throughput(self._servers, at, self._facts, "noop", tasks)[0]

    def judge_by(self, is_left: str) -> None:
        """Take another query for what says that a task is left, where some shall stay."""
        self._facts = replace(self._facts, sql=is_left)

    @contextmanager
    def working(self) -> Iterator[Callable[[], None]]:
        """Run the engines for the block; yields what raises if one of them has ended."""
        with (
            bench(ENGINES, Path(sys.executable), self.url, self._servers.redis_url) as at,
            at.working() as check,
        ):
            yield check

    def connect(self) -> Connection:
        """Open an autocommit connection as the owner."""
        return connect(self.url, name="bench")


def summary(values: list[float], digits: int = 0) -> Json:
    """Return the median of the rounds, their spread as a share of it, and the rounds."""
    middle = statistics.median(values)
    return {
        "median": round(middle, digits),
        "spread": round((max(values) - min(values)) / middle, 3) if middle else None,
        "rounds": [round(value, digits) for value in values],
    }
