"""The collections' store: which there are and making them, as typed calls over `sql/collections.sql`.

Every call runs in a transaction that the caller bound to one tenant.
"""

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
