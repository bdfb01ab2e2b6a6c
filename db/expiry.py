"""Rows whose time is over are marked as expired, with an event of the audit for each. For who works across tenants.

Typed calls over `sql/expiry.sql`.
"""

from collections.abc import Sequence
from typing import Literal
from uuid import UUID

from db.audit import Resource, record
from db.connection import Connection
from db.queries import Queries

QUERIES = Queries("expiry")
Kind = Literal["persona", "api_key"]
_TOLD: dict[Kind, str] = {"persona": "a generated persona", "api_key": "an API key"}


def due(connection: Connection, kind: Kind, most: int) -> list[UUID]:
    """Return the next `most` rows of a kind whose time is over and that have no mark, the oldest first."""
    return [row[0] for row in QUERIES.run(connection, f"due_{kind}s", {"most": most})]


def mark(connection: Connection, kind: Kind, ids: Sequence[UUID]) -> None:
    """Mark those of the rows that are still due. Expects a transaction; marking again changes nothing."""
    rows = QUERIES.run(connection, f"mark_{kind}s", {"ids": list(ids)})
    if rows:
        resources = [Resource(kind, row_id, tenant_id) for row_id, tenant_id in rows]
        record(connection, f"{kind}.expired", f"the time of {_TOLD[kind]} is over", *resources, category="system")
