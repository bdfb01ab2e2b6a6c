"""How a stored file goes: under its lock, when no row names it."""

from collections.abc import Sequence
from uuid import UUID

from db import files
from db.connection import Connection
from pipelines.storage.base import Storage


def discard(connection: Connection, storage: Storage, tenant_id: UUID, key: str, notes: Sequence[int] = ()) -> bool:
    """Remove a file unless a row names it, and the notes that led here; return whether no row did.

    Expects a transaction, and that the notes were read before: whoever lets go of the file from here on notes it anew.
    Removing is repeatable, should the transaction not commit. Raises what `Storage.delete` does.
    """
    files.lock(connection, key)
    is_free = not files.is_named(connection, tenant_id, key)
    if is_free:
        storage.delete(tenant_id, key)
    if notes:
        files.forget(connection, notes)
    return is_free
