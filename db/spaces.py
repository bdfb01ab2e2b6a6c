"""Spaces of vectors, side by side: made, filled, switched to and dropped while searches go on (`sql/spaces.sql`).

Making, indexing, switching and dropping are the owner's; each is said in the audit. Reading is anybody's.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

import psycopg
from psycopg import sql

from core.errors import NotFoundError, UsageError
from db.audit import Resource, record
from db.connection import Connection
from db.queries import Queries

QUERIES = Queries("spaces")
Precision = Literal["vector", "halfvec"]
_MOST_COUNTED = 100_000
BUILD_MEMORY = "1GB"
"""What an index is built in: it holds half a million vectors of 384 dimensions; more take far longer."""


@dataclass(frozen=True, slots=True)
class Space:
    """What is embedded, and by which model; `precision` is what its index compares by."""

    id: UUID
    model: str
    revision: str
    dimensions: int
    max_tokens: int
    precision: Precision
    is_active: bool


@dataclass(frozen=True, slots=True)
class Slice:
    """Chunks of a version of a document that a space lacks, by their indexes in ascending order."""

    tenant_id: UUID
    document_id: UUID
    version: int
    indexes: list[int]


@dataclass(frozen=True, slots=True)
class Filling:
    """How far a space is: vectors of chunks; tasks that fill it, and those of them that failed."""

    chunks: int
    vectors: int
    live: int
    failed: int


@dataclass(frozen=True, slots=True)
class Indexed:
    """The index of a space: whether it can be used, its bytes, and those of the space in all."""

    is_ready: bool
    index_bytes: int
    total_bytes: int


def spaces(connection: Connection) -> list[Space]:
    """Return all spaces, the active one first."""
    return [Space(*row) for row in QUERIES.run(connection, "spaces")]


def active_space(connection: Connection) -> Space:
    """Return the space that searches read; raises NotFoundError."""
    found = spaces(connection)
    if not found or not found[0].is_active:
        raise NotFoundError("no space is active: run `greenroom db migrate`")
    return found[0]


def get_space(connection: Connection, space_id: UUID) -> Space | None:
    """Return a space, or None where it was dropped."""
    return next((space for space in spaces(connection) if space.id == space_id), None)


def named(connection: Connection, name: str) -> Space:
    """Return the space of an id or of a model; raises NotFoundError, and UsageError where several have that model."""
    found = [space for space in spaces(connection) if name in (str(space.id), space.model)]
    if not found:
        raise NotFoundError(f"no space is of the model {name!r}: `greenroom embeddings status` lists them")
    if len(found) > 1:
        ids = ", ".join(str(space.id) for space in found)
        raise UsageError(f"several spaces are of the model {name}: name one by its id ({ids})")
    return found[0]


def create_space(
    connection: Connection,
    *,
    model: str,
    revision: str,
    dimensions: int,
    max_tokens: int,
    precision: Precision | None = None,
) -> UUID:
    """Make the chunks' space of a model if it is missing; as the owner, since it makes a partition.

    The first is active and has its index at once. Above 2,000 dimensions the index is on halfvecs.
    """
    values = {
        "model": model,
        "revision": revision,
        "dimensions": dimensions,
        "max_tokens": max_tokens,
        "precision": precision,
    }
    [(space_id,)] = QUERIES.run(connection, "create", values)
    made: UUID = space_id
    return made


def asked_at(connection: Connection, task_id: UUID) -> datetime:
    """Return when a live task was enqueued."""
    [(found,)] = QUERIES.run(connection, "asked_at", {"id": task_id})
    moment: datetime = found
    return moment


def filling(connection: Connection, space_id: UUID, since: datetime) -> Filling:
    """Return how far a space is over all tenants; counts its chunks and vectors, which takes a second for a million."""
    [(chunks,)] = QUERIES.run(connection, "chunks")
    [(vectors,)] = QUERIES.run(connection, "vectors", {"id": space_id})
    [(live, failed)] = QUERIES.run(connection, "tasks", {"id": space_id, "since": since})
    return Filling(chunks, vectors, live, failed)


def missing(connection: Connection, space_id: UUID, since: datetime, limit: int) -> list[Slice]:
    """Return what a space lacks, at most `limit` chunks; without documents of which a task failed since."""
    values = {"id": space_id, "since": since, "limit": limit}
    return [Slice(*row) for row in QUERIES.run(connection, "missing", values)]


def index_of(connection: Connection, space_id: UUID) -> Indexed:
    """Return the state of a space's index."""
    [(name, is_valid, index_bytes, total)] = QUERIES.run(connection, "index", {"id": space_id})
    return Indexed(name is not None and is_valid, index_bytes or 0, total or 0)


