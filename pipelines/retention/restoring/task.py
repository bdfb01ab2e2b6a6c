"""`archive.restore`: rows of archives come back to their table, with what went along with them.

Page after page, each a transaction that notes where the task stands, so it goes on wherever it was killed. What is
there is left as it is, and counted. What refers to a row that is gone is refused, and tried again once all else is
there: it may refer to a row that comes later. Files are compared with their checksums before a row of them is written.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, Annotated, ClassVar, Self
from uuid import UUID

import psycopg
from pydantic import Field, model_validator

from core.errors import PermanentError
from db import audit, queries, restores, standings
from db.connection import Connection
from db.restores import Column, File, Part, Reference, Written
from pipelines.outcomes import Done, Fail, Outcome, Snooze
from pipelines.payload import Payload
from pipelines.retention.archive.errors import ChangedArchiveError
from pipelines.retention.archive.store import ArchiveStore
from pipelines.retention.restoring import shape
from pipelines.retention.runs import Pacer, paced_task
from pipelines.task import TaskContext
from pipelines.transaction import Transaction

if TYPE_CHECKING:
    import pyarrow as pa

    from pipelines.retention.restoring.choosing import Choice, Numbers, OpenPart

KEEP = timedelta(days=30)
_SECONDS = 60.0
_PAUSE = timedelta(seconds=2)
_MOST = 2_000
_ORPHAN = ": no such row in "
"""What `ops.orphan_case` says of a row that refers to one which is not there."""


class RestoreArchive(Payload):
    """Bring rows of archives back to their table: of all months or some, of all tenants or one, or one row."""

    task_type: ClassVar[str] = "archive.restore"
    named_fields: ClassVar[tuple[str, ...]] = ("table", "without")

    table: Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]*\.[a-z_][a-z0-9_]*$")]
    since: Annotated[date | None, Field(description="A day of the first month")] = None
    until: Annotated[date | None, Field(description="A day of the last month")] = None
    tenant_id: UUID | None = None
    row_id: Annotated[str | None, Field(description="Its column id, or its key, parted by commas")] = None
    keep: Annotated[
        timedelta, Field(gt=timedelta(0), le=timedelta(days=36_500), description="How long runs let the months be")
    ] = KEEP
    without: Annotated[
        tuple[Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)?$")], ...],
        Field(description="Columns and tables that are left out"),
    ] = ()

    @model_validator(mode="after")
    def _is_a_span(self) -> Self:
        if self.since is not None and self.until is not None and self.since > self.until:
            raise ValueError("the last month is before the first")
        return self


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a task stands, and what came of it by now; what is refused is that of the present `round`.

    The next rows are those of `file` from `offset` on, in a `page` of the part `archive`; parts go from new to old.
    """

    round: int = 1
    archive: str = ""
    page: int = 0
    file: str = ""
    offset: int = 0
    written: int = 0
    restored: int = 0
    links: int = 0
    same: int = 0
    other: int = 0
    refused: dict[str, int] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, object]:
        """What came of it, as it is told."""
        told = {"restored": self.restored, "links": self.links, "there": self.same, "different": self.other}
        return {**told, "refused": self.refused}

    @property
    def seen(self) -> int:
        """How many rows of archives were looked at."""
        return self.restored + self.same + self.other + sum(self.refused.values())

    def behind(self, file: File, came: Written, offset: int) -> "Standing":
        """Return where it stands once rows of a file are written, up to an offset."""
        is_first = self.round == 1
        return replace(
            self,
            file=file.key,
            offset=offset,
            written=self.written + came.written,
            restored=self.restored + (came.written if file.kind == "rows" else 0),
            links=self.links + (came.written if file.kind == "links" else 0),
            same=self.same + (came.same if is_first else 0),
            other=self.other + (came.other if is_first else 0),
            refused=_added(self.refused, came.refused),
        )

    def at_page(self, part: Part, page: int) -> "Standing":
        """Return where it stands at the beginning of a page, or within it where it stands there already."""
        if (self.archive, self.page) == (str(part.id), page):
            return self
        return replace(self, archive=str(part.id), page=page, file="", offset=0)

    def at_next_round(self) -> "Standing | None":
        """Return where another round begins: where rows were written that others may have waited for."""
        if not self.written or not any(_ORPHAN in reason for reason in self.refused):
            return None
        return replace(self, round=self.round + 1, archive="", page=0, file="", offset=0, written=0, refused={})


class _LaterError(Exception):
    """The attempt ends here: its time is up (no reason), or something is in use; `pause` is for how long."""

    def __init__(self, reason: str = "", pause: timedelta = _PAUSE) -> None:
        super().__init__(reason)
        self.pause = pause


def restore(context: TaskContext, payload: RestoreArchive) -> Outcome:
    """Bring back what is left, for a minute; fails where nothing is archived, or a file is damaged or does not fit."""
    with context.read() as transaction:
        standing = Standing(**standings.read(transaction.connection, context.task_id, "restoring"))
    with context.outside() as connection:
        try:
            reached = _Restoring(context, connection, payload, standing).run()
        except _LaterError as later:
            return Snooze(later.pause, reason=str(later) or None)
        except ChangedArchiveError as error:
            return Fail(f"the archive's file {error.key} {error.why}: bring it back from a backup of the storage")
        except PermanentError as error:
            return Fail(str(error))
    return Done(reached.counts, lambda applying: _record(applying, payload, reached))


