"""What the care of tables and indexes meets: a role that may, old snapshots, and rebuilds that were broken off."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from db.connection import Connection
from tests.support.database import Database

CLAIM = "queue.tasks_live_claim_idx"
INVALID = (
    "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid AND indrelid = 'queue.tasks_live'::regclass"
)
FILES = """
SELECT relname, relfilenode FROM pg_class WHERE oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = %s::regclass)
"""
_url = Database.url


def let_maintain(database: Database, patch: pytest.MonkeyPatch) -> None:
    """Before PostgreSQL 17 nobody but the owner may: let it stand for the system role, to the end of the test."""
    if database.connect().info.server_version < 170_000:
        patch.setattr(Database, "url", lambda self, role: _url(self, "owner" if role == "system" else role))


@contextmanager
def old_snapshot(database: Database) -> Iterator[Connection]:
    """A transaction whose snapshot a rebuild has to wait for, and that holds none of the queue's tables."""
    connection = database.connect("operator")
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.execute("SELECT count(*) FROM queue.queues")
        yield connection


def leave_behind(database: Database) -> str:
    """Break a rebuild off; return what it leaves behind."""
    owner = database.connect()
    owner.execute("SET lock_timeout = '100ms'")
    with old_snapshot(database), pytest.raises(psycopg.errors.LockNotAvailable):
        owner.execute(f"REINDEX INDEX CONCURRENTLY {CLAIM}".encode())
    return str(database.value(INVALID))
