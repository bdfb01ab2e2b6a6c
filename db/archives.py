"""Archives of aged rows: their parts in `ops.archives`, what is gathered for one, and the delete of what it holds.

Typed calls over `sql/archives.sql`, for the system role. What gathers, stages or empties takes a transaction of a page:
its tables are the transaction's own.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from db.connection import Connection
from db.queries import Queries, is_unavailable, unavailable

QUERIES = Queries("archives")
Dropped = Literal["dropped", "busy", "differs", "kept"]


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A column of a table, with the type beneath its domain, and whether it is of the key."""

    name: str
    type: str
    is_key: bool


@dataclass(frozen=True, slots=True)
class PartFile:
    """A file that parts of a table have: place 0 is the table's own. Links have key and referring columns alone."""

    place: int
    table: str
    kind: Literal["rows", "links"]
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pending:
    """A part that is not done: being written (its manifest_key is empty), or verified with rows still in the table."""

    id: UUID
    month: date
    part: int
    status: Literal["writing", "verified"]
    is_own: bool
    goes_on_at: int | None
    pages_emptied: int
    rows: int
    manifest_key: str
    """'' of one that is being written."""
    manifest_sha256: str | None


@dataclass(frozen=True, slots=True)
class Begun:
    """A part that is to be written from a block of its table on."""

    id: UUID
    part: int
    schema_revision: str
    first_block: int


@dataclass(frozen=True, slots=True)
class Verified:
    """What a part holds, once it stands in storage; `goes_on_at` is the block that the next one begins at."""

    rows: int
    bytes: int
    hash_sum: int
    files: list[dict[str, Any]]
    manifest_key: str
    manifest_sha256: str
    since: datetime
    until: datetime
    goes_on_at: int | None


def columns(connection: Connection, table: str) -> list[TableColumn]:
    """Return the columns of a table, in their order."""
    return [TableColumn(*row) for row in QUERIES.run(connection, "columns", {"relation": table})]


def files(connection: Connection, table: str) -> list[PartFile]:
    """Return the files that a part of a table is made of; its own rows first."""
    rows = QUERIES.run(connection, "files", {"relation": table})
    return [PartFile(place, name, kind, tuple(columns)) for place, name, kind, columns in rows]


def pending(connection: Connection, run_id: UUID, table: str) -> list[Pending]:
    """Return the parts of a table that are not done, of this run and of runs that are over, the oldest month first."""
    return [Pending(*row) for row in QUERIES.run(connection, "pending", {"run_id": run_id, "relation": table})]


def next_month(connection: Connection, run_id: UUID) -> date | None:
    """Return the oldest month with rows that a run takes."""
    [(month,)] = QUERIES.run(connection, "next_month", {"run_id": run_id})
    found: date | None = month
    return found


def is_whole(connection: Connection, run_id: UUID, month: date) -> bool:
    """Whether a run takes all of a month that may be dropped: nothing refers to it, nothing else is in it."""
    [(is_all,)] = QUERIES.run(connection, "is_whole", {"run_id": run_id, "month": month})
    return bool(is_all)


def blocks(connection: Connection, run_id: UUID, month: date) -> int:
    """Return how many blocks the table has that may hold rows of a month."""
    [(count,)] = QUERIES.run(connection, "blocks", {"run_id": run_id, "month": month})
    return int(count or 0)


def begin(connection: Connection, run_id: UUID, month: date) -> Begun:
    """Make the row of a part that is to be written."""
    [row] = QUERIES.run(connection, "begin", {"run_id": run_id, "month": month})
    return Begun(*row)


def gather(connection: Connection, archive_id: UUID, first_block: int, last_block: int) -> dict[int, int]:
    """Gather a page of a part from blocks of its table; return how many rows came together, by the file's place.

    Empty where the run takes nothing any more. In a transaction that is pinned; `copied` reads what was gathered.
    """
    values = {"archive_id": archive_id, "first_block": first_block, "last_block": last_block}
    QUERIES.run(connection, "pin")
    return {place: int(count) for place, count in QUERIES.run(connection, "gather", values)}


def copied(connection: Connection, file: PartFile, most: int | None = None) -> bytes | None:
    """Return what was gathered for a file, as CSV: its columns, the hash of each row, and whom it speaks of.

    None where that is more than `most` bytes: the transaction is of no more use then.
    """
    wanted = sql.SQL(", ").join(map(sql.Identifier, [*file.columns, "_row_hash", "_subjects"]))
    source = sql.Identifier("pg_temp", f"archive_{file.place}")
    statement = sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT (FORMAT csv)").format(wanted, source)
    try:
        with connection.cursor().copy(statement) as copy:
            return _joined(copy, most)
    except psycopg.OperationalError as error:
        raise _translated(error) from error


def _joined(pieces: Iterable[bytes | bytearray | memoryview], most: int | None) -> bytes | None:
    """Return pieces as one, or None of more than `most` bytes; all are read, as a COPY that is left open asks."""
    found, size = bytearray(), 0
    for piece in pieces:
        size += len(piece)
        if most is None or size <= most:
            found += piece
    return bytes(found) if most is None or size <= most else None


