"""Cached counts and times: which there are, which rows hold a wrong one, and mending it. Over `sql/counters.sql`.

A counter has one owner, which docs/data-model.md names; what is here recounts it from the rows that it is of. All
calls are the system role's, across tenants.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from uuid import UUID

from db.connection import Connection
from db.queries import Queries

QUERIES = Queries("counters")


class Counter(StrEnum):
    """The counters, by schema, table and column, in the order of counting: documents before what sums them up."""

    MESSAGES = "assistants.conversations.message_count"
    LAST_CONTACT = "assistants.clients.last_contact"
    KEY_USE = "identity.users.last_used_at"
    ACTIVITY = "identity.users.last_active_at"
    MAPPER_USAGE = "people.mapper_configs.usage_count"
    DOCUMENT_CHUNKS = "knowledge.documents.chunk_count"
    DOCUMENTS = "knowledge.collections.document_count"
    COLLECTION_CHUNKS = "knowledge.collections.chunk_count"
    QUOTA = "billing.tenant_quotas.used_value"


# What a counter's queries are called, and how many rows are looked at a time: fewer where each may be of many.
_QUERIES: Final[Mapping[Counter, tuple[str, int]]] = {
    Counter.MESSAGES: ("message_count", 500),
    Counter.LAST_CONTACT: ("last_contact", 1000),
    Counter.KEY_USE: ("last_used_at", 1000),
    Counter.ACTIVITY: ("last_active_at", 200),
    Counter.MAPPER_USAGE: ("usage_count", 20),
    Counter.DOCUMENT_CHUNKS: ("document_chunks", 1000),
    Counter.DOCUMENTS: ("document_count", 20),
    Counter.COLLECTION_CHUNKS: ("collection_chunks", 20),
    Counter.QUOTA: ("used_value", 200),
}


@dataclass(frozen=True, slots=True)
class Page:
    """Rows that were looked at: how many, the last one's id (None where none were left), and those that are wrong."""

    size: int
    last: UUID | None
    wrong: list[UUID]


@dataclass(frozen=True, slots=True)
class Mended:
    """How many rows were given the right value, and how many were being written and left as they are."""

    rows: int
    busy: int


def look(connection: Connection, counter: Counter, after: UUID) -> Page:
    """Return the next page of rows, those with greater ids than `after`."""
    query, most = _QUERIES[counter]
    rows = QUERIES.run(connection, f"look_at_{query}", {"after": after, "most": most})
    return Page(len(rows), rows[-1][0] if rows else None, [row_id for row_id, is_wrong in rows if is_wrong])


def mend(connection: Connection, counter: Counter, ids: Sequence[UUID]) -> Mended:
    """Count anew and write what differs. Needs a transaction of READ COMMITTED, and holds the rows until its end.

    Never waits for another writer.
    """
    if not ids:
        return Mended(0, 0)
    query, _ = _QUERIES[counter]
    free = [row_id for (row_id,) in QUERIES.run(connection, f"lock_{query}", {"ids": list(ids)})]
    return Mended(QUERIES.count(connection, f"mend_{query}", {"ids": free}), len(ids) - len(free))
