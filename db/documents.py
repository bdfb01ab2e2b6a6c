"""The documents' store: what handlers read and write, as typed calls over `sql/documents.sql`.

Every call runs in a transaction that the caller bound to one tenant; row security shows no other tenant's rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from pgvector import Vector
from pgvector.psycopg import register_vector
from psycopg.types.json import Jsonb

from db import audit
from db.connection import Connection
from db.queries import Queries

QUERIES = Queries("documents")

# For a document in no collection; the same as a collection's own defaults.
DEFAULT_CHUNK_SIZE, DEFAULT_CHUNK_OVERLAP = 256, 32
# The one that has none before it.
_FIRST_VERSION = 1


@dataclass(frozen=True, slots=True)
class Document:
    """A document as its handlers need it; `content_hash` is the SHA-256 of the last parsed file."""

    id: UUID
    name: str
    file_path: str
    uploaded_at: datetime
    mime_type: str | None
    title: str | None
    content_hash: bytes | None
    status: str
    current_version: int
    next_version: int
    collection_id: UUID | None
    persona_id: UUID | None
    chunk_size: int
    chunk_overlap: int


@dataclass(frozen=True, slots=True)
class Registered:
    """What registering a file found: the document, what its last parsed version was made of, the file it had before."""

    id: UUID
    status: str
    content_hash: bytes | None
    former_path: str | None


@dataclass(frozen=True, slots=True)
class ChunkRow:
    """One chunk to be written; offsets count characters of the version's text, of which the header is no part."""

    index: int
    header: str
    text: str
    token_count: int
    page: int | None
    section: str | None
    start: int
    end: int


