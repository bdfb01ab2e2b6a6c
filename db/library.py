"""Documents as operators see them: listings, one whole, how far each is. Calls over `sql/library.sql`.

Every call runs in a transaction that the caller bound to one tenant.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from core.errors import InvalidOptionsError, NotFoundError
from db.connection import Connection
from db.queries import Queries

QUERIES = Queries("library")


@dataclass(frozen=True, slots=True)
class DocumentRow:
    """One document of a listing; chunks and pages are those of the version that searches find."""

    id: UUID
    name: str
    collection: str | None
    status: str
    chunk_count: int
    page_count: int | None
    file_size: int | None
    mime_type: str | None
    error_message: str | None
    current_version: int
    uploaded_at: datetime
    completed_at: datetime | None


@dataclass(frozen=True, slots=True)
class DocumentDetail(DocumentRow):
    """Everything of one document but its text."""

    title: str | None
    external_id: str | None
    source: str | None
    source_url: str | None
    file_path: str | None
    content_hash: bytes | None
    persona_id: UUID | None
    metadata: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ChunkSummary:
    """One chunk of a document: where it stands, and how its text begins."""

    chunk_index: int
    token_count: int | None
    page: int | None
    section: str | None
    start_offset: int
    end_offset: int
    text: str


@dataclass(frozen=True, slots=True)
class DocumentState:
    """How far a document is: its status, and the types of the live tasks that work for it."""

    status: str
    error_message: str | None
    chunk_count: int
    live_types: frozenset[str]
    hold_reason: str | None

    @property
    def has_ended(self) -> bool:
        """Whether nothing works for it any more: a task that hands on to the next does so in one transaction."""
        return not self.live_types


def list_documents(
    connection: Connection,
    *,
    status: str | None = None,
    collection: str | None = None,
    limit: int = 20,
    before: UUID | None = None,
) -> list[DocumentRow]:
    """Return documents, newest first; a next page goes on `before` the last id of this one."""
    values = {"status": status, "collection": collection, "limit": limit, "before": before}
    rows = QUERIES.run(connection, "list", values)
    return [DocumentRow(*row) for row in rows]


def find(connection: Connection, id_or_name: str) -> UUID:
    """Return the id of the document of that id, name or external id; raises NotFoundError, InvalidOptionsError."""
    try:
        wanted = UUID(id_or_name)
    except ValueError:
        rows = QUERIES.run(connection, "find_by_name", {"name": id_or_name})
    else:
        rows = QUERIES.run(connection, "show", {"id": wanted})
    if not rows:
        raise NotFoundError(f"no document has the id or the name {id_or_name!r}: see `greenroom documents list`")
    if len(rows) > 1:
        raise InvalidOptionsError(f"several documents are named {id_or_name!r}: give the id of one")
    found: UUID = rows[0][0]
    return found


def by_external_id(connection: Connection, collection_id: UUID, external_id: str) -> UUID | None:
    """Return the id of the collection's document of that external id, None where there is none."""
    rows = QUERIES.run(connection, "by_external_id", {"collection_id": collection_id, "external_id": external_id})
    return rows[0][0] if rows else None


def show(connection: Connection, document_id: UUID) -> DocumentDetail | None:
    """Return a document whole, or None where it is deleted or another tenant's."""
    rows = QUERIES.run(connection, "show", {"id": document_id})
    return DocumentDetail(*rows[0]) if rows else None


def text_of(connection: Connection, document_id: UUID) -> str | None:
    """Return the whole text of the version that searches find, None where there is none (yet)."""
    rows = QUERIES.run(connection, "text", {"id": document_id})
    return rows[0][0] if rows else None


def has_persona(connection: Connection, persona_id: UUID) -> bool:
    """Tell whether the tenant has that persona, for documents that shall be its own."""
    return bool(QUERIES.run(connection, "persona", {"id": persona_id}))


def chunks(connection: Connection, document_id: UUID, *, limit: int) -> list[ChunkSummary]:
    """Return the first chunks of the version that searches find."""
    return [ChunkSummary(*row) for row in QUERIES.run(connection, "chunk_list", {"id": document_id, "limit": limit})]


def failed_tasks(connection: Connection, ids: Sequence[UUID] | None) -> list[UUID]:
    """Return the tasks that failed documents failed with, of all or of those given, at most 10,000."""
    rows = QUERIES.run(connection, "failed_tasks", {"ids": None if ids is None else list(ids)})
    return [row[0] for row in rows]


def states(connection: Connection, ids: Sequence[UUID]) -> dict[UUID, DocumentState]:
    """Return how far documents are; one that is deleted is not among them."""
    rows = QUERIES.run(connection, "states", {"ids": list(ids)})
    return {row[0]: DocumentState(row[1], row[2], row[3], frozenset(row[4]), row[5]) for row in rows}
