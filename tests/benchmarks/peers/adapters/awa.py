"""awa-pg: Postgres, a core in Rust, handlers in Python."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from awa import AsyncClient  # type: ignore[import-not-found]  # the peers' environment has it

from tests.benchmarks.peers.adapters.common import Config, Facts, Marks, main
from tests.benchmarks.peers.adapters.effects import AsyncEffects

_QUEUE = "bench"
_TUNED = {"name": _QUEUE, "max_workers": 512, "claimers": 2, "claim_batch_size": 512}
_DEFAULT = {"name": _QUEUE, "max_workers": 50}
_IS_LEFT = """
    SELECT (SELECT count(*) FROM awa.ready_entries)
         > (SELECT coalesce(sum(completed_count), 0) FROM awa.receipt_completion_batches)
         + (SELECT count(*) FROM awa.done_entries)
"""


@dataclass
class Noop:
    """Does nothing."""

    n: int


@dataclass
class Write:
    """Writes one row."""

    n: int


@dataclass
class Mark:
    """Notes when it started."""

    n: int


_JOBS: dict[str, type[Noop | Write | Mark]] = {"noop": Noop, "write": Write, "mark": Mark}


class Awa:
    """`tuned` claims 512 at a time in two loops and runs 512; `default` is 50 workers and what else it comes with."""

    def __init__(self, config: Config, marks: Marks) -> None:
        # Its driver wants a host before it takes the socket's folder from the query.
        self._url = config.database.replace("@/", "@localhost/")
        self._marks = marks
        self._queue = _TUNED if config.variant == "tuned" else _DEFAULT
        self._effects = AsyncEffects(config.database)

    def facts(self) -> Facts:
        """Say what the harness has to know."""
        return Facts(
            settings=", ".join(f"{name} {value}" for name, value in self._queue.items() if name != "name"),
            judged="as many completions as entries stand in its storage (its view of all jobs takes seconds to ask)",
            effect="in its own transaction",
            versions={name: version(name) for name in ("awa-pg", "asyncpg")},
            sql=_IS_LEFT,
        )

    def setup(self) -> None:
        """Migrate: a new database gets the queue storage."""
        asyncio.run(self._migrate())

    @asynccontextmanager
    async def producer(self) -> AsyncIterator["AwaProducer"]:
        """Open a client."""
        client = AsyncClient(self._url)
        yield AwaProducer(client)
        await client.close()

    def work(self, kind: str, gate: Callable[[], None]) -> None:
        """Run a client's workers."""
        asyncio.run(self._run(gate))

    async def _migrate(self) -> None:
        client = AsyncClient(self._url)
        await client.migrate()
        await client.install_queue_storage()  # the engine that its bulk COPY and its claimers need
        await client.close()

    async def _run(self, gate: Callable[[], None]) -> None:
        await self._effects.open()
        client = AsyncClient(self._url)
        for job, handler in zip((Noop, Write, Mark), self._handlers(), strict=True):
            client.task(job, queue=_QUEUE)(handler)
        gate()
        await client.start([self._queue])
        await asyncio.Event().wait()

    def _handlers(self) -> tuple[Callable[[Any], Any], ...]:
        marks, effects = self._marks, self._effects

        async def noop(job: Any) -> None:
            marks.began()

        async def write(job: Any) -> None:
            marks.began()
            await effects.write(job.args.n)

        async def mark(job: Any) -> None:
            marks.started(job.args.n)

        return noop, write, mark


class AwaProducer:
    """Inserts through the client."""

    is_atomic = True

    def __init__(self, client: Any) -> None:
        self._client = client

    async def one(self, task: str, number: int) -> None:
        """Insert one."""
        await self._client.insert(_JOBS[task](number), queue=_QUEUE)

    async def many(self, task: str, numbers: Sequence[int]) -> None:
        """Insert many by COPY."""
        job = _JOBS[task]
        await self._client.enqueue_many_copy([job(number) for number in numbers], queue=_QUEUE)


if __name__ == "__main__":
    main(Awa)