def register(
    connection: Connection,
    *,
    tenant_id: UUID,
    external_id: str,
    name: str,
    source: str,
    file_path: str,
    file_size: int,
    collection_id: UUID | None = None,
    persona_id: UUID | None = None,
    source_url: str | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Registered:
    """Make a document of a file, or give the document of that external id a new file. Hold `files.lock` before.

    `metadata` is added to what the document has.
    """
    values = {
        "tenant_id": tenant_id,
        "collection_id": collection_id,
        "persona_id": persona_id,
        "external_id": external_id,
        "name": name[:255],
        "source": source,
        "source_url": source_url,
        "file_path": file_path,
        "file_size": file_size,
        "metadata": Jsonb(metadata or {}),
    }
    [row] = QUERIES.run(connection, "register", values)
    registered = Registered(*row)
    QUERIES.run(connection, "give_chunks_persona", {"id": registered.id})
    return registered


def get(connection: Connection, document_id: UUID) -> Document | None:
    """Return a document, or None where it is deleted, another tenant's, or made of no file."""
    values = {"id": document_id, "chunk_size": DEFAULT_CHUNK_SIZE, "chunk_overlap": DEFAULT_CHUNK_OVERLAP}
    rows = QUERIES.run(connection, "get", values)
    return Document(*rows[0]) if rows else None


def lock_upload(connection: Connection, document_id: UUID) -> tuple[str, datetime] | None:
    """Lock a document until the end of the transaction; return its file and when that was named, None if it is gone.

    Whoever registers a file waits for the lock, and then finds that this ingest has ended.
    """
    rows = QUERIES.run(connection, "lock_upload", {"id": document_id})
    return (rows[0][0], rows[0][1]) if rows else None


def begin_version(
    connection: Connection,
    document: Document,
    *,
    title: str | None,
    language: str,
    content_hash: bytes,
    mime_type: str,
    file_size: int,
    page_count: int | None,
) -> int:
    """Give a parsed file its version number, and say in the audit that it was read. Hold `lock_upload` before."""
    values = {
        "id": document.id,
        "title": title[:1000] if title else None,
        "language": language,
        "content_hash": content_hash,
        "mime_type": mime_type,
        "file_size": file_size,
        "page_count": page_count,
    }
    [(version,)] = QUERIES.run(connection, "begin_version", values)
    begun: int = version
    return begun


def insert_text(
    connection: Connection, document: Document, version: int, tenant_id: UUID, text: str, blocks: list[Any]
) -> None:
    """Keep a version's normalised text, its blocks (JSON) and the file that it was made of."""
    values = {
        "id": document.id,
        "version": version,
        "tenant_id": tenant_id,
        "file_path": document.file_path,
        "text": text,
        "blocks": Jsonb(blocks),
    }
    QUERIES.run(connection, "insert_text", values)


def get_text(connection: Connection, document_id: UUID, version: int) -> tuple[str, list[Any]] | None:
    """Return a version's text and blocks, or None where it is superseded or deleted."""
    rows = QUERIES.run(connection, "get_text", {"id": document_id, "version": version})
    return (rows[0][0], rows[0][1]) if rows else None


def lock(connection: Connection, document_id: UUID) -> int | None:
    """Lock a document until the end of the transaction; return the number of its newest version, None if it is gone."""
    rows = QUERIES.run(connection, "lock_document", {"id": document_id})
    return rows[0][1] if rows else None


def insert_chunks(connection: Connection, document_id: UUID, version: int, chunks: Sequence[ChunkRow]) -> None:
    """Write a version's chunks; nobody sees them before the version is swapped in."""
    values = {
        "id": document_id,
        "version": version,
        "indexes": [chunk.index for chunk in chunks],
        "headers": [chunk.header for chunk in chunks],
        "texts": [chunk.text for chunk in chunks],
        "tokens": [chunk.token_count for chunk in chunks],
        "pages": [chunk.page for chunk in chunks],
        "sections": [chunk.section for chunk in chunks],
        "starts": [chunk.start for chunk in chunks],
        "ends": [chunk.end for chunk in chunks],
    }
    QUERIES.run(connection, "insert_chunks", values)


def copy_vectors(connection: Connection, document_id: UUID, version: int, space_id: UUID) -> int:
    """Give chunks whose text the tenant embedded before that vector; return how many got one."""
    return QUERIES.count(connection, "copy_vectors", {"id": document_id, "version": version, "space_id": space_id})


def missing_chunks(connection: Connection, document_id: UUID, version: int, space_id: UUID) -> list[int]:
    """Return the indexes of a version's chunks that have no vector in the space yet."""
    values = {"id": document_id, "version": version, "space_id": space_id}
    return [row[0] for row in QUERIES.run(connection, "missing_chunks", values)]


def chunks_to_embed(
    connection: Connection, document_id: UUID, version: int, space_id: UUID, first: int, last: int
) -> list[tuple[UUID, str]]:
    """Return (id, header and text) of the chunks from `first` to `last` that have no vector in the space yet."""
    values = {"id": document_id, "version": version, "space_id": space_id, "first": first, "last": last}
    return [(row[0], row[1]) for row in QUERIES.run(connection, "chunks_to_embed", values)]


def insert_vectors(
    connection: Connection, space_id: UUID, chunk_ids: Sequence[UUID], vectors: Sequence[Vector]
) -> None:
    """Write vectors. Postgres refuses a wrong dimension, a zero vector and NaN."""
    if connection.adapters.types.get("vector") is None:
        register_vector(connection)  # here and not at its opening: only embedding workers pay for the look-up
    values = {"space_id": space_id, "chunk_ids": list(chunk_ids), "vectors": list(vectors)}
    QUERIES.run(connection, "insert_vectors", values)


def hold_active(connection: Connection) -> UUID:
    """Return the active space, which no switch changes before the transaction ends."""
    QUERIES.run(connection, "hold_active")
    [(space_id,)] = QUERIES.run(connection, "active")
    active: UUID = space_id
    return active


def swap_if_complete(connection: Connection, document_id: UUID, version: int) -> list[str]:
    """Let readers see a version whose vectors in the active space are all there, in place of the one before.

    Returns the stored files of the versions that went; to be removed unless a document still names them.
    """
    rows = QUERIES.run(connection, "lock_document", {"id": document_id})
    if not rows or rows[0][0] >= version:
        return []
    space_id = hold_active(connection)
    if missing_chunks(connection, document_id, version, space_id):
        return []
    values = {"id": document_id, "version": version}
    if not QUERIES.run(connection, "swap_version", values) or version == _FIRST_VERSION:
        return []
    QUERIES.run(connection, "delete_older_chunks", values)
    return sorted({row[0] for row in QUERIES.run(connection, "delete_older_texts", values)})


def delete(connection: Connection, tenant_id: UUID, document_id: UUID) -> list[str]:
    """Delete a document with its texts, chunks and vectors, and say so in the audit; return its stored files."""
    lock(connection, document_id)  # a file that is registered meanwhile waits, and is not overlooked
    files = [row[0] for row in QUERIES.run(connection, "files_of", {"id": document_id})]
    rows = QUERIES.run(connection, "delete", {"id": document_id})
    if not rows:
        return []
    resource = audit.Resource("document", document_id, tenant_id)
    audit.record(connection, "document.deleted", f"document {rows[0][0]} deleted", resource)
    return files