class _Restoring:
    """One attempt at a restore."""

    def __init__(
        self, context: TaskContext, connection: Connection, payload: RestoreArchive, standing: Standing
    ) -> None:
        self.standing = standing
        self._context, self._connection, self._payload = context, connection, payload
        self._pacer = Pacer(connection, seconds=_SECONDS, most=_MOST)
        self._parts = _parts(connection, payload)
        named = {file.table for part in self._parts for file in part.files} | {payload.table}
        self._tables: dict[str, list[Column]] = {table: restores.columns(connection, table) for table in named}
        self._keys = {
            table: [column.name for column in columns if column.is_key]
            for table, columns in self._tables.items()
            if not restores.is_keyed(connection, table)
        }
        shape.refuse_unfit(self._parts, self._tables, payload.without)
        self._references: list[Reference] = restores.references(connection, payload.table)
        self._made: set[tuple[str, date]] = set()

    def run(self) -> Standing:
        """Go on to the end, and return what came of it; raises _LaterError where there is more to do later."""
        following: Standing | None = self.standing
        while following is not None:
            self.standing = following
            for number, part in enumerate(self._parts):
                if not self.standing.archive or str(part.id) <= self.standing.archive:
                    self._part(number, part)
            following = self.standing.at_next_round()
        if self._payload.row_id is not None and not self.standing.seen:
            raise PermanentError(f"no archive of {self._payload.table} holds the row {self._payload.row_id}")
        return self.standing

    def _part(self, number: int, part: Part) -> None:
        from pipelines.retention.restoring.choosing import OpenPart

        with OpenPart(part, self._context.resources.get(ArchiveStore), self._keys) as opened:
            opened.count(self._choice())
            is_kept = False
            for page, numbers in opened.roots(self._choice()):
                if self.standing.archive == str(part.id) and page < self.standing.page:
                    continue
                if not is_kept:
                    restores.keep(self._connection, [part.id], self._payload.keep)
                    is_kept = True
                self._context.progress(number / len(self._parts), f"{part.month:%Y-%m}: {self.standing.restored} rows")
                self._page(opened, page, numbers)

    def _choice(self) -> "Choice":
        from pipelines.retention.restoring.choosing import Choice

        columns = self._tables[self._payload.table]
        key = tuple(column.name for column in columns if column.is_key)
        if "id" in {column.name for column in columns}:
            key = ("id",)
        return Choice(self._payload.tenant_id, self._payload.row_id, () if self._payload.row_id is None else key)

    def _page(self, opened: "OpenPart", page: int, numbers: "Numbers") -> None:
        self.standing = self.standing.at_page(opened.part, page)
        chosen = opened.page(page, numbers, self._references, self._payload.without)
        keys = [file.key for file, _ in chosen]
        begun = keys.index(self.standing.file) if self.standing.file in keys else 0
        for file, rows in chosen[begun:]:
            offset = self.standing.offset if file.key == self.standing.file else 0
            while offset < len(rows):
                offset = self._rows(opened.part, file, rows, offset)

    def _rows(self, part: Part, file: File, rows: "pa.Table", offset: int) -> int:
        """Write the next rows of a file, in a transaction with where that leads; return the offset behind them."""
        from pipelines.retention.restoring import encoding

        if self._pacer.is_over:
            raise _LaterError(pause=self._pacer.pause)
        with self._pacer.page() as most:
            taken = rows.slice(offset, most)
            kept, lost = encoding.without_values(taken, shape.gone_columns(file, self._tables, self._payload.without))
            refused = {
                f"{name}: gone from {file.table}, and --without {name} is not said": n for name, n in lost.items()
            }
            self._make_months(file, kept)
            reached = offset + len(taken)
            with _page_of(self._connection, file.table):
                text = encoding.encode(kept, file)
                came = restores.write_page(self._connection, part, file, text, self._payload.without)
                if came is None:
                    raise _LaterError("the archive is being rewritten")
                came = replace(came, refused=_added(came.refused, refused))
                self.standing = self.standing.behind(file, came, reached)
                standings.note(self._connection, self._context.task_id, "restoring", asdict(self.standing))
        return reached

    def _make_months(self, file: File, rows: "pa.Table") -> None:
        from pipelines.retention.restoring import encoding

        parted_by = [column.name for column in self._tables[file.table] if column.is_month]
        for column in parted_by if file.kind == "rows" and len(rows) else []:
            for month in encoding.months_of(rows, column):
                if (file.table, month) not in self._made:
                    if not restores.make_month(self._connection, file.table, month):
                        raise _LaterError(f"in use: {file.table}")
                    self._made.add((file.table, month))


def _parts(connection: Connection, payload: RestoreArchive) -> list[Part]:
    since, until = (None if day is None else day.replace(day=1) for day in (payload.since, payload.until))
    found = restores.parts(connection, payload.table, since=since, until=until, tenant_id=payload.tenant_id)
    if not found:
        raise PermanentError(f"no archive holds such rows of {payload.table}: see `greenroom retention archives`")
    return found


@contextmanager
def _page_of(connection: Connection, table: str) -> Iterator[None]:
    """The transaction of a page; raises _LaterError where somebody holds what it needs."""
    try:
        with queries.transaction(connection):
            yield
    except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
        raise _LaterError(f"in use: {table}") from error


def _added(counts: dict[str, int], more: dict[str, int]) -> dict[str, int]:
    return {reason: counts.get(reason, 0) + more.get(reason, 0) for reason in counts | more}


def _record(applying: Transaction, payload: RestoreArchive, reached: Standing) -> None:
    """Leave one event, with counts and without contents."""
    asked = payload.model_dump(mode="json", exclude_none=True, exclude={"table"})
    told = f"{reached.restored} rows of {payload.table} restored"
    resource = audit.Resource("table", payload.table, payload.tenant_id)
    audit.record(applying.connection, "archive.restored", told, resource, metadata=asked | reached.counts)


TASKS = (paced_task(RestoreArchive, restore),)
