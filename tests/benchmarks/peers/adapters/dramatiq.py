"""dramatiq on Redis: threads."""

import os
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from tests.benchmarks.peers.adapters.common import Config, Facts, Marks, main
from tests.benchmarks.peers.adapters.effects import ThreadEffects

_THREADS = {"tuned": 2, "default": 8}
_PREFETCH = 1000


class Dramatiq:
    """`tuned` runs few threads (they share one interpreter) and prefetches much; `default` is as its command has it."""

    def __init__(self, config: Config, marks: Marks) -> None:
        self._config = config
        self._marks = marks
        self._effects = ThreadEffects(config.database)
        if config.variant == "tuned":
            os.environ["dramatiq_queue_prefetch"] = str(_PREFETCH)  # noqa: SIM112  # its name, read at the import
        import dramatiq
        from dramatiq.brokers.redis import RedisBroker

        self._dramatiq = dramatiq
        self._broker = RedisBroker(url=config.redis)  # type: ignore[no-untyped-call]  # dramatiq leaves it untyped
        dramatiq.set_broker(self._broker)
        self._actors = self._declare()

    def facts(self) -> Facts:
        """Say what the harness has to know."""
        prefetch = f", prefetch {_PREFETCH}" if self._config.variant == "tuned" else ""
        return Facts(
            settings=f"{_THREADS[self._config.variant]} threads{prefetch}, its default middleware",
            judged="no message is left in Redis (an acknowledged one is deleted)",
            effect="in its own transaction",
            versions={name: version(name) for name in ("dramatiq", "redis", "hiredis")},
            redis=[["HLEN", "dramatiq:default.msgs"]],
        )

    def setup(self) -> None:
        """Nothing to set up."""

    @asynccontextmanager
    async def producer(self) -> AsyncIterator["DramatiqProducer"]:
        """Enqueue through the actors."""
        yield DramatiqProducer(self._actors)

    def work(self, kind: str, gate: Callable[[], None]) -> None:
        """Run the worker that its command runs in each of its processes."""
        worker = self._dramatiq.Worker(self._broker, worker_threads=_THREADS[self._config.variant])
        gate()
        worker.start()
        threading.Event().wait()

    def _declare(self) -> dict[str, Any]:
        marks, effects = self._marks, self._effects

        def noop(n: int) -> None:
            marks.began()

        def write(n: int) -> None:
            marks.began()
            effects.write(n)

        def mark(n: int) -> None:
            marks.started(n)

        return {handler.__name__: self._dramatiq.actor(handler) for handler in (noop, write, mark)}


class DramatiqProducer:
    """Sends; there is no way to send many."""

    is_atomic = False

    def __init__(self, actors: dict[str, Any]) -> None:
        self._actors = actors

    async def one(self, task: str, number: int) -> None:
        """Send one."""
        self._actors[task].send(number)

    async def many(self, task: str, numbers: Sequence[int]) -> None:
        """Send one after the other."""
        send = self._actors[task].send
        for number in numbers:
            send(number)


if __name__ == "__main__":
    main(Dramatiq)
