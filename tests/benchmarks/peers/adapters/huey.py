"""huey: Redis, threads."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from huey import RedisHuey  # type: ignore[import-not-found]  # the peers' environment has it

from tests.benchmarks.peers.adapters.common import Config, Facts, Marks, main
from tests.benchmarks.peers.adapters.effects import ThreadEffects

_NAME = "bench"
_WORKERS = 1


class Huey:
    """A blocking pop for each thread; no results kept. It comes with one thread, which is also its best here."""

    def __init__(self, config: Config, marks: Marks) -> None:
        self._config = config
        self._marks = marks
        self._effects = ThreadEffects(config.database)
        self._huey = RedisHuey(_NAME, url=config.redis, results=False)
        self._tasks = self._declare()

    def facts(self) -> Facts:
        """Say what the harness has to know."""
        return Facts(
            settings=f"{_WORKERS} thread, blocking pops, no results, no periodic tasks",
            judged="the list is empty (no record is kept of what runs: the last task of each thread may still run)",
            effect="in its own transaction",
            versions={name: version(name) for name in ("huey", "redis", "hiredis")},
            redis=[["LLEN", f"huey.redis.{_NAME}"]],
        )

    def setup(self) -> None:
        """Nothing to set up."""

    @asynccontextmanager
    async def producer(self) -> AsyncIterator["HueyProducer"]:
        """Enqueue through the tasks."""
        yield HueyProducer(self._tasks)

    def work(self, kind: str, gate: Callable[[], None]) -> None:
        """Run a consumer."""
        consumer = self._huey.create_consumer(workers=_WORKERS, periodic=False, check_worker_health=False)
        gate()
        consumer.run()

    def _declare(self) -> dict[str, Any]:
        marks, effects = self._marks, self._effects

        def noop(n: int) -> None:
            marks.began()

        def write(n: int) -> None:
            marks.began()
            effects.write(n)

        def mark(n: int) -> None:
            marks.started(n)

        return {handler.__name__: self._huey.task()(handler) for handler in (noop, write, mark)}


class HueyProducer:
    """Calls the tasks; there is no way to enqueue many."""

    is_atomic = False

    def __init__(self, tasks: dict[str, Any]) -> None:
        self._tasks = tasks

    async def one(self, task: str, number: int) -> None:
        """Enqueue one."""
        self._tasks[task](number)

    async def many(self, task: str, numbers: Sequence[int]) -> None:
        """Enqueue one after the other."""
        call = self._tasks[task]
        for number in numbers:
            call(number)


if __name__ == "__main__":
    main(Huey)
