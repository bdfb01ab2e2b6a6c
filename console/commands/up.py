"""`greenroom up`: everything on this machine, in one process."""

import os
import shlex
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from console import output
from console.addresses import Place, given_place
from console.runtime import end, observe, own_server, settings, when_database_answers
from console.signals import stop_event
from core.settings import Settings
from db import identity
from db.connection import connect
from db.embedded import binary
from db.roles import role_name


def up() -> None:
    """Run Postgres (or use GREENROOM_DATABASE_URL), relay and worker until SIGTERM or Ctrl-C."""
    stopping = stop_event()
    observe("up")
    is_drained = True
    with _place(settings(), stopping) as place:
        if place is not None and not stopping.is_set():
            is_drained = _work(place, stopping)
    output.note("stopped")
    if not is_drained:
        # Threads that ignored the grace time would hold the interpreter's end up; their attempts were handed back.
        end()
        os._exit(0)


@contextmanager
def _place(found: Settings, stopping: threading.Event) -> Iterator[Place | None]:
    """Yield the database, ready for work; None if told to stop before it answered."""
    if found.is_embedded:
        with own_server(found) as place:
            yield place
        return
    place = given_place(found)
    from console.setup import create_folder, prepare

    def start() -> None:
        prepare(place.owner_direct(), found)
        create_folder(place.owner_direct(), found)

    yield place if when_database_answers(start, "up", stopping) else None


def _work(place: Place, stopping: threading.Event) -> bool:
    from console.engine import Engine

    broker = place.settings.broker.url
    engine = Engine(place, broker_url=broker.get_secret_value() if broker else None)
    engine.start()
    try:
        _show(place)
        stopping.wait()
        output.note("stopping: what runs is finished or handed back")
    finally:
        is_drained = engine.stop()
    return is_drained


def _show(place: Place) -> None:
    """Print where things are and how work gets in."""
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
            ("storage", found.storage_root / str(tenant_id)),
            ("enqueue", "greenroom ingest PATH, greenroom enqueue TYPE …, or from any program"),
            ("", "INSERT INTO queue.outbox_tasks (task_type, payload)"),
            ("", """VALUES ('document.ingest', '{"path": "FILE below the storage folder"}');"""),
            ("psql", f"{psql} {shlex.quote(output.mask_url(owner))}"),
            ("stop", "Ctrl-C or SIGTERM"),
        ]
    )
