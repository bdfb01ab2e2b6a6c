"""`greenroom up`: everything on this machine. This process runs the embedded server, its children do the work."""

import shlex
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import typer

from console import output
from console.addresses import Place, given_place
from console.commands.processes import worker_roles
from console.runtime import observe, settings
from console.signals import stop_event
from console.supervisor import Child, Role, Supervisor
from core.settings import Settings
from db import identity
from db.connection import connect
from db.embedded import EmbeddedServer, binary
from db.roles import role_name


def up() -> None:
    """Run Postgres (or use GREENROOM_DATABASE_URL), relay, worker and scheduler until SIGTERM or Ctrl-C."""
    stopping = stop_event()
    observe("supervisor")
    is_refused = False
    with _place(settings(), stopping) as place:
        if place is not None:
            is_refused = _work(place, stopping)
    output.note("stopped")
    if is_refused:
        raise typer.Exit(1)


@contextmanager
def _place(found: Settings, stopping: threading.Event) -> Iterator[Place | None]:
    """Yield the database, ready for work; None if told to stop before it answered."""
    if not found.is_embedded:
        yield _prepared(given_place(found), stopping)
        return
    with EmbeddedServer(found.home) as server:
        yield _prepared(Place(server.url(), found, is_embedded=True), stopping)


def _prepared(place: Place, stopping: threading.Event) -> Place | None:
    """Bring a database to where this program can work with it, in a child of its own; raises Exit when it cannot."""
    place.owner()
    if Child(Role("prepare")).end_with(stopping) != 0 and not stopping.is_set():
        raise typer.Exit(1)
    return None if stopping.is_set() else place


def _work(place: Place, stopping: threading.Event) -> bool:
    """Keep the children at work until the end is wanted; return whether one of them refused to start."""
    found = place.settings
    supervisor = Supervisor(_roles(found), stopping, grace_seconds=found.worker.grace_seconds)
    supervisor.start()
    try:
        if supervisor.await_ready():
            _show(place)
            stopping.wait()
        output.note("stopping: what runs is finished or handed back")
    finally:
        supervisor.stop()
    return supervisor.is_refused


def _roles(found: Settings) -> list[Role]:
    """Return relay, worker and scheduler together in each child; where they meet over Redis, one relay for all workers.

    A scheduler is where a relay is.
    """
    count = found.worker.processes
    if found.broker.url is None:
        return worker_roles("up", found, count)
    relay, *workers = worker_roles("worker", found, 1 + count)
    return [replace(relay, kind="relay"), *workers]


def _show(place: Place) -> None:
    """Print where things are and how work gets in."""
    from pipelines.storage import storage_of  # a relay imports this module, too

    found = place.settings
    with connect(place.login("operator"), name="console", pooled=place.is_pooled) as connection:
        tenant_id = identity.tenant_id_of(connection, found.tenant)
    owner = place.owner()
    psql = str(binary("psql")) if place.is_embedded else "psql"
    output.show_line("Greenroom is up.")
    output.show_fields(
        [
            ("home", found.home if place.is_embedded else None),
            ("database", output.mask_url(owner)),
            (
                "producers",
                f"{output.mask_url(place.login('producer'))} (the login {role_name('producer')} may only enqueue)",
            ),
            ("storage", f"{storage_of(found).place}/{tenant_id}"),
            ("enqueue", "greenroom ingest PATH, greenroom enqueue TYPE …, or from any program"),
            ("", "INSERT INTO queue.outbox_tasks (task_type, payload)"),
            ("", """VALUES ('document.ingest', '{"path": "FILE below the storage folder"}');"""),
            ("psql", f"{psql} {shlex.quote(output.mask_url(owner))}"),
            ("stop", "Ctrl-C or SIGTERM"),
        ]
    )
