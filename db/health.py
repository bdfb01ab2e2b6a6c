"""What the server tells of itself: versions, its clock, what holds vacuum back, what is damaged or about to be full.

Typed calls over `sql/health.sql`. All only read.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import uuid4

import psycopg

from db.connection import Connection
from db.queries import Queries, is_unavailable, unavailable

QUERIES = Queries("health")
SCHEMAS = (
    "assistants", "audit", "billing", "governance", "identity", "knowledge", "mail", "ops", "people", "queue", "tools",
    "vault",
)  # fmt: skip
"""The schemas of Greenroom, and of nobody else."""
_CHANNEL = "greenroom_doctor"


@dataclass(frozen=True, slots=True)
class Server:
    """Versions as the server writes them; `pgvector` is None where the extension is missing."""

    version: str
    major: int
    pgvector: str | None


@dataclass(frozen=True, slots=True)
class OldestTransaction:
    """The oldest snapshot's lag in transactions with its holder, and the age of the longest open transaction.

    Of the longest open only what the login may see: those of other logins where `sees_all`.
    """

    lag: int
    holder: str
    seconds: float
    sees_all: bool


@dataclass(frozen=True, slots=True)
class Connections:
    """Connections that are open, and how many there may be without those that superusers are owed."""

    used: int
    most: int


@dataclass(frozen=True, slots=True)
class DatabaseState:
    """Age of the oldest row that is not frozen, in transactions; wrong checksums that were read; collation versions."""

    age: int
    checksum_failures: int
    collation_made: str | None
    collation_now: str | None


@dataclass(frozen=True, slots=True)
class DeadRows:
    """A table of which much is dead; `seconds` since it was vacuumed, None where it never was."""

    table: str
    dead: int
    live: int
    seconds: float | None


@contextmanager
def bounded(connection: Connection, seconds: float) -> Iterator[None]:
    """Open a transaction that only reads; a statement that takes longer is ended by the server (QueryCanceled)."""
    with connection.transaction():
        QUERIES.run(connection, "bound", {"milliseconds": str(int(seconds * 1000))})
        yield


def server(connection: Connection) -> Server:
    """Return the versions of server and extension."""
    [row] = QUERIES.run(connection, "server")
    return Server(*row)


def now(connection: Connection) -> datetime:
    """Return the server's time of day, in UTC."""
    [(found,)] = QUERIES.run(connection, "now")
    moment: datetime = found.astimezone(UTC)
    return moment


def oldest_transaction(connection: Connection) -> OldestTransaction:
    """Return what holds vacuum back."""
    [row] = QUERIES.run(connection, "oldest_transaction")
    return OldestTransaction(*row)


def connections(connection: Connection) -> Connections:
    """Return how many connections the server has, of all its databases, and may have."""
    [row] = QUERIES.run(connection, "connections")
    return Connections(*row)


def database_state(connection: Connection) -> DatabaseState:
    """Return what is or becomes wrong with the database as a whole."""
    [row] = QUERIES.run(connection, "database_state")
    return DatabaseState(*row)


def has_autovacuum(connection: Connection) -> bool:
    """Return whether the server vacuums by itself."""
    return QUERIES.run(connection, "autovacuum") == [(True,)]


def dead_rows(connection: Connection, *, rows: int, share: float, seconds: float) -> list[DeadRows]:
    """Return tables of which so many rows and such a share are dead, and that no vacuum has seen for `seconds`."""
    values = {"schemas": list(SCHEMAS), "rows": rows, "share": share, "seconds": seconds}
    return [DeadRows(*row) for row in QUERIES.run(connection, "dead_rows", values)]


def invalid_indexes(connection: Connection) -> list[tuple[str, str]]:
    """Return indexes that nobody builds and no query uses, each with its table."""
    return [(index, table) for index, table in QUERIES.run(connection, "invalid_indexes", {"schemas": list(SCHEMAS)})]


def round_trip(listening: Connection, notifying: Connection, seconds: float) -> float | None:
    """Send a NOTIFY over one connection and hear it on the other; return how long it took, None if it is not heard.

    Both are in autocommit mode. Raises UnavailableError.
    """
    word = uuid4().hex
    try:
        listening.execute(f"LISTEN {_CHANNEL}")
        started = time.perf_counter()
        QUERIES.run(notifying, "notify", {"word": word})
        for notice in listening.notifies(timeout=seconds):
            if notice.payload == word:
                return time.perf_counter() - started
    except psycopg.Error as error:
        if not is_unavailable(error):
            raise
        raise unavailable(error) from error
    return None
