"""Databases for tests: one embedded server a session, one template that is migrated once, one clone a test."""

import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from db.connection import Connection, connect
from db.embedded import EmbeddedServer
from db.embedded.cluster import SUPERUSER
from db.migrate import migrate
from db.roles import role_url

_TEMPLATE = "greenroom_template"
_SHM, _ROOM = "/dev/shm", 4 * 2**30  # noqa: S108  # a folder of our own is made in it
_numbers = itertools.count(1)
# Nothing survives a power cut, which no test causes; a kill loses nothing.
_SETTINGS = {"fsync": "off", "full_page_writes": "off", "max_connections": "200", "autovacuum": "off"}


@contextmanager
def fast_server() -> Iterator[EmbeddedServer]:
    """A real PostgreSQL of the block's own, in a folder that is removed at the end."""
    home = Path(tempfile.mkdtemp(prefix="gr-suite-", dir=_memory()))
    try:
        with EmbeddedServer(home, _SETTINGS) as server:
            yield server
    finally:
        shutil.rmtree(home)


def _memory() -> str | None:
    """Return a folder that lies in memory, where cloning takes half the time; None where there is none with room."""
    is_roomy = Path(_SHM).is_dir() and shutil.disk_usage(_SHM).free > _ROOM
    return _SHM if is_roomy else None


@dataclass
class Database:
    """One test's own database; `connect` hands out autocommit connections that are closed with it."""

    server: EmbeddedServer
    name: str
    _connections: list[Connection] = field(default_factory=list)
    _stack: ExitStack = field(default_factory=ExitStack)

    @property
    def owner_url(self) -> str:
        """The address of the schema's owner, who migrates."""
        return self.server.url(database=self.name)

    @property
    def superuser_url(self) -> str:
        """The address of the server's superuser; no process of Greenroom has it."""
        return self.server.url(SUPERUSER, self.name)

    def url(self, role: str) -> str:
        """The address by which a kind of process (`relay`, `worker`, …) logs in."""
        return self.owner_url if role == "owner" else role_url(self.owner_url, role)

    def connect(self, role: str = "owner") -> Connection:
        """Open an autocommit connection as that role, closed at the end of the test."""
        connection = connect(self.url(role), name=f"test {role}")
        self._connections.append(connection)
        return connection

    def rows(self, query: str, values: Any = None) -> list[tuple[Any, ...]]:
        """Run a query as the owner and return its rows."""
        with psycopg.connect(self.owner_url, autocommit=True) as connection:
            cursor = connection.execute(query.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def value(self, query: str, values: Any = None) -> Any:
        """Run a query as the owner and return the one value of its one row."""
        [(value,)] = self.rows(query, values)
        return value

    def at_end(self, close: Callable[[], None]) -> None:
        """Call `close` at the end of the test, before the connections close."""
        self._stack.callback(close)

    def close(self) -> None:
        """Close what `connect` handed out."""
        self._stack.close()
        for connection in self._connections:
            with suppress(psycopg.Error):
                connection.close()
        self._connections.clear()


def migrate_template(server: EmbeddedServer) -> str:
    """Create and migrate the database that all others are cloned from; return its name."""
    _create(server, _TEMPLATE, "template0")
    with psycopg.connect(server.url(SUPERUSER, _TEMPLATE), autocommit=True) as connection:
        connection.execute("CREATE EXTENSION vector SCHEMA public")
    migrate(server.url(database=_TEMPLATE))
    return _TEMPLATE


@contextmanager
def cloned(server: EmbeddedServer, template: str) -> Iterator[Database]:
    """A database of one's own, dropped at the end whoever is still connected."""
    database = create_clone(server, template)
    try:
        yield database
    finally:
        database.close()
        drop_clone(database)


def create_clone(server: EmbeddedServer, template: str) -> Database:
    """Clone the template into a database of a name of its own."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    _create(server, name, template)
    return Database(server, name)


def drop_clone(database: Database) -> None:
    """Drop a clone, whoever is still connected."""
    with psycopg.connect(database.server.url(SUPERUSER, "postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database.name)))


def _create(server: EmbeddedServer, name: str, template: str) -> None:
    statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER greenroom_owner STRATEGY file_copy")
    with psycopg.connect(server.url(SUPERUSER, "postgres"), autocommit=True) as connection:
        connection.execute(statement.format(sql.Identifier(name), sql.Identifier(template)))
