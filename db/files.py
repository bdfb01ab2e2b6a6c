"""Stored files and the rows that name them. Typed calls over `sql/files.sql`.

Invariant: a file goes while its lock is held and no row names it. Notes of files that rows named are only added by
triggers, and only those go that were read before it was asked who names the file.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from db.connection import Connection
from db.queries import Queries

QUERIES = Queries("files")
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Named:
    """A key that a tenant's rows name."""

    tenant_id: UUID
    key: str


@dataclass(frozen=True, slots=True)
class Released:
    """A note: a tenant's row named the file, and is gone or names another."""

    id: int
    tenant_id: UUID
    key: str


@dataclass(frozen=True, slots=True)
class ArchivePart:
    """A part of an archive, with the keys of its files in the archives' store."""

    id: UUID
    is_writing: bool
    keys: frozenset[str]


def installation(connection: Connection) -> UUID:
    """Return who this installation is."""
    [(found,)] = QUERIES.run(connection, "installation")
    return UUID(str(found))


def known_archives(connection: Connection, ids: Sequence[UUID]) -> set[UUID]:
    """Return those of some parts of archives that are this database's."""
    return {found for (found,) in QUERIES.run(connection, "known_archives", {"ids": list(ids)})}


def lock(connection: Connection, key: str) -> None:
    """Lock a stored file against removal and against being named, until the end of the transaction."""
    QUERIES.run(connection, "lock", {"key": key})


def is_named(connection: Connection, tenant_id: UUID, key: str) -> bool:
    """Return whether a row names a stored file. Hold `lock` before."""
    [(found,)] = QUERIES.run(connection, "is_named", {"tenant_id": tenant_id, "key": key})
    return bool(found)


def notes_of(connection: Connection, tenant_id: UUID, key: str) -> list[int]:
    """Return the notes of a file."""
    return [row[0] for row in QUERIES.run(connection, "notes_of", {"tenant_id": tenant_id, "key": key})]


def released(connection: Connection, after: int, most: int) -> list[Released]:
    """Return the next notes of all tenants behind one, from 0 on. Expects the system role."""
    return [Released(*row) for row in QUERIES.run(connection, "released", {"after": after, "most": most})]


def forget(connection: Connection, notes: Sequence[int]) -> None:
    """Drop notes that were seen to."""
    QUERIES.run(connection, "forget", {"ids": list(notes)})


def named(connection: Connection, after: str, before: str | None = None) -> Iterator[Named]:
    """Yield the keys behind `after` that rows name, each once, in the order of their bytes; read as it goes.

    `before` is the first that is too far. Expects the system role, and no transaction: each page sees what is then.
    """
    while page := QUERIES.run(connection, "named", {"after": after, "before": before, "most": _PAGE}):
        for row in page:
            yield Named(*row)
        after = page[-1][1]


def unowned(connection: Connection, files: Sequence[Named]) -> set[str]:
    """Return the keys of some files that no row names and no note is about. Expects the system role."""
    values = {"tenant_ids": [each.tenant_id for each in files], "keys": [each.key for each in files]}
    return {row[0] for row in QUERIES.run(connection, "unowned", values)}


def archives(connection: Connection) -> Iterator[ArchivePart]:
    """Yield the parts of archives that have files, or will; read as it goes."""
    after = UUID(int=0)
    while rows := QUERIES.run(connection, "archives", {"after": after, "most": _PAGE}):
        yield from (ArchivePart(archive_id, is_writing, frozenset(keys)) for archive_id, is_writing, keys in rows)
        after = rows[-1][0]


def archive_keys(connection: Connection, archive_id: UUID) -> frozenset[str]:
    """Return the keys that a part names now."""
    rows = QUERIES.run(connection, "archive_keys", {"id": archive_id})
    return frozenset(rows[0][0]) if rows else frozenset()


def now(connection: Connection) -> datetime:
    """Return Postgres' time of day."""
    [(moment,)] = QUERIES.run(connection, "now")
    found: datetime = moment
    return found


def last_check(connection: Connection) -> tuple[Mapping[str, Any], float] | None:
    """Return what the last check of all files found, and its age in seconds; None where none was made."""
    rows = QUERIES.run(connection, "last_check")
    return (rows[0][0], rows[0][1]) if rows else None
