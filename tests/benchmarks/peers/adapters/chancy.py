"""chancy: Postgres, psycopg, asyncio."""

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

import uvloop  # type: ignore[import-not-found]  # the peers' environment has it
from chancy import Chancy, Job, Queue, Worker  # type: ignore[import-not-found]
from chancy.plugins.leadership import Leadership  # type: ignore[import-not-found]
from chancy.plugins.pruner import Pruner  # type: ignore[import-not-found]
from chancy.plugins.recovery import Recovery  # type: ignore[import-not-found]

from tests.benchmarks.peers.adapters.common import Config, Facts, Marks, main
from tests.benchmarks.peers.adapters.effects import AsyncEffects

_CONCURRENCY = 6000
_QUEUE = "bench"
_MODULE = "tests.benchmarks.peers.adapters.chancy"
# Jobs name their functions by import path, so what the functions need stands in this module once it is imported.
_at_work: list["ChancyBench"] = []


async def noop(n: int) -> None:
    """Do nothing."""
    _at_work[0].marks.began()


async def write(n: int) -> None:
    """Write one row."""
    _at_work[0].marks.began()
    await _at_work[0].effects.write(n)


async def mark(n: int) -> None:
    """Note when it started."""
    _at_work[0].marks.started(n)


class ChancyBench:
    """The asyncio executor with many jobs at a time and eager polling; no plugins but those that keep jobs safe."""

    def __init__(self, config: Config, marks: Marks) -> None:
        self._config = config
        self.marks = marks
        self.effects = AsyncEffects(config.database)

    def facts(self) -> Facts:
        """Say what the harness has to know."""
        return Facts(
            settings=f"AsyncExecutor, concurrency {_CONCURRENCY}, eager_polling, uvloop, without its metrics and"
            " workflows; completions are held back up to a second, as it comes",
            judged="no job is in another state than 'succeeded'",
            effect="in its own transaction",
            versions={name: version(name) for name in ("chancy", "psycopg", "uvloop")},
            sql="SELECT EXISTS (SELECT FROM chancy_jobs WHERE state <> 'succeeded')",
        )

    def setup(self) -> None:
        """Migrate and declare the queue."""
        uvloop.run(self._install())

    @asynccontextmanager
    async def producer(self) -> AsyncIterator["ChancyProducer"]:
        """Open an app."""
        async with Chancy(self._config.database, log=_quiet()) as app:
            yield ChancyProducer(app)

    def work(self, kind: str, gate: Callable[[], None]) -> None:
        """Run a worker."""
        uvloop.run(self._run(gate))

    async def _install(self) -> None:
        async with Chancy(self._config.database, log=_quiet()) as app:
            await app.migrate()
            await app.declare(
                Queue(_QUEUE, concurrency=_CONCURRENCY, executor=Chancy.Executor.Async, eager_polling=True)
            )

    async def _run(self, gate: Callable[[], None]) -> None:
        from tests.benchmarks.peers.adapters import chancy as imported  # not __main__, which this file is too

        imported._at_work.append(self)
        await self.effects.open()
        # Of the plugins that it comes with: its metrics take two fifths of a job's time.
        plugins = [Leadership(), Recovery(), Pruner()]
        async with Chancy(self._config.database, log=_quiet(), plugins=plugins, no_default_plugins=True) as app:
            gate()
            async with Worker(app) as worker:
                await worker.wait_for_shutdown()


class ChancyProducer:
    """Pushes through the app."""

    is_atomic = True

    def __init__(self, app: Any) -> None:
        self._app = app

    async def one(self, task: str, number: int) -> None:
        """Push one."""
        await self._app.push(_job(task, number))

    async def many(self, task: str, numbers: Sequence[int]) -> None:
        """Push many in one transaction."""
        async for _ in self._app.push_many([_job(task, number) for number in numbers], batch_size=len(numbers)):
            pass


def _quiet() -> logging.Logger:
    """Return a logger for its app: its own writes a line for each job."""
    logger = logging.getLogger("chancy.bench")
    logger.setLevel(logging.WARNING)
    return logger


def _job(task: str, number: int) -> Any:
    return Job(func=f"{_MODULE}.{task}", kwargs={"n": number}, queue=_QUEUE)


if __name__ == "__main__":
    main(ChancyBench, uvloop.run)
