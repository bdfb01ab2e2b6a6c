"""celery on Redis."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from celery import Celery  # type: ignore[import-not-found]  # the peers' environment has it

from tests.benchmarks.peers.adapters.common import Config, Facts, Marks, main
from tests.benchmarks.peers.adapters.effects import ThreadEffects

_PREFETCH = 128  # its guide on optimising names 64 or 128 for many short tasks


class CeleryBench:
    """`tuned`: two processes with the solo pool, a large prefetch, no gossip. `default`: one, with a child a core."""

    def __init__(self, config: Config, marks: Marks) -> None:
        self._marks = marks
        self._is_tuned = config.variant == "tuned"
        self._effects = ThreadEffects(config.database)
        self._app = Celery(
            "bench", broker=config.redis.replace("unix://", "redis+socket://").replace("?db=", "?virtual_host=")
        )
        if self._is_tuned:
            self._app.conf.update(worker_prefetch_multiplier=_PREFETCH, task_acks_late=True, task_ignore_result=True)
        self._tasks = self._declare()

    def facts(self) -> Facts:
        """Say what the harness has to know."""
        tuned = f"solo pool, prefetch {_PREFETCH}, acks_late, no gossip, mingle or heartbeat"
        return Facts(
            settings=tuned if self._is_tuned else "prefork with a child for each core",
            judged="nothing is queued or unacknowledged"
            + ("" if self._is_tuned else "; it acknowledges before it runs, so the last of each child may still run"),
            effect="in its own transaction",
            versions={name: version(name) for name in ("celery", "kombu", "redis", "hiredis")},
            redis=[["LLEN", "celery"], ["HLEN", "unacked"]],
        )

    def setup(self) -> None:
        """Nothing to set up."""

    @asynccontextmanager
    async def producer(self) -> AsyncIterator["CeleryProducer"]:
        """Enqueue through the tasks, over one connection."""
        with self._app.producer_or_acquire() as producer:
            yield CeleryProducer(self._tasks, producer)

    def work(self, kind: str, gate: Callable[[], None]) -> None:
        """Run its command's worker in this process."""
        tuned = ["--pool=solo", "--without-gossip", "--without-mingle", "--without-heartbeat"]
        gate()
        self._app.worker_main(
            ["worker", "--loglevel=ERROR", f"--hostname={id(self)}@%h", *(tuned if self._is_tuned else [])]
        )

    def _declare(self) -> dict[str, Any]:
        marks, effects = self._marks, self._effects

        def noop(n: int) -> None:
            marks.began()

        def write(n: int) -> None:
            marks.began()
            effects.write(n)

        def mark(n: int) -> None:
            marks.started(n)

        return {handler.__name__: self._app.task(name=handler.__name__)(handler) for handler in (noop, write, mark)}


class CeleryProducer:
    """Applies the tasks; there is no way to enqueue many."""

    is_atomic = False

    def __init__(self, tasks: dict[str, Any], producer: Any) -> None:
        self._tasks = tasks
        self._producer = producer

    async def one(self, task: str, number: int) -> None:
        """Enqueue one."""
        self._tasks[task].apply_async((number,), producer=self._producer)

    async def many(self, task: str, numbers: Sequence[int]) -> None:
        """Enqueue one after the other."""
        for number in numbers:
            self._tasks[task].apply_async((number,), producer=self._producer)


if __name__ == "__main__":
    main(CeleryBench)
