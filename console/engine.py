"""Relay and worker in this process: what `up` runs, and what a command that brings its own server needs."""

from collections.abc import Callable

from console.addresses import Place
from core.settings import Settings
from pipelines.registry import Registry, load_registry, provide_resources
from pipelines.resources import Resources
from workers.broker import open_broker
from workers.processes import RelayProcess, WorkerProcess

OnLeave = Callable[[str], None]


def _stay(reason: str) -> None:
    """Go on: nobody would take this process's place."""


class Engine:
    """One relay and one worker over a broker in this process; `on_leave` is told why it had better be replaced."""

    def __init__(self, place: Place, registry: Registry, resources: Resources, on_leave: OnLeave = _stay) -> None:
        settings = place.settings
        broker = open_broker(None, settings.broker.namespace)
        self._relay = RelayProcess(settings, place.process("relay"), broker)
        worker = place.process("worker")
        self._worker = WorkerProcess(settings, worker, broker, registry, resources, on_leave=on_leave)

    def start(self) -> None:
        """Start the worker, then the relay that feeds it."""
        self._worker.start()
        self._relay.start()

    def quiesce(self) -> None:
        """Take nothing more; what runs goes on."""
        self._relay.stop()
        self._worker.quiesce()

    def is_idle(self) -> bool:
        """Return whether no handler runs."""
        return self._worker.is_idle()

    def stop(self) -> bool:
        """Drain both; return whether every thread ended within the grace time."""
        self._relay.stop()
        return self._worker.stop()


def handlers_of(settings: Settings) -> tuple[Registry, Resources]:
    """Return the task types that the settings name, and how their handlers' resources are made."""
    return load_registry(settings.task_modules), provide_resources(Resources(), settings)
