"""Months of parted tables: those that are missing are made, those that a policy takes are let go.

Typed calls over `sql/months.sql`, for an autocommit connection outside of any transaction, as relay or system role:
each is a transaction of its own, and what it does it does whole or not at all. None waits for a lock that others would
queue up behind for longer than 50 ms: who holds it is let be, and the call says so.
"""

from datetime import datetime
from typing import Literal
from uuid import UUID

import psycopg

from db.connection import Connection
from db.queries import Queries

QUERIES = Queries("months")
MonthOutcome = Literal["dropped", "held", "filled", "busy", "kept"]


def missing(connection: Connection) -> list[tuple[str, datetime]]:
    """Return the tables that lack one of this month and the next two, each with that month's beginning.

    An operator may ask, too.
    """
    return [(relation, since) for relation, since in QUERIES.run(connection, "missing")]


def make_missing(connection: Connection) -> list[str]:
    """Make what is missing of this month and the next two, one by one; return the tables that still lack one.

    One that cannot be made, since a partition of somebody's own is in its place, keeps no other; its error is raised
    after all are tried.
    """
    lacking = missing(connection)
    refused: psycopg.Error | None = None
    for relation, since in lacking:
        try:
            QUERIES.run(connection, "make", {"relation": relation, "since": since})
        except psycopg.Error as error:
            refused = refused or error
    if refused is not None:
        raise refused
    return sorted({relation for relation, _ in missing(connection)}) if lacking else []


def to_go(connection: Connection, run_id: UUID) -> list[str]:
    """Return the months that a run is to let go, the oldest first."""
    return [leaf for (leaf,) in QUERIES.run(connection, "to_go", {"run_id": run_id})]


def clear(connection: Connection, run_id: UUID, leaf: str, most: int) -> int:
    """Delete up to `most` rows of a month that other tables refer to, with what refers to them; return how many.

    0 where nothing refers to the month, where a hold keeps it, and while somebody writes policies or those rows.
    """
    try:
        [(gone,)] = QUERIES.run(connection, "clear", {"run_id": run_id, "leaf": leaf, "most": most})
    except psycopg.errors.LockNotAvailable:
        return 0
    return int(gone)


def drop(connection: Connection, run_id: UUID, leaf: str) -> tuple[MonthOutcome, int]:
    """Let a month go; return what came of it, and how many of its rows a hold keeps.

    `dropped`; `held`: it stays whole; `filled`: rows have to be cleared first; `busy`: somebody uses the table, later
    again; `kept`: the policy does not speak of it any more, or it is gone.
    """
    try:
        [(outcome, held)] = QUERIES.run(connection, "drop", {"run_id": run_id, "leaf": leaf})
    except psycopg.errors.LockNotAvailable:
        return "busy", 0
    return outcome, int(held)
