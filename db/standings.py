"""Where a task stands that goes on page by page, on its own row. Typed calls over `sql/standings.sql`."""

from collections.abc import Mapping
from typing import Any, Literal
from uuid import UUID

from psycopg.types.json import Jsonb

from db.connection import Connection
from db.queries import Queries

QUERIES = Queries("standings")
Of = Literal[
    "filling",
    "counting",
    "erasure",
    "care",
    "measuring",
    "rolling",
    "files",
    "restoring",
    "forgetting",
    "expiring",
    "polling",
    "curating",
    "settling",
]
FIRST = str(UUID(int=0))
"""The id that the first page comes after."""


def read(connection: Connection, task_id: UUID, of: Of) -> dict[str, Any]:
    """Return what a task that lives has noted of where it stands; nothing at first."""
    [(found,)] = QUERIES.run(connection, "read", {"task_id": task_id, "of": of})
    return found or {}


def note(connection: Connection, task_id: UUID, of: Of, standing: Mapping[str, Any]) -> None:
    """Note where a task stands. Expects the transaction that brought it there."""
    QUERIES.run(connection, "note", {"task_id": task_id, "of": of, "standing": Jsonb(standing)})
