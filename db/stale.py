"""Pending tasks that nobody took for as long as their type lets them wait. Typed calls over `sql/stale.sql`.

A sign of life is whatever happens to a task: its due time, a claim, the end of an attempt, a hold and its release.
"""

from typing import NamedTuple
from uuid import UUID

from db.connection import Connection
from db.queries import Queries

QUERIES = Queries("stale")


class Looked(NamedTuple):
    """What a look at a page came to: its last task (None: behind the last one), how many it had, how many ended."""

    last: UUID | None
    size: int
    cancelled: int


def is_any(connection: Connection) -> bool:
    """Return whether any task type has a `pending_limit`."""
    [(found,)] = QUERIES.run(connection, "is_any")
    return bool(found)


def cancel(connection: Connection, after: UUID, most: int) -> Looked:
    """Look at the next `most` live tasks by id; cancel those of them that are stale.

    One statement, and a transaction of its own on an autocommit connection. A task that another transaction holds is
    left for the next time.
    """
    [row] = QUERIES.run(connection, "cancel", {"after": after, "most": most})
    return Looked(*row)