def check(connection: Connection, table: str, names: Sequence[str], pieces: Iterable[bytes]) -> tuple[int, int]:
    """Load rows that came back from a file, `_row_hash` last, as a table like theirs; return how many and how many
    differ from their hash. In a transaction of its own, whose staged rows go with it.
    """
    QUERIES.run(connection, "pin")
    QUERIES.run(connection, "stage", {"relation": table, "columns": list(names)})
    wanted = sql.SQL(", ").join(map(sql.Identifier, [*names, "_row_hash"]))
    statement = sql.SQL("COPY pg_temp.archive_stage ({}) FROM STDIN (FORMAT csv)").format(wanted)
    try:
        with connection.cursor().copy(statement) as copy:
            for piece in pieces:
                copy.write(piece)
    except psycopg.OperationalError as error:
        raise _translated(error) from error
    [(total, wrong)] = QUERIES.run(connection, "check", {"columns": list(names)})
    return int(total), int(wrong)


def verify(
    connection: Connection, archive_id: UUID, run_id: UUID, part: Verified, subjects: Mapping[tuple[str, str], int]
) -> bool:
    """Note that a part stands in storage, whole, and whom it speaks of (rows by kind and id). In a transaction.

    Returns False, and notes nothing, where the part is not being written any more: another worker gave it up.
    """
    values = {name: getattr(part, name) for name in Verified.__slots__}
    noted = {"archive_id": archive_id, "run_id": run_id, **values, "files": Jsonb(part.files)}
    if not QUERIES.run(connection, "verify", noted):
        return False
    QUERIES.run(connection, "note_written", noted)
    keys = list(subjects)
    counted = {
        "kinds": [kind for kind, _ in keys],
        "ids": [each for _, each in keys],
        "counts": list(subjects.values()),
    }
    QUERIES.run(connection, "add_subjects", {"archive_id": archive_id, **counted})
    return True


def end_scan(connection: Connection, run_id: UUID, month: date) -> None:
    """Note that a month was looked through to its end."""
    QUERIES.run(connection, "end_scan", {"run_id": run_id, "month": month})


def empty(
    connection: Connection, run_id: UUID, archive_id: UUID, rows: list[dict[str, Any]], known: list[int]
) -> set[int] | None:
    """Delete those rows of a part's page that are as they were and that the run takes, with all that goes along.

    `rows` have `n` (their number in the file), `h` (their hash) and their key; `known` are the hashes of what goes
    along. Returns the numbers of those that went, None where the run takes nothing any more. In a transaction, with
    `note`. Raises LockNotAvailable where somebody holds a row.
    """
    values = {"run_id": run_id, "archive_id": archive_id, "rows": Jsonb(rows), "known": known}
    [(gone,)] = QUERIES.run(connection, "empty", values)
    return None if gone is None else set(gone)


def note(connection: Connection, run_id: UUID, part: Pending, pages: int, deleted: int, left: list[int]) -> bool:
    """Note that so many pages of a part are emptied: `deleted` rows of the last, but for those `left`.

    Returns False, and notes nothing, where that page is not the next one of the files that `part` names: another worker
    was first, or somebody was erased from it. The transaction is then to be rolled back.
    """
    values = {
        "archive_id": part.id,
        "manifest_key": part.manifest_key,
        "pages": pages,
        "deleted": deleted,
        "left": left,
    }
    if not QUERIES.run(connection, "note_emptied", values):
        return False
    QUERIES.run(connection, "note_deleted", {"run_id": run_id, "deleted": deleted})
    return True


def end_part(connection: Connection, part: Pending) -> int | None:
    """End a part that was emptied; return how many rows were deleted for it, None where it is another by now."""
    values = {"archive_id": part.id, "manifest_key": part.manifest_key}
    found = QUERIES.run(connection, "end_part", values)
    return int(found[0][0]) if found else None


def is_void(connection: Connection, archive_id: UUID) -> bool:
    """Lock a part to the end of the transaction; return whether it was not verified, or emptied without a row."""
    return bool(QUERIES.run(connection, "lock_void", {"archive_id": archive_id}))


def discard(connection: Connection, archive_id: UUID) -> None:
    """Forget a part that `is_void` has locked; its files are gone."""
    QUERIES.run(connection, "discard", {"archive_id": archive_id})


def drop_month(connection: Connection, run_id: UUID, month: date) -> Dropped:
    """Drop a month that is in verified parts, all of it and nothing else, or that is empty; return what came of it.

    `dropped`; `busy`: somebody uses it, later again; `differs`: rows go one by one; `kept`: no month goes at all.
    """
    [(outcome,)] = QUERIES.run(connection, "drop_month", {"run_id": run_id, "month": month})
    found: Dropped = outcome
    return found


def emptied_months(connection: Connection, run_id: UUID) -> list[date]:
    """Return the months of which a run has emptied parts."""
    return [month for (month,) in QUERIES.run(connection, "emptied_months", {"run_id": run_id})]


def _translated(error: psycopg.OperationalError) -> Exception:
    return unavailable(error) if is_unavailable(error) else error
