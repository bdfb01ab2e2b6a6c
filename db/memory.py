"""Personas' memories: what is due, what is related, what was made of which chunks. Typed calls over `sql/memory.sql`.

Invariant: a memory is written in the transaction that found all of its sources there, as searches find them, and that
whoever changes or deletes one of them waits for. Every call but `due_personas` and `enqueue` runs in a transaction that
the caller bound to one tenant.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from pgvector import Vector

from core.errors import NotFoundError, UsageError
from db import documents
from db.connection import Connection
from db.queries import Queries

QUERIES = Queries("memory")
SHOWN_VERSION = 2
"""The version of a memory's chunk that searches find; what is stale or superseded is of the one before."""


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """A raw chunk that searches find; `embedding` is its vector in the space that was asked for."""

    id: UUID
    document_id: UUID
    chunk_index: int
    header: str
    text: str
    text_hash: bytes
    token_count: int
    language: str
    embedding: list[float]


@dataclass(frozen=True, slots=True)
class Relation:
    """A chunk of the same persona that is near to another; either may be curated."""

    chunk_id: UUID
    related_id: UUID
    similarity: float


@dataclass(frozen=True, slots=True)
class Holding:
    """A current memory: its chunk, the chunks that it was made of, and the place of the one that stands for each."""

    id: UUID
    chunk_id: UUID
    source_ids: list[UUID]
    merged_into: list[int | None]


@dataclass(frozen=True, slots=True)
class Known:
    """A memory that was made of the same sources before."""

    id: UUID
    sources_hash: bytes
    is_current: bool
    header: str
    text: str


@dataclass(frozen=True, slots=True)
class Writing:
    """A memory to be written, or with `known_id` one that is there and is shown again, with the sources it has now.

    `sources` are its chunks with the place of the one that each was merged into; `supersedes` are memories whose
    sources it has.
    """

    sources: Sequence[tuple[Chunk, int | None]]
    supersedes: Sequence[UUID]
    sources_hash: bytes
    known_id: UUID | None
    header: str
    text: str
    token_count: int
    method: str
    model: str | None
    prompt_version: str
    vector: Vector

    @property
    def chunk_ids(self) -> list[UUID]:
        """The chunks that it is made of."""
        return [chunk.id for chunk, _ in self.sources]

    @property
    def language(self) -> str:
        """The language that most of its sources are of."""
        spoken = [chunk.language for chunk, _ in self.sources]
        return max(sorted(set(spoken)), key=spoken.count)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a memory's chunk stands: its document, and its place there."""

    document_id: UUID
    chunk_index: int


@dataclass(frozen=True, slots=True)
class Due:
    """A persona that has chunks which were not considered; `is_active` says whether its tenant is."""

    id: UUID
    tenant_id: UUID
    is_active: bool


@dataclass(frozen=True, slots=True)
class Counts:
    """What a persona knows: raw chunks with their tokens, those due and those of them without a vector; memories.

    `sources` and `source_tokens` are those of current memories, `memory_tokens` the tokens of these themselves.
    """

    chunks: int
    tokens: int
    due: int
    waiting: int
    current: int
    stale: int
    superseded: int
    sources: int
    source_tokens: int
    memory_tokens: int

    @property
    def condensed_tokens(self) -> int:
        """Tokens of the memories, and of the chunks that are in none."""
        return self.tokens - self.source_tokens + self.memory_tokens

    @property
    def reduction(self) -> float:
        """The share of tokens that condensing saves: 0 to 1."""
        return 1 - self.condensed_tokens / self.tokens if self.tokens else 0.0


