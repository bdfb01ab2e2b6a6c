"""Archives as they are listed, and as their rows come back. Typed calls over `sql/restores.sql`.

Invariant: what a page brought back is noted where the task stands in the page's own transaction.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any, Literal, cast
from uuid import UUID

from db.connection import Connection
from db.forgetting import Subject
from db.queries import Queries

QUERIES = Queries("restores")
Status = Literal["writing", "verified", "emptied", "erased"]


@dataclass(frozen=True, slots=True)
class File:
    """A file of a part; `columns` are names and types."""

    key: str
    table: str
    kind: Literal["rows", "links"]
    rows: int
    sha256: str
    columns: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Archive:
    """A part in a listing."""

    id: UUID
    table: str
    month: date
    part: int
    status: Status
    rows: int
    bytes: int
    policy: str
    created_at: datetime
    emptied_at: datetime | None
    restored_until: datetime | None
    manifest_key: str | None
    manifest_sha256: str | None
    files: tuple[File, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """A part that can be brought back. Rows `left_behind`, by their number in the first file, are not its own."""

    id: UUID
    month: date
    part: int
    rows: int
    left_behind: frozenset[int]
    manifest_key: str
    manifest_sha256: str
    files: tuple[File, ...]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table as it is today; `is_required`: a row has to bring a value, `is_month`: months go by it."""

    name: str
    is_key: bool
    is_required: bool
    is_month: bool


@dataclass(frozen=True, slots=True)
class Reference:
    """By which columns rows of a table refer to rows of another, and go along with them or are changed."""

    parent: str
    child: str
    child_columns: tuple[str, ...]
    parent_columns: tuple[str, ...]
    action: Literal["cascade", "set_null"]
    depth: int


@dataclass(frozen=True, slots=True)
class Written:
    """What came of a page: rows written, there already as they were, there otherwise, and refused, by reason."""

    written: int
    same: int
    other: int
    refused: dict[str, int]


def list_archives(
    connection: Connection,
    *,
    table: str | None = None,
    month: date | None = None,
    subject: Subject | None = None,
) -> list[Archive]:
    """Return parts by table, month and number: of all, or of one table, one month, or with rows of one subject."""
    kind, subject_id = (None, None) if subject is None else (subject.kind, subject.id)
    values = {"table": table, "month": month, "kind": kind, "subject_id": subject_id}
    found = [Archive(*row) for row in QUERIES.run(connection, "list", values)]
    return [replace(each, files=tuple(map(_file, cast("Any", each.files)))) for each in found]


def parts(
    connection: Connection,
    table: str,
    *,
    since: date | None = None,
    until: date | None = None,
    tenant_id: UUID | None = None,
) -> list[Part]:
    """Return the parts of a table that can be brought back, the newest first; `since` and `until` are months."""
    schema, _, name = table.partition(".")
    values = {"schema": schema, "name": name, "since": since, "until": until, "tenant_id": tenant_id}
    rows = QUERIES.run(connection, "parts", values)
    return [
        Part(id_, month, part, count, frozenset(left), key, sha256, tuple(map(_file, files)))
        for id_, month, part, count, left, key, sha256, files in rows
    ]


def keep(connection: Connection, archives: Sequence[UUID], period: timedelta) -> None:
    """Let runs of retention leave the months of these archives alone for so long, or as long as they do already."""
    QUERIES.run(connection, "keep", {"archives": list(archives), "keep": period})


def columns(connection: Connection, table: str) -> list[Column]:
    """Return the columns of a table as it is today; none where it is gone."""
    return [Column(*row) for row in QUERIES.run(connection, "columns", {"relation": table})]


def is_keyed(connection: Connection, table: str) -> bool:
    """Return whether a key of a table tells each of its rows from all others; True where the table is gone."""
    [(found,)] = QUERIES.run(connection, "is_keyed", {"relation": table})
    return bool(found)


def references(connection: Connection, table: str) -> list[Reference]:
    """Return what goes along with rows of a table or is changed by their end, to any depth, parents first."""
    return [
        Reference(parent, child, tuple(own), tuple(theirs), action, depth)
        for parent, child, own, theirs, action, depth in QUERIES.run(connection, "references", {"relation": table})
    ]


def make_month(connection: Connection, table: str, month: date) -> bool:
    """Make a month of a table if it has months and lacks it; false where somebody holds what that takes."""
    [(is_there,)] = QUERIES.run(connection, "month", {"relation": table, "month": month})
    return bool(is_there)


def write_page(connection: Connection, part: Part, file: File, rows: str, without: Sequence[str]) -> Written | None:
    """Write rows of a file back, but for what is there: `rows` is a JSON array of objects, text by column number,
    of a table without a key with `copy` (the how-manieth of equal rows it is) and `copies` (how many have its key).

    None where the file is not the archive's any more. Raises LockNotAvailable where the archive is being rewritten.
    """
    values = {"archive": part.id, "file": file.key, "rows": rows, "without": list(without)}
    [(written, same, other, refused)] = QUERIES.run(connection, "page", values)
    return None if written is None else Written(written, same, other, refused)


def _file(stored: dict[str, Any]) -> File:
    named = tuple((column["name"], column["type"]) for column in stored["columns"])
    return File(stored["key"], stored["table"], stored["kind"], stored["rows"], stored["sha256"], named)