def building(connection: Connection, space_id: UUID) -> tuple[int, int] | None:
    """Return how many of how many vectors an index that is being built has taken in; None while none is."""
    rows = QUERIES.run(connection, "building", {"id": space_id})
    return (rows[0][0], rows[0][1]) if rows else None


def build_index(connection: Connection, space: Space, memory: str = BUILD_MEMORY) -> None:
    """Build a space's index, unless it is there, beside whoever writes and reads; on an autocommit connection.

    `memory` is what it takes of the server's, as Postgres writes sizes; raises UsageError for what is none.
    """
    [(name, is_valid, _, _)] = QUERIES.run(connection, "index", {"id": space.id})
    if name is not None and is_valid:
        return
    if name is not None:  # a build that broke off leaves what nobody can use
        connection.execute(sql.SQL("DROP INDEX CONCURRENTLY {}").format(sql.SQL(name)))
    statement = sql.SQL("CREATE INDEX CONCURRENTLY ON {} USING hnsw ((embedding::{}({})) {})")
    kind, leaf = sql.Identifier(space.precision), sql.Identifier("knowledge", _leaf_of(space.id))
    ops = sql.Identifier(f"{space.precision}_cosine_ops")
    try:
        connection.execute(sql.SQL("SET maintenance_work_mem = {}").format(sql.Literal(memory)))
    except psycopg.errors.InvalidParameterValue as error:
        raise UsageError(f"{memory!r} is no size: write it as 512MB or 4GB") from error
    connection.execute(statement.format(leaf, kind, sql.Literal(space.dimensions), ops))


def switch(connection: Connection, space: Space) -> None:
    """Make a space the active one, from one moment to the next, with its audit event.

    Raises UsageError where it lacks its index, or vectors of chunks that are shown: no search shall find less than now.
    """
    with _steering(connection), connection.transaction():
        QUERIES.run(connection, "lock")
        if not index_of(connection, space.id).is_ready:
            raise UsageError(f"the space of {space.model} has no index yet: `greenroom embeddings fill {space.model}`")
        [(lacking,)] = QUERIES.run(connection, "unready", {"id": space.id, "limit": _MOST_COUNTED})
        if lacking:
            raise UsageError(
                f"the space of {space.model} lacks the vectors of {lacking:,} chunks that are shown: "
                f"`greenroom embeddings fill {space.model}` first"
            )
        QUERIES.count(connection, "deactivate", {"id": space.id})
        QUERIES.count(connection, "activate", {"id": space.id})
        summary = f"searches read the space of {space.model}"
        record(connection, "space.switched", summary, Resource("space", space.id), metadata={"model": space.model})


def drop(connection: Connection, space: Space) -> None:
    """Drop a space with its vectors and its index, with its audit event; raises UsageError for the active one.

    On an autocommit connection: its partition is detached beside searches that go on, which waits for those that began.
    """
    with _steering(connection):
        if spaces(connection)[0].id == space.id:
            raise UsageError(f"searches read the space of {space.model}: switch to another before this one is dropped")
        leaf = sql.Identifier("knowledge", _leaf_of(space.id))
        if QUERIES.run(connection, "has_partition", {"id": space.id}) == [(True,)]:
            detach = sql.SQL("ALTER TABLE knowledge.chunk_vectors DETACH PARTITION {} CONCURRENTLY")
            connection.execute(detach.format(leaf))
        with connection.transaction():
            connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(leaf))
            QUERIES.count(connection, "forget", {"id": space.id})
            QUERIES.count(connection, "forget_models")
            summary = f"the space of {space.model} dropped"
            record(connection, "space.dropped", summary, Resource("space", space.id), metadata={"model": space.model})


@contextmanager
def _steering(connection: Connection) -> Iterator[None]:
    """Keep others from switching and dropping spaces meanwhile."""
    QUERIES.run(connection, "steer")
    try:
        yield
    finally:
        QUERIES.run(connection, "steer_no_more")


def _leaf_of(space_id: UUID) -> str:
    return f"chunk_vectors_{space_id.hex}"
