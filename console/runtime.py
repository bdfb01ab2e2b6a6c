"""The composition root: reads the settings once, reaches the database, brings server and workers where none run.

A short command beside a running `greenroom up` uses its server and workers. With none running it starts the embedded
server, and where work has to be done relay and worker too, for its own time; with GREENROOM_DATABASE_URL set it only
enqueues, and whoever serves the queue does the work.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from uuid import UUID

import psycopg

from console.addresses import Place, given_place
from core import events
from core.backoff import Backoff
from core.errors import EmbeddedServerError, SchemaError, UnavailableError
from core.settings import Settings, load_settings
from db import identity, tasks
from db.connection import Connection, connect
from db.embedded import EmbeddedServer, running_url
from db.embedded.layout import Layout
from db.embedded.ownership import read_record
from db.queries import is_unavailable
from db.schema import WANTED_REVISION, current_revision, is_newer, require_revision

# How long a command waits for a server or a worker of another process that is just starting.
_PATIENCE_SECONDS = 15.0
_POLL_SECONDS = 0.1
_ending = ExitStack()


@cache
def settings() -> Settings:
    """Return this process's settings, read at the first call."""
    return load_settings()


@dataclass(frozen=True, slots=True)
class Operation:
    """What a short command works with: the operator's connection (autocommit), and where it leads."""

    settings: Settings
    place: Place
    connection: Connection

    def tenant_id(self, slug: str | None = None) -> UUID:
        """Return the id of the tenant that the command works for; raises NotFoundError."""
        return identity.tenant_id_of(self.connection, slug or self.settings.tenant)

    def require_worker(self, queue: str) -> None:
        """Raise UnavailableError, with what to do, unless a live worker serves the queue; waits for one that starts."""
        patience = _PATIENCE_SECONDS if self.place.is_embedded else 0.0
        deadline = time.monotonic() + patience
        while not self.is_served(queue):
            if time.monotonic() >= deadline:
                raise UnavailableError(
                    f"no worker serves the queue {queue!r}: start `greenroom up` or a `greenroom worker` for it"
                )
            time.sleep(_POLL_SECONDS)

    def is_served(self, queue: str) -> bool:
        """Return whether a worker that was heard of lately serves a queue."""
        timeout = self.settings.relay.process_timeout
        return any(process.serves(queue, timeout) for process in tasks.processes(self.connection))


@contextmanager
def operate(*, works: bool = False) -> Iterator[Operation]:
    """Connect as the operator. With `works`, bring relay and worker if this process brings the server."""
    observe("console")
    found = settings()
    with ExitStack() as stack:
        place, is_ours = stack.enter_context(_reach(found))
        connection = stack.enter_context(connect(place.login("operator"), name="console", pooled=place.is_pooled))
        # Beside an `up` that was started a moment ago, its migration is under way.
        require_schema(connection, patience=_PATIENCE_SECONDS if place.is_embedded else 0.0)
        if is_ours and works:
            stack.enter_context(_own_workers(place))
        yield Operation(found, place, connection)


@contextmanager
def reach() -> Iterator[Place]:
    """Reach where the database should be, in whatever state it is; a server of our own is brought if none runs.

    Beside an `up` that was started a moment ago, its migration is waited for.
    """
    observe("console")
    found = settings()
    with _reach(found) as (place, is_ours):
        if place.is_embedded and not is_ours:
            with suppress(SchemaError), connect(place.login("operator"), name="console") as connection:
                require_schema(connection, patience=_PATIENCE_SECONDS)
        yield place


@contextmanager
def own_server(found: Settings) -> Iterator[Place]:
    """Run the embedded server, ready for work, for as long as the block lasts."""
    from console.setup import create_folder, prepare

    with EmbeddedServer(found.home) as server:
        url = server.url()
        prepare(url, found)
        create_folder(url, found)
        yield Place(url, found, is_embedded=True)


@contextmanager
def owner_place() -> Iterator[Place]:
    """Reach the database with the owner's login, its schema as it is."""
    found = settings()
    if not found.is_embedded:
        yield given_place(found)
        return
    if place := _beside(found):
        yield place
        return
    with EmbeddedServer(found.home) as server:
        yield Place(server.url(), found, is_embedded=True)


