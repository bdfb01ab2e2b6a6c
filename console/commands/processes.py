"""`greenroom relay`, `worker` and `scheduler`: the roles apart, for many machines. The first two meet over Redis."""

from typing import Annotated

import typer

from console import output
from console.runtime import await_database, beside_or_given, observe, settings
from console.signals import stop_event
from console.supervisor import Role, Supervisor
from core.errors import SettingsError
from core.settings import PREFIX, Settings


def relay() -> None:
    """Hand due tasks to the broker until SIGTERM or Ctrl-C."""
    stopping = stop_event()
    found = _settings("relay")
    place = beside_or_given(found)
    observe("relay")
    if not await_database(place, "relay", stopping):
        return
    from workers.processes import RelayProcess, broker_of

    addresses = place.process("relay")
    output.note(f"relay at {output.mask_url(addresses.url)}")
    process = RelayProcess(found, addresses, broker_of(found))
    process.start()
    stopping.wait()
    process.stop()


def worker(
    queues: Annotated[str | None, typer.Option("--queues", help="Queues to serve, with commas; unset: all.")] = None,
    threads: Annotated[int | None, typer.Option("--threads", min=1, max=64, help="Messages at a time.")] = None,
    processes: Annotated[int | None, typer.Option("--processes", min=1, max=64, help="So many of them.")] = None,
) -> None:
    """Run tasks until SIGTERM or Ctrl-C."""
    stopping = stop_event()
    found = _settings("worker")
    place = beside_or_given(found)
    observe("supervisor")
    if not await_database(place, "worker", stopping):
        return
    output.note(f"worker at {output.mask_url(place.login('worker'))}")
    said = {"QUEUES": queues, "THREADS": threads}
    environment = {f"{PREFIX}WORKER_{name}": str(value) for name, value in said.items() if value is not None}
    roles = worker_roles("worker", found, processes or found.worker.processes, environment)
    supervisor = Supervisor(roles, stopping, grace_seconds=found.worker.grace_seconds)
    supervisor.start()
    stopping.wait()
    supervisor.stop()
    if supervisor.is_refused:
        raise typer.Exit(1)


def scheduler() -> None:
    """Fire schedules until SIGTERM or Ctrl-C. Any number of schedulers fire each once."""
    stopping = stop_event()
    found = settings()
    place = beside_or_given(found)
    observe("scheduler")
    if not await_database(place, "scheduler", stopping):
        return
    from scheduler.processes import SchedulerProcess

    url = place.login("scheduler")
    output.note(f"scheduler at {output.mask_url(url)}")
    process = SchedulerProcess(found, url, pooled=place.is_pooled)
    process.start()
    stopping.wait()
    process.stop()


def watch() -> None:
    """Watch mailboxes by IDLE until SIGTERM or Ctrl-C, so that mail is polled at once. Of many watchers one watches."""
    stopping = stop_event()
    found = settings()
    place = beside_or_given(found)
    url, pooled = place.watcher()
    observe("watcher")
    if not await_database(place, "system", stopping):
        return
    from workers.watcher import WatcherProcess

    output.note(f"watcher at {output.mask_url(url)}")
    process = WatcherProcess(found, url, pooled=pooled)
    process.start()
    stopping.wait()
    process.stop()


def worker_roles(kind: str, found: Settings, count: int, environment: dict[str, str] | None = None) -> list[Role]:
    """Return the roles of so many children alike; they serve metrics at a port each, from the given one on."""
    first = found.observe.metrics_port
    name = f"{PREFIX}OBSERVE_METRICS_PORT"
    ports: list[dict[str, str]] = [{} if first is None else {name: str(first + n)} for n in range(count)]
    # two processes cannot serve one port, not even for as long as one of them leaves
    return [Role(kind, {**(environment or {}), **port}, is_alone=first is not None) for port in ports]


def _settings(kind: str) -> Settings:
    found = settings()
    if found.broker.url is None:
        raise SettingsError(
            f"set GREENROOM_BROKER_URL to a Redis, by which a {kind} reaches the others (`greenroom up` needs none)"
        )
    return found
