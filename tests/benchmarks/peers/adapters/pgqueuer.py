"""pgqueuer: Postgres, asyncio, buffers of completions."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

import asyncpg  # type: ignore[import-not-found]  # the peers' environment has it
import uvloop  # type: ignore[import-not-found]
from pgqueuer import QueueManager  # type: ignore[import-not-found]
from pgqueuer.db import AsyncpgDriver  # type: ignore[import-not-found]
from pgqueuer.queries import Queries  # type: ignore[import-not-found]

from tests.benchmarks.peers.adapters.common import INSERT_EFFECT, TASKS, Config, Facts, Marks, main

_TUNED_BATCH = 1000
_DEFAULT_BATCH = 10


class PgQueuer:
    """`tuned` takes batches of 1000 with pgqueuer's own autovacuum settings; `default` leaves all as it comes."""

    def __init__(self, config: Config, marks: Marks) -> None:
        self._config = config
        self._marks = marks
        self._is_tuned = config.variant == "tuned"

    def facts(self) -> Facts:
        """Say what the harness has to know."""
        batch = _TUNED_BATCH if self._is_tuned else _DEFAULT_BATCH
        return Facts(
            settings=f"asyncpg, uvloop, batch_size {batch}, durability 'durable'"
            + (", optimize_autovacuum" if self._is_tuned else ""),
            judged="pgqueuer's table is empty (a finished job is deleted into its log)",
            effect="in its own transaction",
            versions={name: version(name) for name in ("pgqueuer", "asyncpg", "uvloop")},
            sql="SELECT EXISTS (SELECT FROM pgqueuer)",
        )

    def setup(self) -> None:
        """Install the schema."""
        uvloop.run(self._install())

    @asynccontextmanager
    async def producer(self) -> AsyncIterator["PgQueuerProducer"]:
        """Open one connection."""
        connection = await asyncpg.connect(self._config.database)
        yield PgQueuerProducer(Queries(AsyncpgDriver(connection)))
        await connection.close()

    def work(self, kind: str, gate: Callable[[], None]) -> None:
        """Run the queue manager over one connection, as its guide recommends."""
        uvloop.run(self._run(gate))

    async def _install(self) -> None:
        connection = await asyncpg.connect(self._config.database)
        queries = Queries(AsyncpgDriver(connection))
        await queries.install()
        if self._is_tuned:
            await queries.optimize_autovacuum()
        await connection.close()

    async def _run(self, gate: Callable[[], None]) -> None:
        connection = await asyncpg.connect(self._config.database)
        pool = await asyncpg.create_pool(self._config.database, min_size=4, max_size=4)
        manager = QueueManager(Queries(AsyncpgDriver(connection)))
        for name, handler in self._handlers(pool).items():
            manager.entrypoint(name)(handler)
        gate()
        await manager.run(batch_size=_TUNED_BATCH if self._is_tuned else _DEFAULT_BATCH)

    def _handlers(self, pool: Any) -> dict[str, Callable[[Any], Awaitable[None]]]:
        marks, insert = self._marks, INSERT_EFFECT.format("$1")

        async def noop(job: Any) -> None:
            marks.began()

        async def write(job: Any) -> None:
            marks.began()
            await pool.execute(insert, json.loads(job.payload)["n"])

        async def mark(job: Any) -> None:
            marks.started(json.loads(job.payload)["n"])

        return dict(zip(TASKS, (noop, write, mark), strict=True))


class PgQueuerProducer:
    """Enqueues through pgqueuer's queries."""

    is_atomic = True

    def __init__(self, queries: Any) -> None:
        self._queries = queries

    async def one(self, task: str, number: int) -> None:
        """Enqueue one."""
        await self._queries.enqueue(task, _payload(number))

    async def many(self, task: str, numbers: Sequence[int]) -> None:
        """Enqueue many in one statement."""
        count = len(numbers)
        await self._queries.enqueue([task] * count, [_payload(number) for number in numbers], [0] * count)


def _payload(number: int) -> bytes:
    return json.dumps({"n": number}).encode()


if __name__ == "__main__":
    main(PgQueuer, uvloop.run)
