"""`greenroom relay` and `greenroom worker`: the roles apart, for many machines. They meet over Redis."""

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from console import output
from console.runtime import beside_or_given, end, observe, require_schema, settings, when_database_answers
from console.signals import stop_event
from core.errors import SettingsError
from core.settings import Settings
from db.connection import Connection, connect

if TYPE_CHECKING:
    from workers.processes import Addresses


def relay() -> None:
    """Hand due tasks to the broker until SIGTERM or Ctrl-C."""
    stopping = stop_event()
    found = _settings("relay")
    addresses = beside_or_given(found).process("relay")
    if not _is_ready(addresses, "relay", stopping):
        return
    from workers.processes import RelayProcess, broker_of

    process = RelayProcess(found, addresses, broker_of(found))
    process.start()
    stopping.wait()
    process.stop()


def worker(
    queues: Annotated[str | None, typer.Option("--queues", help="Queues to serve, with commas; unset: all.")] = None,
    threads: Annotated[int | None, typer.Option("--threads", min=1, max=64, help="Messages at a time.")] = None,
) -> None:
    """Run tasks until SIGTERM or Ctrl-C."""
    stopping = stop_event()
    found = _narrowed(_settings("worker"), queues, threads)
    addresses = beside_or_given(found).process("worker")
    from console.engine import handlers_of
    from pipelines.publish import publish_types
    from workers.processes import WorkerProcess, broker_of

    registry, resources = handlers_of(found)
    if not _is_ready(addresses, "worker", stopping, lambda connection: publish_types(connection, registry)):
        return
    process = WorkerProcess(found, addresses, broker_of(found), registry, resources)
    process.start()
    stopping.wait()
    if not process.stop():
        # Threads that ignored the grace time would hold the interpreter's end up; their attempts were handed back.
        end()
        os._exit(0)


def _settings(kind: str) -> Settings:
    found = settings()
    if found.broker.url is None:
        raise SettingsError(
            f"set GREENROOM_BROKER_URL to a Redis, by which a {kind} reaches the others (`greenroom up` needs none)"
        )
    observe(kind)
    return found


def _is_ready(
    addresses: "Addresses",
    kind: str,
    stopping: threading.Event,
    prepare: Callable[[Connection], object] = lambda connection: None,
) -> bool:
    """Wait for a database with this program's schema and `prepare` it; return False if told to stop before."""

    def start() -> None:
        with connect(addresses.url, name=kind, pooled=addresses.pooled) as connection:
            require_schema(connection)
            prepare(connection)

    if not when_database_answers(start, kind, stopping):
        return False
    output.note(f"{kind} at {output.mask_url(addresses.url)}")
    return True


def _narrowed(found: Settings, queues: str | None, threads: int | None) -> Settings:
    """Return the settings with what the command line says in place of the environment's."""
    changes: dict[str, object] = {}
    if queues is not None:
        changes["queues"] = tuple(part.strip() for part in queues.split(",") if part.strip())
    if threads is not None:
        changes["threads"] = threads
    return found.model_copy(update={"worker": found.worker.model_copy(update=changes)})
