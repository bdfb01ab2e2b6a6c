"""Relay and worker in this process: what `up` runs, and what a command that brings its own server needs."""

from console.addresses import Place
from core.settings import Settings
from pipelines.registry import Registry, load_registry, provide_resources
from pipelines.resources import Resources
from workers.broker import open_broker
from workers.processes import RelayProcess, WorkerProcess


class Engine:
    """One relay and one worker over one broker; `broker_url` None is in process."""

    def __init__(self, place: Place, *, broker_url: str | None) -> None:
        settings = place.settings
        broker = open_broker(broker_url, settings.broker.namespace)
        registry, resources = handlers_of(settings)
        self._relay = RelayProcess(settings, place.process("relay"), broker)
        self._worker = WorkerProcess(settings, place.process("worker"), broker, registry, resources)

    def start(self) -> None:
        """Start the worker, then the relay that feeds it."""
        self._worker.start()
        self._relay.start()

    def stop(self) -> bool:
        """Drain both; return whether every thread ended within the grace time."""
        self._relay.stop()
        return self._worker.stop()


def handlers_of(settings: Settings) -> tuple[Registry, Resources]:
    """Return the task types that the settings name, and how their handlers' resources are made."""
    return load_registry(settings.task_modules), provide_resources(Resources(), settings)
