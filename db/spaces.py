"""Spaces of vectors, side by side: made, filled, switched to and dropped while searches go on (`sql/spaces.sql`).

Making, indexing, switching and dropping are the owner's; each is said in the audit. Reading is anybody's. Spaces of
every kind are made, indexed and dropped here; those that are filled, searched and switched to are spaces of chunks.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeVar
from uuid import UUID

import psycopg
from psycopg import sql

from core.errors import NotFoundError, UnavailableError, UsageError
from db.audit import Resource, record
from db.connection import Connection
from db.queries import Queries

QUERIES = Queries("spaces")
Precision = Literal["vector", "halfvec"]
Kind = Literal["chunks", "narratives", "tools", "product_chunks", "transcript_segments"]
T = TypeVar("T")
_MOST_COUNTED = 100_000
_MOST_DIMENSIONS = 4_000
# Candidates that an index looks at for each vector that it takes in; those that `create_space` makes have as many.
_EF_CONSTRUCTION = 128
_TRIES, _LOCK_TIMEOUT, _PAUSE_SECONDS = 30, "500ms", 0.5
BUILD_MEMORY = "1GB"
"""What an index is built in: it holds half a million vectors of 384 dimensions; more take far longer."""


@dataclass(frozen=True, slots=True)
class Space:
    """What is embedded, and by which model; `precision` is what its index compares by. A dropped one goes presently."""

    id: UUID
    model: str
    revision: str
    dimensions: int
    max_tokens: int
    precision: Precision
    is_active: bool
    is_dropped: bool = False
    kind: Kind = "chunks"


@dataclass(frozen=True, slots=True)
class Slice:
    """Chunks of a version of a document that a space lacks, by their indexes in ascending order."""

    tenant_id: UUID
    document_id: UUID
    version: int
    indexes: list[int]


class Lacking(NamedTuple):
    """How many chunks a space lacks, and how many of them a task embeds that may run."""

    total: int
    underway: int


class Page(NamedTuple):
    """The next chunks that a space lacks and no task embeds, and the id up to which was looked."""

    slices: list[Slice]
    until: UUID


@dataclass(frozen=True, slots=True)
class Indexed:
    """The index of a space: whether it can be used, its bytes, and those of the space in all."""

    is_ready: bool
    index_bytes: int
    total_bytes: int


def spaces(connection: Connection, kind: Kind = "chunks") -> list[Space]:
    """Return all spaces of a kind, the active one first."""
    return [Space(*row) for row in QUERIES.run(connection, "spaces", {"kind": kind})]


def active_space(connection: Connection) -> Space:
    """Return the space that searches read; raises NotFoundError."""
    found = spaces(connection)
    if not found or not found[0].is_active:
        raise NotFoundError("no space is active: run `greenroom db migrate`")
    return found[0]


def kept(connection: Connection) -> list[Space]:
    """Return the spaces that are kept up, the active one first."""
    return [space for space in spaces(connection) if not space.is_dropped]


def get_space(connection: Connection, space_id: UUID) -> Space | None:
    """Return a space, or None where it was dropped."""
    return next((space for space in kept(connection) if space.id == space_id), None)


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
    kind: Kind = "chunks",
) -> UUID:
    """Make the space of a model for a kind if it is missing; as the owner, since it makes a partition.

    The first of its kind is active and has its index at once. Above 2,000 dimensions the index is on halfvecs. Raises
    UsageError above 4,000, and for another precision than a space that is there has.
    """
    if dimensions > _MOST_DIMENSIONS:
        raise UsageError(f"{model} has {dimensions:,} dimensions: an index holds {_MOST_DIMENSIONS:,} at most")
    values = {
        "model": model,
        "revision": revision,
        "dimensions": dimensions,
        "max_tokens": max_tokens,
        "precision": precision,
        "kind": kind,
    }
    [(space_id,)] = _patiently(connection, lambda: QUERIES.run(connection, "create", values))
    made: UUID = space_id
    found = next((space for space in spaces(connection, kind) if space.id == made and not space.is_dropped), None)
    if found is None:
        raise UsageError(f"the space of {model} is being dropped: `greenroom embeddings drop {made} --yes` ends that")
    if precision is not None and found.precision != precision:
        raise UsageError(f"the space of {model} has an index of {found.precision}: drop it first to have another")
    return made


def count_chunks(connection: Connection) -> int:
    """Return how many chunks there are of all tenants; it takes seconds for millions."""
    [(count,)] = QUERIES.run(connection, "chunks")
    return int(count)


def count_vectors(connection: Connection, space_id: UUID) -> int:
    """Return how many of them a space has; as `count_chunks`."""
    [(count,)] = QUERIES.run(connection, "vectors", {"id": space_id})
    return int(count)


def newest_chunk(connection: Connection) -> UUID | None:
    """Return the last id of a chunk; None where there is none."""
    rows = QUERIES.run(connection, "newest")
    return rows[0][0] if rows else None


def next_page(connection: Connection, space_id: UUID, after: UUID, end: UUID, limit: int) -> Page | None:
    """Return chunks behind an id, up to another, that a space lacks and no task embeds; None where it lacks none.

    Of all tenants. `limit` counts what it lacks: of that, all may have their tasks.
    """
    rows = QUERIES.run(connection, "page", {"id": space_id, "after": after, "end": end, "limit": limit})
    return Page([Slice(*row[:4]) for row in rows if row[3]], max(row[4] for row in rows)) if rows else None


def unshown(connection: Connection, space_id: UUID) -> list[Slice]:
    """Return versions that a space has whole and nobody sees yet, each as a slice of its first chunk."""
    rows = QUERIES.run(connection, "unshown", {"id": space_id})
    return [Slice(tenant_id, document_id, version, [0]) for tenant_id, document_id, version in rows]


def lacking(connection: Connection, space_id: UUID, after: UUID, until: UUID) -> Lacking:
    """Return how many chunks behind one id, up to another, a space lacks."""
    [row] = QUERIES.run(connection, "lacking", {"id": space_id, "after": after, "until": until})
    return Lacking(*row)


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

    `memory` is what it takes of the server's, as Postgres writes sizes, unless the server gives more by itself. Raises
    UsageError for what is no size, and while another command builds, switches or drops.
    """
    with _steering(connection):
        [(name, is_valid, _, _)] = QUERIES.run(connection, "index", {"id": space.id})
        if name is not None and is_valid:
            return
        if building(connection, space.id):
            raise UsageError(f"the index of {space.model} is being built: wait for its end")
        if name is not None:  # a build that broke off leaves what nobody can use
            connection.execute(sql.SQL("DROP INDEX CONCURRENTLY {}").format(sql.SQL(name)))
        try:
            QUERIES.run(connection, "raise_memory", {"memory": memory})
        except psycopg.errors.InvalidParameterValue as error:
            raise UsageError(f"{memory!r} is no size: write it as 512MB or 4GB") from error
        statement = sql.SQL(
            "CREATE INDEX CONCURRENTLY ON {} USING hnsw ((embedding::{}({})) {}) WITH (ef_construction = {})"
        )
        kind, (_, leaf) = sql.Identifier(space.precision), _place_of(connection, space.id)
        ops = sql.Identifier(f"{space.precision}_cosine_ops")
        width, candidates = sql.Literal(space.dimensions), sql.Literal(_EF_CONSTRUCTION)
        connection.execute(statement.format(leaf, kind, width, ops, candidates))


