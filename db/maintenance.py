"""VACUUM, ANALYZE and REINDEX CONCURRENTLY: one table or index at a time, beside the work, and what came of it.

For an autocommit connection of the system role outside of any transaction, in a `session`. What could not be done is
said, never taken for done: a VACUUM that may not, or that finds its table locked, warns and ends as if all were well,
so notices are read, and the server is asked whether it noted what it did. Typed calls over `sql/maintenance.sql`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal
from uuid import UUID

import psycopg

from core.errors import PermanentError, UnavailableError
from db.connection import Connection, is_pooled
from db.queries import Queries, is_unavailable, unavailable

QUERIES = Queries("maintenance")
Outcome = Literal["done", "busy", "refused", "gone"]
# While a rebuild waits for a lock or for old transactions, nobody else may vacuum its table: not for long, then.
LOCK_SECONDS = 30.0
# How soon a statement ends whose client is gone: a killed worker's would go on, and the next attempt's wait for it.
CHECK_SECONDS = 5.0
_ONLY_SINCE = 18
_VACUUM = "VACUUM (ANALYZE, SKIP_LOCKED)"
_ANALYZE = "ANALYZE (SKIP_LOCKED)"
# The partitions are autovacuum's; before PostgreSQL 18 they are analysed along with their table.
_ANALYZE_ONLY = "ANALYZE (SKIP_LOCKED) ONLY"
_REBUILD = "REINDEX INDEX CONCURRENTLY"
_BUSY = (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected, psycopg.errors.ObjectInUse)
_GONE = (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedObject, psycopg.errors.InvalidSchemaName)


@dataclass(frozen=True, slots=True)
class Ended:
    """What came of a statement: `busy`: somebody holds it, later again; `gone`: it is not there any more.

    `freed` are the bytes that it is smaller by, or below zero larger.
    """

    outcome: Outcome
    reason: str = ""
    freed: int = 0


@dataclass(frozen=True, slots=True)
class _State:
    """One table or index as the catalogue has it."""

    file: int
    size: int
    vacuumed_at: datetime | None
    analyzed_at: datetime | None


@contextmanager
def session(connection: Connection, seconds: float) -> Iterator[Connection]:
    """Let statements take so many seconds, within the block.

    Raises PermanentError behind a pooler in transaction mode, which gives each statement another session.
    """
    if is_pooled(connection):
        raise PermanentError("this needs a session past the pooler: set GREENROOM_DATABASE_DIRECT_URL for the workers")
    settings = {"seconds": max(int(seconds), 1), "lock": LOCK_SECONDS, "check": CHECK_SECONDS}
    QUERIES.run(connection, "settings", settings)
    try:
        yield connection
    finally:
        with suppress(psycopg.Error, UnavailableError):  # a connection that broke is not used again
            QUERIES.run(connection, "own_settings")


def allow(connection: Connection) -> None:
    """Get the right to look after all tables, those too that came since the last time.

    Raises PermanentError on a server before PostgreSQL 17, where the owner alone has it.
    """
    [(is_allowed, version)] = QUERIES.run(connection, "allow")
    if not is_allowed:
        raise PermanentError(
            f"PostgreSQL {version} lets none but the owner vacuum, analyse and rebuild: upgrade the server to 17 or "
            "newer, or have cron do this as the owner (docs/operations.md) and pause the schedule"
        )


def large_tables(connection: Connection, task_id: UUID, least: int) -> list[str]:
    """Return tables and partitions of at least so many bytes that were not vacuumed since the task was asked for."""
    return [name for (name,) in QUERIES.run(connection, "large_tables", {"task_id": task_id, "bytes": least})]


def parted_tables(connection: Connection, task_id: UUID) -> list[str]:
    """Return parted tables that were not analysed since the task was asked for."""
    return [name for (name,) in QUERIES.run(connection, "parted_tables", {"task_id": task_id})]


def indexes(connection: Connection, tables: Sequence[str], least: int) -> list[str]:
    """Return the indexes of these tables of at least so many bytes; a table that is not there has none."""
    return [name for (name,) in QUERIES.run(connection, "indexes", {"tables": list(tables), "bytes": least})]


def vacuum(connection: Connection, table: str) -> Ended:
    """Vacuum and analyse a table or partition."""
    return _do(connection, _VACUUM, table, lambda before, after: before.vacuumed_at != after.vacuumed_at)


def analyze(connection: Connection, table: str) -> Ended:
    """Analyse a parted table: what the planner knows of all its partitions together."""
    is_alone = connection.info.server_version >= _ONLY_SINCE * 10_000
    statement = _ANALYZE_ONLY if is_alone else _ANALYZE
    return _do(connection, statement, table, lambda before, after: before.analyzed_at != after.analyzed_at)


def rebuild(connection: Connection, index: str) -> Ended:
    """Rebuild an index while the old one serves; what one that fails leaves behind is dropped, or named.

    The invalid index that a killed rebuild left behind goes by its name, too.
    """
    stays = _drop_leftovers(connection)
    if index in stays:
        return Ended("busy", "left behind by a rebuild, and its table is in use")
    ended = _do(connection, _REBUILD, index, lambda before, after: before.file != after.file)
    if ended.outcome in ("busy", "refused") and (stays := _drop_leftovers(connection)):
        return replace(ended, reason=f"{ended.reason}; left behind: {', '.join(stays)}")
    return ended


def leftovers(connection: Connection) -> list[str]:
    """Return invalid indexes that rebuilds left behind, and those of a rebuild that is under way."""
    return [index for (index,) in QUERIES.run(connection, "leftovers")]


def _drop_leftovers(connection: Connection) -> list[str]:
    """Drop what rebuilds left behind; return what stays, as somebody holds its table."""
    for index in leftovers(connection):
        QUERIES.run(connection, "drop_leftover", {"index": index})
    return leftovers(connection)


def _do(connection: Connection, statement: str, name: str, is_noted: Callable[[_State, _State], bool]) -> Ended:
    """Run a statement on what has that name, and look at what the server says and notes."""
    try:
        before = _state(connection, name)
    except _BUSY as error:  # somebody keeps it from everybody
        return _failed(error)
    if before is None:
        return Ended("gone")
    notices: list[tuple[str | None, str]] = []

    def note(notice: psycopg.errors.Diagnostic) -> None:  # what it tells goes with the call
        notices.append((notice.sqlstate, notice.message_primary or ""))

    connection.add_notice_handler(note)
    try:
        connection.execute(f"{statement} {name}".encode(), prepare=False)
    except psycopg.Error as error:
        return _failed(error)
    finally:
        connection.remove_notice_handler(note)
    after = _state(connection, name)
    if after is None:
        return Ended("gone")
    if not is_noted(before, after):
        return _skipped(notices)
    return Ended("done", freed=before.size - after.size)


def _state(connection: Connection, name: str) -> _State | None:
    rows = QUERIES.run(connection, "state", {"name": name})
    return _State(*rows[0]) if rows else None


def _failed(error: psycopg.Error) -> Ended:
    if is_unavailable(error):
        raise unavailable(error) from error
    if isinstance(error, _GONE):
        return Ended("gone")
    reason = error.diag.message_primary or type(error).__name__
    return Ended("busy" if isinstance(error, _BUSY) else "refused", reason)


def _skipped(notices: Sequence[tuple[str | None, str]]) -> Ended:
    """Say why a statement that ended did nothing: it was locked, or the server refused it with a warning."""
    reason = "; ".join(text for _, text in notices) or "the server notes nothing of it"
    is_locked = any(sqlstate == psycopg.errors.LockNotAvailable.sqlstate for sqlstate, _ in notices)
    return Ended("busy" if is_locked else "refused", reason)
