"""Archives without somebody who is erased: which parts hold rows of them, and the change of one for another.

Typed calls over `sql/forgetting.sql`, for the system role.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal
from uuid import UUID

from psycopg.types.json import Jsonb

from db.connection import Connection
from db.queries import Queries

QUERIES = Queries("forgetting")
Kind = Literal["tenant", "user", "person", "client", "persona", "document"]
Texts = Sequence[Sequence[str | None]]
"""Rows of an archive's file, each value as Postgres' own text."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom rows are of."""

    kind: Kind
    id: UUID


@dataclass(frozen=True, slots=True)
class Unwritten:
    """A part that is being written; `is_alive` says whether a task that lives is at it."""

    id: UUID
    table: str
    month: date
    part: int
    is_alive: bool


@dataclass(frozen=True, slots=True)
class Part:
    """A part of an archive as it stands; `is_emptied` says whether a task is deleting its rows from their table."""

    id: UUID
    table: str
    month: date
    part: int
    manifest_key: str
    manifest_sha256: str
    left_behind: list[int]
    pages_emptied: int
    is_emptied: bool


@dataclass(frozen=True, slots=True)
class Anew:
    """What a part is to be: its files and what they come to; no file and no manifest where nothing is left of it."""

    files: list[dict[str, Any]]
    manifest_key: str | None
    manifest_sha256: str | None
    rows: int
    bytes: int
    hash_sum: int
    left_behind: list[int]
    pages_emptied: int


def unwritten(connection: Connection, subject: Subject) -> list[Unwritten]:
    """Return the parts that are being written, and may hold rows of somebody: nobody knows yet whose they are."""
    tenant_id = subject.id if subject.kind == "tenant" else None
    return [Unwritten(*row) for row in QUERIES.run(connection, "unwritten", {"tenant_id": tenant_id})]


def next_part(connection: Connection, subject: Subject, after: UUID) -> Part | None:
    """Return the next part, by id, that holds rows of somebody."""
    rows = QUERIES.run(connection, "next", {"kind": subject.kind, "id": subject.id, "after": after})
    return Part(*rows[0]) if rows else None


def discard(connection: Connection, archive_id: UUID) -> bool:
    """Forget a part that was being written and that no task goes on with; false where one does, or it was written."""
    QUERIES.run(connection, "lock_run", {"id": archive_id})
    return bool(QUERIES.run(connection, "discard", {"id": archive_id}))


def swap(
    connection: Connection,
    part: Part,
    anew: Anew,
    subjects: Mapping[tuple[str, str], int],
    tables: list[str],
    holds: str,
) -> bool:
    """Put a part's new files in the place of the old ones; false where it is not as it was read, nor its holds.

    `subjects` are whose rows it has then, `holds` what `holds` returned for its `tables` before it was written anew.
    """
    QUERIES.run(connection, "lock_run", {"id": part.id})
    if QUERIES.run(connection, "keep_holds", {"tables": tables}) != [(holds,)]:
        return False
    values = {name: getattr(anew, name) for name in Anew.__slots__} | {"files": Jsonb(anew.files)}
    if not QUERIES.run(connection, "swap", {"id": part.id, "was": part.manifest_key, **values}):
        return False
    keys = list(subjects)
    named = {"id": part.id, "kinds": [kind for kind, _ in keys], "ids": [each for _, each in keys]}
    QUERIES.run(connection, "drop_subjects", named)
    QUERIES.run(connection, "recount_subjects", named | {"counts": list(subjects.values())})
    return True


def leave_tenant(connection: Connection, tenant_id: UUID) -> None:
    """Have what is left of a tenant's own archives, which are counts, say no more whose they were."""
    QUERIES.run(connection, "leave_tenant", {"id": tenant_id})


def hashes(connection: Connection, table: str, columns: list[str], rows: Texts) -> list[int]:
    """Return the hash that each of a table's rows has, as an archive notes it."""
    [(found,)] = QUERIES.run(connection, "hash", {"table": table, "columns": columns, "rows": Jsonb(rows)})
    return [int(each) for each in found or ()]


def held(connection: Connection, table: str, columns: list[str], rows: Texts) -> dict[int, str]:
    """Return those of a table's rows, counted from 0, that a hold speaks of, each with a hold and its reason."""
    found = QUERIES.run(connection, "held", {"table": table, "columns": columns, "rows": Jsonb(rows)})
    return {int(place) - 1: str(hold) for place, hold in found}


def holds(connection: Connection, tables: list[str]) -> str:
    """Return the holds that speak of tables, in a form that is another once one of them changes; '' for none."""
    [(found,)] = QUERIES.run(connection, "holds", {"tables": tables})
    return str(found)


def await_deletions(connection: Connection) -> None:
    """Wait a moment for those deletions of whom archives may speak that saw none being written.

    In a transaction of its own, after a part's row was made and before its rows are read: what is deleted later finds
    the part. Raises LockNotAvailable where one goes on.
    """
    QUERIES.run(connection, "await_deletions")
