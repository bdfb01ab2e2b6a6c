"""procrastinate: Postgres, psycopg, one fetch a job."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

import uvloop  # type: ignore[import-not-found]  # the peers' environment has it
from procrastinate import App, PsycopgConnector  # type: ignore[import-not-found]

from tests.benchmarks.peers.adapters.common import Config, Facts, Marks, main
from tests.benchmarks.peers.adapters.effects import AsyncEffects

_CONCURRENCY = 10


class Procrastinate:
    """`tuned` runs ten jobs at a time and deletes the successful; `default` is one at a time, jobs kept."""

    def __init__(self, config: Config, marks: Marks) -> None:
        self._marks = marks
        self._is_tuned = config.variant == "tuned"
        self._effects = AsyncEffects(config.database)
        self._app = App(connector=PsycopgConnector(conninfo=config.database, min_size=4, max_size=_CONCURRENCY))
        self._tasks = self._declare()

    def facts(self) -> Facts:
        """Say what the harness has to know."""
        tuned = f"concurrency {_CONCURRENCY}, delete_jobs 'successful'"
        return Facts(
            settings=f"psycopg pool, uvloop, {tuned if self._is_tuned else 'concurrency 1'}",
            judged="no job is 'todo' or 'doing'",
            effect="in its own transaction",
            versions={name: version(name) for name in ("procrastinate", "psycopg", "uvloop")},
            sql="SELECT EXISTS (SELECT FROM procrastinate_jobs WHERE status IN ('todo', 'doing'))",
        )

    def setup(self) -> None:
        """Apply the schema."""
        uvloop.run(self._install())

    @asynccontextmanager
    async def producer(self) -> AsyncIterator["ProcrastinateProducer"]:
        """Open the app."""
        async with self._app.open_async():
            yield ProcrastinateProducer(self._tasks)

    def work(self, kind: str, gate: Callable[[], None]) -> None:
        """Run a worker."""
        uvloop.run(self._run(gate))

    async def _install(self) -> None:
        async with self._app.open_async():
            await self._app.schema_manager.apply_schema_async()

    async def _run(self, gate: Callable[[], None]) -> None:
        await self._effects.open()
        async with self._app.open_async():
            gate()
            tuned = {"concurrency": _CONCURRENCY, "delete_jobs": "successful"} if self._is_tuned else {}
            await self._app.run_worker_async(**tuned)

    def _declare(self) -> dict[str, Any]:
        marks, effects = self._marks, self._effects

        async def noop(n: int) -> None:
            marks.began()

        async def write(n: int) -> None:
            marks.began()
            await effects.write(n)

        async def mark(n: int) -> None:
            marks.started(n)

        return {handler.__name__: self._app.task(name=handler.__name__)(handler) for handler in (noop, write, mark)}


class ProcrastinateProducer:
    """Defers through the tasks."""

    is_atomic = True

    def __init__(self, tasks: dict[str, Any]) -> None:
        self._tasks = tasks

    async def one(self, task: str, number: int) -> None:
        """Defer one."""
        await self._tasks[task].defer_async(n=number)

    async def many(self, task: str, numbers: Sequence[int]) -> None:
        """Defer many in one statement."""
        await self._tasks[task].batch_defer_async(*({"n": number} for number in numbers))


if __name__ == "__main__":
    main(Procrastinate, uvloop.run)
