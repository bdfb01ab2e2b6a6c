"""What the server tells of itself: versions, and what holds back vacuum. Typed calls over `sql/health.sql`."""

from dataclasses import dataclass

from db.connection import Connection
from db.queries import Queries

QUERIES = Queries("health")


@dataclass(frozen=True, slots=True)
class Server:
    """Versions as the server writes them; `pgvector` is None where the extension is missing."""

    version: str
    pgvector: str | None


@dataclass(frozen=True, slots=True)
class OldestTransaction:
    """The oldest snapshot's lag in transactions, and the age of the longest open transaction that the login may see."""

    lag: int
    seconds: float


def server(connection: Connection) -> Server:
    """Return the versions of server and extension."""
    [row] = QUERIES.run(connection, "server")
    return Server(*row)


def oldest_transaction(connection: Connection) -> OldestTransaction:
    """Return what holds vacuum back."""
    [row] = QUERIES.run(connection, "oldest_transaction")
    return OldestTransaction(*row)
