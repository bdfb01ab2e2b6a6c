"""Who is who: tenants by their slugs, keys and sessions by their hashes. Typed calls over `sql/identity.sql`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg

from core.errors import NotFoundError, PermanentError
from db.connection import Connection
from db.queries import Queries

QUERIES = Queries("identity")
_HELD = "GR005"
"""The SQLSTATE by which `identity.erase_user` refuses what a hold keeps."""


@dataclass(frozen=True, slots=True)
class FoundKey:
    """An API key that opens; `user_id` is None for one of the tenant's own."""

    id: UUID
    tenant_id: UUID
    user_id: UUID | None
    name: str
    scopes: list[Any]
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class FoundSession:
    """A session that opens."""

    id: UUID
    tenant_id: UUID
    user_id: UUID
    expires_at: datetime


def tenant_id_of(connection: Connection, slug: str) -> UUID:
    """Return the id of a tenant; raises NotFoundError."""
    rows = QUERIES.run(connection, "tenant_by_slug", {"slug": slug})
    if not rows:
        raise NotFoundError(f"no tenant has the slug {slug!r}")
    found: UUID = rows[0][0]
    return found


def slugs_of(connection: Connection, tenant_ids: Sequence[UUID]) -> dict[UUID, str]:
    """Return what some tenants are called."""
    return {tenant_id: slug for tenant_id, slug in QUERIES.run(connection, "slugs_of", {"ids": list(tenant_ids)})}


def find_api_key(connection: Connection, key_hashes: Sequence[str]) -> FoundKey | None:
    """Return the API key of one of these hashes, None where none opens: `core.credentials.hash_api_key` makes them.

    A key is shut that is revoked or out of time, whose user is not active, or whose tenant is suspended or deleted.
    Works bound to no tenant, since the key says which. Notes the use, once a minute at the most, unless the transaction
    only reads.
    """
    rows = QUERIES.run(connection, "find_api_key", {"key_hashes": list(key_hashes)})
    return FoundKey(*rows[0]) if rows else None


def find_session(connection: Connection, token_hash: str) -> FoundSession | None:
    """Return the session of a token's hash, None where none opens, as for `find_api_key`."""
    rows = QUERIES.run(connection, "find_session", {"token_hash": token_hash})
    return FoundSession(*rows[0]) if rows else None


def tenant_of_user(connection: Connection, user_id: UUID) -> UUID | None:
    """Return whose user that is, None where there is none. Expects the system role."""
    rows = QUERIES.run(connection, "tenant_of_user", {"user_id": user_id})
    return UUID(str(rows[0][0])) if rows else None


def erase_user(connection: Connection, tenant_id: UUID, user_id: UUID) -> int:
    """Erase a user with all that goes with the row; return how many notes of the log of changes were emptied.

    Of a user who is gone already the notes. Expects the system role. Raises PermanentError where a hold keeps the user.
    """
    try:
        [(emptied,)] = QUERIES.run(connection, "erase_user", {"tenant_id": tenant_id, "user_id": user_id})
    except psycopg.Error as error:
        if error.sqlstate == _HELD:
            raise PermanentError(
                f"{error.diag.message_primary}: `greenroom retention show` has the holds; lift it and erase again"
            ) from error
        raise
    return int(emptied)