@dataclass(frozen=True, slots=True)
class Memory:
    """A memory of a listing, with its text."""

    id: UUID
    chunk_id: UUID
    status: str
    superseded_by: UUID | None
    method: str
    model: str | None
    prompt_version: str
    source_count: int
    source_token_count: int
    token_count: int
    created_at: Any
    text: str


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A chunk that a memory was made of; name, page, section and text None where it is not there any more.

    `merged_into` is the place of the source that stands for it, None where it stands for itself.
    """

    memory_chunk_id: UUID
    place: int
    chunk_id: UUID
    document_id: UUID
    document_name: str | None
    chunk_index: int
    page: int | None
    section: str | None
    token_count: int
    merged_into: int | None
    text: str | None


# ------------------------------------------------------------------------------------------------ what is there


def due(connection: Connection, persona_id: UUID, space_id: UUID, limit: int) -> list[Chunk]:
    """Return the next chunks that were not considered yet, by their keys; those without a vector wait."""
    values = {"persona_id": persona_id, "space_id": space_id, "limit": limit}
    return [Chunk(*row) for row in QUERIES.run(connection, "due", values)]


def chunks(connection: Connection, persona_id: UUID, space_id: UUID, chunk_ids: Sequence[UUID]) -> list[Chunk]:
    """Return those of these chunks that are raw, of the persona, and found by searches; by their keys."""
    values = {"persona_id": persona_id, "space_id": space_id, "chunk_ids": list(chunk_ids)}
    return [Chunk(*row) for row in QUERIES.run(connection, "chunks", values)]


def related(
    connection: Connection,
    tenant_id: UUID,
    persona_id: UUID,
    space_id: UUID,
    chunk_ids: Sequence[UUID],
    *,
    nearest: int,
    at_least: float,
) -> list[Relation]:
    """Return, of each chunk, the `nearest` others of its persona whose cosine is `at_least` or more."""
    values = {
        "tenant_id": tenant_id,
        "persona_id": persona_id,
        "space_id": space_id,
        "chunk_ids": list(chunk_ids),
        "nearest": nearest,
        "at_least": at_least,
    }
    return [Relation(*row) for row in QUERIES.run(connection, "related", values)]


def holding(connection: Connection, chunk_ids: Sequence[UUID]) -> list[Holding]:
    """Return the current memories that are one of these chunks, or were made of one."""
    return [Holding(*row) for row in QUERIES.run(connection, "holding", {"chunk_ids": list(chunk_ids)})]


def known(connection: Connection, persona_id: UUID, hashes: Sequence[bytes]) -> dict[bytes, Known]:
    """Return the memories that were made of these sources before, by the hash of them, whatever became of them."""
    values = {"persona_id": persona_id, "hashes": list(hashes)}
    found = [Known(*row) for row in QUERIES.run(connection, "known", values)]
    return {each.sources_hash: each for each in found}


# ------------------------------------------------------------------------------------------------ what is written


def lock(connection: Connection, persona_id: UUID, space_id: UUID) -> bool:
    """Keep others from a persona's memories to the transaction's end, and the active space as it is.

    False where the persona is gone, or where that space is not the active one any more.
    """
    if documents.hold_active(connection) != space_id:
        return False
    if not QUERIES.run(connection, "lock_persona", {"persona_id": persona_id}):
        return False
    QUERIES.run(connection, "lock", {"persona_id": persona_id})
    return True


def present(connection: Connection, persona_id: UUID, chunk_ids: Sequence[UUID]) -> set[UUID]:
    """Lock those of these chunks that searches find and that nobody is changing; return them. Hold `lock` before."""
    rows = QUERIES.run(connection, "lock_chunks", {"chunk_ids": list(chunk_ids)})
    locked = [row[0] for row in rows]
    found = QUERIES.run(connection, "present", {"persona_id": persona_id, "chunk_ids": locked})
    return {row[0] for row in found}


def current(connection: Connection, memory_ids: Sequence[UUID]) -> set[UUID]:
    """Return those of these memories that are current. Hold `lock` before."""
    return {row[0] for row in QUERIES.run(connection, "current", {"memory_ids": list(memory_ids)})}


def write(connection: Connection, tenant_id: UUID, persona_id: UUID, space_id: UUID, writing: Writing) -> Place | None:
    """Write a memory and supersede those whose sources it has; return where it stands, None where it was there.

    Expects the transaction of `lock`, and that `present` has all of its sources.
    """
    place = None
    values = {
        "persona_id": persona_id,
        "tenant_id": tenant_id,
        "source_ids": writing.chunk_ids,
        "source_count": len(writing.sources),
        "source_token_count": sum(chunk.token_count for chunk, _ in writing.sources),
    }
    if writing.known_id is None:
        place, memory_id = _insert(connection, values, space_id, writing)
    else:
        memory_id = writing.known_id
        _show_again(connection, values | {"memory_id": memory_id}, space_id, writing.vector)
    _insert_sources(connection, tenant_id, memory_id, writing)
    QUERIES.run(connection, "supersede", {"memory_id": memory_id, "memory_ids": list(writing.supersedes)})
    return place


def mark(connection: Connection, chunk_ids: Sequence[UUID]) -> None:
    """Note that chunks were considered. Expects that they are locked (`present`)."""
    QUERIES.run(connection, "mark", {"chunk_ids": list(chunk_ids)})


def _insert(connection: Connection, values: dict[str, Any], space_id: UUID, writing: Writing) -> tuple[Place, UUID]:
    """Write a new memory with its chunk and vector."""
    language = writing.language
    named = values | {"language": language, "external_id": f"memory:{values['persona_id']}:{language}"}
    QUERIES.run(connection, "ensure_document", named)
    [(document_id, *last)] = QUERIES.run(connection, "document", named)
    place = Place(document_id, max(last) + 1)
    made = values | {name: getattr(writing, name) for name in _WRITTEN}
    made |= {"document_id": document_id, "chunk_index": place.chunk_index}
    [(chunk_id,)] = QUERIES.run(connection, "insert_chunk", made)
    QUERIES.run(connection, "count_chunk", made)
    [(memory_id,)] = QUERIES.run(connection, "insert_memory", made | {"chunk_id": chunk_id})
    documents.insert_vectors(connection, space_id, [chunk_id], [writing.vector])
    return place, memory_id


_WRITTEN = ("sources_hash", "header", "text", "token_count", "method", "model", "prompt_version")


def _show_again(connection: Connection, values: dict[str, Any], space_id: UUID, vector: Vector) -> None:
    """Have searches find a memory that was made before, with the sources that it has now."""
    [(chunk_id,)] = QUERIES.run(connection, "show_again", values)
    QUERIES.run(connection, "link_chunk", values | {"chunk_id": chunk_id})
    QUERIES.run(connection, "forget_sources", values)
    documents.insert_vectors(connection, space_id, [chunk_id], [vector])


def _insert_sources(connection: Connection, tenant_id: UUID, memory_id: UUID, writing: Writing) -> None:
    listed = [chunk for chunk, _ in writing.sources]
    values = {
        "memory_id": memory_id,
        "tenant_id": tenant_id,
        "source_ids": writing.chunk_ids,
        "document_ids": [chunk.document_id for chunk in listed],
        "indexes": [chunk.chunk_index for chunk in listed],
        "hashes": [chunk.text_hash for chunk in listed],
        "tokens": [chunk.token_count for chunk in listed],
        "merged_into": [into for _, into in writing.sources],
    }
    QUERIES.run(connection, "insert_sources", values)


# ------------------------------------------------------------------------------------------------ whose turn it is


def due_personas(connection: Connection, after: UUID, most: int) -> list[Due]:
    """Return the next personas with chunks that were not considered, by their keys. As the system role."""
    return [Due(*row) for row in QUERIES.run(connection, "due_personas", {"after": after, "most": most})]


def enqueue(connection: Connection, task_type: str, personas: Sequence[Due]) -> None:
    """Enqueue a task of that type for each persona, unless one is live. Expects a transaction."""
    values = {
        "task_type": task_type,
        "persona_ids": [persona.id for persona in personas],
        "tenants": [persona.tenant_id for persona in personas],
    }
    QUERIES.run(connection, "enqueue", values)


# ------------------------------------------------------------------------------------------------ what operators see


def find_persona(connection: Connection, name: str) -> UUID:
    """Return the persona of an id or a name; raises NotFoundError, and UsageError where several have that name."""
    rows = QUERIES.run(connection, "persona", {"name": name})
    if not rows:
        raise NotFoundError(f"no persona is called {name!r}, nor has that id")
    if len(rows) > 1:
        raise UsageError(f"several personas are called {name!r}: name one by its id")
    found: UUID = rows[0][0]
    return found


def counts(connection: Connection, persona_id: UUID, space_id: UUID) -> Counts:
    """Count what a persona knows, and how far it is condensed; `waiting` in that space."""
    [row] = QUERIES.run(connection, "counts", {"persona_id": persona_id, "space_id": space_id})
    return Counts(*map(int, row))


def listed(
    connection: Connection, persona_id: UUID, *, is_all: bool, limit: int, before: UUID | None = None
) -> list[Memory]:
    """Return a persona's memories, newest first: those that searches find, or with `is_all` the others too."""
    values = {"persona_id": persona_id, "is_all": is_all, "limit": limit, "before": before}
    return [Memory(*row) for row in QUERIES.run(connection, "list", values)]


def sources(connection: Connection, chunk_ids: Sequence[UUID]) -> dict[UUID, list[SourceRow]]:
    """Return what curated chunks were made of, by their ids, each in its order; raw chunks have none."""
    found: dict[UUID, list[SourceRow]] = {}
    for row in QUERIES.run(connection, "sources", {"chunk_ids": list(chunk_ids)}):
        found.setdefault(row[0], []).append(SourceRow(*row))
    return found
