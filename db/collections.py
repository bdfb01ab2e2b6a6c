"""The collections' store: which there are and making them, as typed calls over `sql/collections.sql`.

Every call runs in a transaction that the caller bound to one tenant.
"""

from dataclasses import dataclass
from uuid import UUID

import psycopg

from core.errors import InvalidOptionsError, NotFoundError
from db.connection import Connection
from db.queries import Queries

QUERIES = Queries("collections")


def collection_id_of(connection: Connection, tenant_id: UUID, slug: str) -> UUID:
    """Return the id of a tenant's collection; raises NotFoundError."""
    rows = QUERIES.run(connection, "collection_by_slug", {"tenant_id": tenant_id, "slug": slug})
    if not rows:
        raise NotFoundError(f"no collection has the slug {slug!r}")
    found: UUID = rows[0][0]
    return found


def ensure_collection(connection: Connection, tenant_id: UUID, slug: str) -> tuple[UUID, bool]:
    """Return the collection of that slug and whether it was made now; raises InvalidOptionsError for a bad slug."""
    try:
        [(found, is_new)] = QUERIES.run(connection, "ensure_collection", {"tenant_id": tenant_id, "slug": slug})
    except psycopg.errors.CheckViolation as error:
        raise InvalidOptionsError(
            f"{slug!r} cannot be a collection: use small letters, digits and single hyphens, at most 100"
        ) from error
    return found, is_new


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection: how its documents are cut (tokens of cl100k_base), and how many it has."""

    id: UUID
    slug: str
    name: str
    description: str | None
    chunk_size: int
    chunk_overlap: int
    documents: int


def list_collections(connection: Connection) -> list[Collection]:
    """Return a tenant's collections by their slugs."""
    return [Collection(*row) for row in QUERIES.run(connection, "list")]


def change_collection(
    connection: Connection,
    collection_id: UUID,
    *,
    name: str | None = None,
    description: str | None = None,
    chunk_size: int | None = None,
    chunk_overlap: int | None = None,
) -> None:
    """Change what is given of a collection; what it has stays as it was cut until it is ingested anew.

    Raises InvalidOptionsError for sizes that cannot be, NotFoundError where it is gone.
    """
    values = {
        "id": collection_id,
        "name": name,
        "description": description,
        "chunk_size": chunk_size,
        "chunk_overlap": chunk_overlap,
    }
    try:
        changed = QUERIES.count(connection, "change", values)
    except (psycopg.errors.CheckViolation, psycopg.DataError) as error:
        raise InvalidOptionsError(
            "a collection has a name of 1 to 255 characters, chunks of 16 to 8,192 tokens and an overlap of at most "
            "half of that"
        ) from error
    if not changed:
        raise NotFoundError("the collection was deleted meanwhile")