def count_unready(connection: Connection, space: Space) -> int:
    """Return how many chunks that are shown a space lacks the vectors of, counted up to 100,000."""
    [(count,)] = QUERIES.run(connection, "unready", {"id": space.id, "limit": _MOST_COUNTED})
    return int(count)


def require_filled(connection: Connection, space: Space) -> None:
    """Raise UsageError where a space lacks vectors of chunks that are shown."""
    if count := count_unready(connection, space):
        raise UsageError(
            f"the space of {space.model} lacks the vectors of {count:,} chunks that are shown: "
            f"`greenroom embeddings fill {space.model}` first"
        )


def switch(connection: Connection, space: Space) -> None:
    """Make a space of chunks the active one, from one moment to the next, with its audit event.

    Raises UsageError where it lacks its index, or vectors of chunks that are shown: no search shall find less than now.
    Versions that are being made may lack some: whoever switches enqueues a filling with it.
    """
    with _steering(connection), connection.transaction():
        QUERIES.run(connection, "lock")
        if not index_of(connection, space.id).is_ready:
            raise UsageError(f"the space of {space.model} has no index yet: `greenroom embeddings fill {space.model}`")
        require_filled(connection, space)
        QUERIES.count(connection, "deactivate", {"id": space.id})
        if not QUERIES.count(connection, "activate", {"id": space.id}):
            raise UsageError(
                f"the space of {space.model} is being dropped: `greenroom embeddings drop {space.id} --yes` ends that"
            )
        summary = f"searches read the space of {space.model}"
        record(connection, "space.switched", summary, Resource("space", space.id), metadata={"model": space.model})


def drop(connection: Connection, space: Space) -> None:
    """Drop a space with its vectors and its index, with its audit event; raises UsageError for the active one.

    On an autocommit connection: its partition is detached beside searches that go on, which waits for those that began.
    One that broke off is ended by doing it again.
    """
    with _steering(connection):
        if not QUERIES.count(connection, "give_up", {"id": space.id}):
            raise UsageError(f"searches read the space of {space.model}: switch to another before this one is dropped")
        table, leaf = _place_of(connection, space.id)
        if QUERIES.run(connection, "has_partition", {"id": space.id}) == [(True,)]:
            detach = sql.SQL("ALTER TABLE {} DETACH PARTITION {} CONCURRENTLY")
            connection.execute(detach.format(table, leaf))
        _patiently(connection, lambda: connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(leaf)))
        with connection.transaction():
            QUERIES.count(connection, "forget", {"id": space.id})
            QUERIES.count(connection, "forget_models")
            summary = f"the space of {space.model} dropped"
            record(connection, "space.dropped", summary, Resource("space", space.id), metadata={"model": space.model})


@contextmanager
def _steering(connection: Connection) -> Iterator[None]:
    """Keep others from building, switching and dropping meanwhile; raises UsageError while another one does."""
    if QUERIES.run(connection, "steer") != [(True,)]:
        raise UsageError("another command builds an index, switches or drops just now: again when it has ended")
    try:
        yield
    finally:
        QUERIES.run(connection, "steer_no_more")


def _patiently(connection: Connection, act: Callable[[], T]) -> T:
    """Do what locks tables that all use, a moment at a time: whoever waits for such a lock holds up all others."""
    for _ in range(_TRIES):
        try:
            with connection.transaction():
                connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(_LOCK_TIMEOUT)))
                return act()
        except psycopg.errors.LockNotAvailable:
            time.sleep(_PAUSE_SECONDS)
    raise UnavailableError("a long transaction holds the documents' tables: try again when it has ended")


def _place_of(connection: Connection, space_id: UUID) -> tuple[sql.Identifier, sql.Identifier]:
    """Return the table of a space's kind, and the space's partition of it."""
    [(schema, table, leaf)] = QUERIES.run(connection, "place", {"id": space_id})
    return sql.Identifier(schema, table), sql.Identifier(schema, leaf)