def beside_or_given(found: Settings) -> Place:
    """Return where a relay or worker runs apart: the database that the settings name, or a running `up`'s server."""
    place = _beside(found) if found.is_embedded else given_place(found)
    if place is None:
        raise UnavailableError(
            f"no server runs in {found.home}: set GREENROOM_DATABASE_URL, or start `greenroom up` first"
        )
    return place


def when_database_answers(start: Callable[[], None], name: str, stopping: threading.Event) -> bool:
    """Do `start`, again while the database is away, saying so; return False if told to stop before it was done."""
    backoff, failures = Backoff(base=0.5, maximum=15.0), 0
    while not stopping.is_set():
        try:
            start()
        except (UnavailableError, psycopg.Error) as error:
            if not is_unavailable(error):
                raise
            failures += 1
            pause = backoff.delay(failures)
            events.emit(events.LoopFailed(f"{name} start", type(error).__name__, str(error), pause))
            stopping.wait(pause)
        else:
            return True
    return False


def await_database(
    place: Place,
    kind: str,
    stopping: threading.Event,
    prepare: Callable[[Connection], object] = lambda connection: None,
    *,
    is_child: bool = False,
) -> bool:
    """Wait for a database with this program's schema and `prepare` it; return False if told to stop before.

    Connects as a process of that `kind` (relay, worker). A child's parent has seen that schema: where it has become a
    newer one since, the child goes on beside it under that one, and has nothing to prepare.
    """

    def start() -> None:
        with connect(place.login(kind), name=kind, pooled=place.is_pooled) as connection:
            if is_child and is_newer(current_revision(connection)):
                return
            require_schema(connection)
            prepare(connection)

    return when_database_answers(start, kind, stopping)


def require_schema(connection: Connection, *, patience: float = 0.0) -> None:
    """Raise SchemaError, with what to do, unless the database has this program's schema.

    One that is older, or none, may be under way to it: wait for that as long as `patience` lasts, in seconds.
    """
    deadline = time.monotonic() + patience
    while (found := current_revision(connection)) != WANTED_REVISION:
        if is_newer(found) or time.monotonic() >= deadline:
            require_revision(found)
        time.sleep(_POLL_SECONDS)


def observe(service: str) -> None:
    """Set logs, metrics and traces up; a command that ends soon says warnings only and serves nothing."""
    from core.observe import configure

    wanted = settings().observe
    if service in {"console", "supervisor"}:
        wanted = wanted.model_copy(update={"metrics_port": None, "otlp_endpoint": None})
    if service == "console":
        wanted = wanted.model_copy(update={"log_level": "warning"})
    _ending.callback(configure(wanted, service=service))


def end() -> None:
    """Flush and end logs, metrics and traces; the last thing that a command does."""
    _ending.close()


@contextmanager
def _reach(found: Settings) -> Iterator[tuple[Place, bool]]:
    """Yield the place, and whether its server is this process's own."""
    if not found.is_embedded:
        yield given_place(found), False
        return
    with ExitStack() as stack:
        place = _beside(found)
        is_ours = place is None
        if place is None:
            try:
                place = stack.enter_context(own_server(found))
            except EmbeddedServerError:
                place, is_ours = _await_beside(found), False
                if place is None:
                    raise
        yield place, is_ours


def _await_beside(found: Settings) -> Place | None:
    """Return the place of another command's server that is just starting, or None if none comes up."""
    record = read_record(Layout(found.home.absolute()).owner)
    if record is None or record.pid == os.getpid():
        return None
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while (place := _beside(found)) is None and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    return place


def _beside(found: Settings) -> Place | None:
    url = running_url(found.home)
    return None if url is None else Place(url, found, is_embedded=True)


@contextmanager
def _own_workers(place: Place) -> Iterator[None]:
    from console.engine import Engine, handlers_of

    engine = Engine(place, *handlers_of(place.settings))
    engine.start()
    try:
        yield
    finally:
        engine.stop()
