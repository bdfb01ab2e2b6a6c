"""Who is who: tenants by their slugs. Typed calls over `sql/identity.sql`."""

from uuid import UUID

from core.errors import NotFoundError
from db.connection import Connection
from db.queries import Queries

QUERIES = Queries("identity")


def tenant_id_of(connection: Connection, slug: str) -> UUID:
    """Return the id of a tenant; raises NotFoundError."""
    rows = QUERIES.run(connection, "tenant_by_slug", {"slug": slug})
    if not rows:
        raise NotFoundError(f"no tenant has the slug {slug!r}")
    found: UUID = rows[0][0]
    return found
