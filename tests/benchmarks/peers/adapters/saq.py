"""saq: Redis, asyncio."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

import uvloop  # type: ignore[import-not-found]  # the peers' environment has it
from saq import Worker  # type: ignore[import-not-found]
from saq.queue.redis import RedisQueue  # type: ignore[import-not-found]

from tests.benchmarks.peers.adapters.common import TASKS, Config, Facts, Marks, main
from tests.benchmarks.peers.adapters.effects import AsyncEffects

_CONCURRENCY = {"tuned": 50, "default": 10}


class Saq:
    """uvloop and hiredis; `tuned` runs more jobs at a time."""

    def __init__(self, config: Config, marks: Marks) -> None:
        self._config = config
        self._marks = marks
        self._effects = AsyncEffects(config.database)

    def facts(self) -> Facts:
        """Say what the harness has to know."""
        return Facts(
            settings=f"uvloop, hiredis, concurrency {_CONCURRENCY[self._config.variant]}",
            judged="saq's set of incomplete jobs is empty",
            effect="in its own transaction",
            versions={name: version(name) for name in ("saq", "redis", "hiredis", "uvloop")},
            redis=[["ZCARD", "saq:default:incomplete"]],
        )

    def setup(self) -> None:
        """Nothing to set up."""

    @asynccontextmanager
    async def producer(self) -> AsyncIterator["SaqProducer"]:
        """Open a queue."""
        queue = RedisQueue.from_url(self._config.redis)
        await queue.connect()
        yield SaqProducer(queue)
        await queue.disconnect()

    def work(self, kind: str, gate: Callable[[], None]) -> None:
        """Run a worker."""
        uvloop.run(self._run(gate))

    async def _run(self, gate: Callable[[], None]) -> None:
        await self._effects.open()
        queue = RedisQueue.from_url(self._config.redis)
        functions = list(zip(TASKS, self._handlers(), strict=True))
        worker = Worker(queue, functions=functions, concurrency=_CONCURRENCY[self._config.variant])
        gate()
        await queue.connect()
        await worker.start()

    def _handlers(self) -> tuple[Callable[..., Any], ...]:
        marks, effects = self._marks, self._effects

        async def noop(context: Any, *, n: int) -> None:
            marks.began()

        async def write(context: Any, *, n: int) -> None:
            marks.began()
            await effects.write(n)

        async def mark(context: Any, *, n: int) -> None:
            marks.started(n)

        return noop, write, mark


class SaqProducer:
    """Enqueues through the queue; many at once means many at a time, there is no other way."""

    is_atomic = False

    def __init__(self, queue: Any) -> None:
        self._queue = queue

    async def one(self, task: str, number: int) -> None:
        """Enqueue one."""
        await self._queue.enqueue(task, n=number)

    async def many(self, task: str, numbers: Sequence[int]) -> None:
        """Enqueue them concurrently."""
        await asyncio.gather(*(self._queue.enqueue(task, n=number) for number in numbers))


if __name__ == "__main__":
    main(Saq, uvloop.run)
