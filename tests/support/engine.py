"""The engine in the test's own process: whole (threads, broker, loops), or by hand without any thread (the kit's)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from core.settings import Settings, load_settings
from pipelines.registry import Registry
from pipelines.resources import Resources
from tests.support.database import Database
from tests.support.waiting import eventually
from workers.broker import AnyBroker
from workers.processes import Addresses, RelayProcess, WorkerProcess
from workers.testing.line import Line, claim_from, publish

__all__ = ["Engine", "Line", "claim_from", "engine", "fast_settings", "publish"]

_RELAY = {"poll_seconds": 0.5, "poll_seconds_deaf": 0.05, "rescue_seconds": 0.1}
_WORKER = {"threads": 2, "grace_seconds": 5.0}


def fast_settings(
    *, relay: dict[str, Any] | None = None, worker: dict[str, Any] | None = None, **others: Any
) -> Settings:
    """Settings with short pauses, read from no file."""
    return load_settings(_env_file=None, relay=_RELAY | (relay or {}), worker=_WORKER | (worker or {}), **others)


class Engine:
    """A relay and a worker over one broker; `relay` and `worker` are the processes' own objects."""

    def __init__(
        self, database: Database, registry: Registry, broker: AnyBroker, settings: Settings, *, heartbeat: bool
    ) -> None:
        addresses = Addresses(database.url("worker"), system_url=database.url("system"))
        self.relay = RelayProcess(settings, Addresses(database.url("relay")), broker)
        self.worker = WorkerProcess(settings, addresses, broker, registry, Resources())
        if not heartbeat:  # it is a process, and few tests run for longer than a lease
            self.worker.loops = [loop for loop in self.worker.loops if loop.service.name != "heartbeat"]

    def start(self) -> None:
        """Start both, the worker first, so that nothing waits for it."""
        self.worker.start()
        self.relay.start()

    def stop(self) -> bool:
        """Stop both; return whether the worker had drained."""
        drained = self.worker.stop()
        self.relay.stop()
        return drained

    def end_at_last(self) -> None:
        """Close what a thread still used at the stop, once it has ended; a real process would be gone by then."""
        dramatiq_worker = self.worker._worker
        assert dramatiq_worker is not None
        eventually(lambda: not any(thread.is_alive() for thread in dramatiq_worker.workers), 60)
        self.worker.executor.close()


@contextmanager
def engine(
    database: Database,
    registry: Registry,
    broker: AnyBroker,
    *,
    settings: Settings | None = None,
    heartbeat: bool = False,
) -> Iterator[Engine]:
    """Run relay and worker for the block."""
    publish(database, registry)
    running = Engine(database, registry, broker, settings or fast_settings(), heartbeat=heartbeat)
    running.start()
    try:
        yield running
    finally:
        if not running.stop():
            running.end_at_last()
