"""The store of schedules: what operators and the code do with them (`sql/schedules.sql`). Fires are `db/fires.py`.

A deed is one transaction; an operator's leaves its audit event behind. Triggers are not looked at here: who adds or
edits has built the trigger before (`scheduler.triggers`).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb

from core.errors import (
    ConstraintError,
    DuplicateError,
    InvalidPayloadError,
    NotFoundError,
    ScheduleError,
    UnknownTaskTypeError,
)
from core.times import Times
from db.audit import Resource, record
from db.connection import Connection
from db.constraints import rules
from db.queries import Queries, in_utc
from db.tasks import known_types

QUERIES = Queries("schedules")
OWNER_KIND = "schedule"
"""What a schedule's tasks have as the kind of their owner; the owner's id is the schedule's."""
Missed = Literal["skip", "once", "all"]
Overlap = Literal["allow", "skip", "wait"]


@dataclass(frozen=True, kw_only=True)
class ScheduleSpec(Times):
    """What a schedule is: what it enqueues, when, and by which policies.

    `every` is in whole seconds, `jitter` up to a day. `tenant_id` None: a task across tenants, or the default tenant's.
    """

    name: str
    task_type: str
    payload: Mapping[str, Any]
    tenant_id: UUID | None = None
    queue: str | None = None
    priority: int | None = None
    jitter: timedelta = timedelta(0)
    missed: Missed = "once"
    missed_limit: int = 10
    overlap: Overlap = "skip"
    description: str | None = None

    def check(self) -> None:
        """Raise ScheduleError for what the row would refuse; who builds the trigger finds the rest."""
        if problem := next((text for is_wrong, text in self._problems() if is_wrong), None):
            raise ScheduleError(f"schedule {self.name!r}: {problem}")

    def _problems(self) -> list[tuple[bool, str]]:
        given = [each for each in (self.cron, self.every, self.at) if each is not None]
        seconds = timedelta(seconds=1) if self.every is None else self.every
        moments = [each for each in (self.at, self.starts_at, self.ends_at) if each is not None]
        texts = [self.name, self.task_type, self.cron or "", self.zone, self.queue or "", self.description or ""]
        return [
            (not _is_name(self.name), "a name has 1 to 100 characters that print, and no space at its ends"),
            (len(given) != 1, "give exactly one of a cron expression, an interval and a moment"),
            (bool(seconds.microseconds or seconds < timedelta(seconds=1)), "an interval is one or more whole seconds"),
            (seconds > timedelta(days=3652.5), "an interval is ten years at the most"),
            (any(each.tzinfo is None for each in moments), "give moments with their time zone"),
            (_is_before(self.ends_at, self.starts_at), "it ends before it starts"),
            (not timedelta(0) <= self.jitter <= timedelta(days=1), "jitter is from 0 to a day"),
            (not 1 <= self.missed_limit <= 1000, "missed_limit is from 1 to 1000"),
            (not -100 <= (self.priority or 0) <= 100, "a priority is from -100 to 100"),
            (self.queue is not None and not 1 <= len(self.queue) <= 100, "a queue's name has 1 to 100 characters"),
            (len(self.description or "") > 2000, "a description has at most 2000 characters"),
            (not all(map(_is_storable, texts)), "it holds a character that Postgres cannot store"),
        ]

    def columns(self) -> dict[str, Any]:
        """Return the spec as values of the row's columns."""
        values = {field.name: getattr(self, field.name) for field in fields(ScheduleSpec)}
        every, jitter = values.pop("every"), values.pop("jitter")
        return values | {
            "payload": Jsonb(dict(self.payload)),
            "every_seconds": None if every is None else round(every.total_seconds()),
            "jitter_seconds": jitter.total_seconds(),
        }


@dataclass(frozen=True, kw_only=True)
class ScheduleRow(ScheduleSpec):
    """A schedule and how it stands. `next_fire_at` is when to look again, and None where it never fires again.

    One that is no later than `settled_at` says that the schedule was changed since a scheduler looked: its next fire is
    the trigger's first behind `settled_at`. `declared` is what the code says of it, None for an operator's.
    """

    id: UUID
    paused_at: datetime | None
    next_fire_at: datetime | None
    last_fire_at: datetime | None
    settled_at: datetime
    source: Literal["code", "operator"]
    declared: Mapping[str, Any] | None
    is_edited: bool
    removed_at: datetime | None
    created_at: datetime
    updated_at: datetime

    def spec(self) -> ScheduleSpec:
        """Return what the schedule is, without how it stands."""
        return ScheduleSpec(**{field.name: getattr(self, field.name) for field in fields(ScheduleSpec)})


_NAMES = [field.name for field in fields(ScheduleRow)]


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """A schedule as a task module declares it: `module` by its name, `design` being whose wish it is."""

    spec: ScheduleSpec
    module: str
    design: str

    @staticmethod
    def spec_of(declared: Mapping[str, Any]) -> ScheduleSpec:
        """Return the spec of what `json` returned."""
        values: dict[str, Any] = {field.name: declared.get(field.name) for field in fields(ScheduleSpec)}
        for name in ("at", "starts_at", "ends_at"):
            values[name] = values[name] and datetime.fromisoformat(values[name])
        every = declared["every_seconds"]
        values["every"] = None if every is None else timedelta(seconds=every)
        values["jitter"] = timedelta(seconds=declared["jitter_seconds"])
        return ScheduleSpec(**values)

    def json(self) -> dict[str, Any]:
        """Return it as it is kept beside what operators make of it."""
        columns = self.spec.columns() | {"payload": dict(self.spec.payload)}
        plain = {key: value.isoformat() if isinstance(value, datetime) else value for key, value in columns.items()}
        return plain | {"module": self.module, "design": self.design}


@dataclass(frozen=True, slots=True)
class Installed:
    """What an installation did, by the names of schedules. `kept` goes an operator's way, and not the code's."""

    added: list[str]
    changed: list[str]
    kept: list[str]
    dropped: list[str]


def add(connection: Connection, spec: ScheduleSpec) -> ScheduleRow:
    """Add an operator's schedule, to fire from now on; the code's of that name that was removed is back, as this one.

    Raises ScheduleError, UnknownTaskTypeError, InvalidPayloadError; DuplicateError where the name is taken.
    """
    with connection.transaction():
        _judge(connection, spec)
        with _storable():
            rows = QUERIES.run(connection, "add", spec.columns() | {"declared": None})
        if rows:
            added = _row(rows[0])
        else:
            known = _held(connection, spec.name)
            if known.removed_at is None:
                raise DuplicateError("queue.schedules", "schedules_name_key")
            QUERIES.run(connection, "unbury", {"id": known.id})
            added = _change(connection, known, spec, is_edited=True)
        _tell(connection, added, "added")
    return added


def edit(connection: Connection, name: str, /, **changes: Any) -> ScheduleRow:
    """Change fields of a schedule (of ScheduleSpec, but for the name); of one of the code's, that wins from now on.

    Waits while the schedule fires. What was due by the old times is not made up for by the new ones.
    Raises NotFoundError, and as `add` does.
    """
    if unknown := sorted(set(changes) - {field.name for field in fields(ScheduleSpec)} | ({"name"} & set(changes))):
        raise ScheduleError(f"a schedule's {unknown[0]} cannot be changed")
    with connection.transaction():
        known = wanted(connection, name)
        spec = replace(known.spec(), **changes)
        _judge(connection, spec)
        changed = _change(connection, known, spec, is_edited=known.source == "code")
        _tell(connection, changed, "edited", {"fields": sorted(changes)})
    return changed


def reset(connection: Connection, name: str) -> ScheduleRow:
    """Make a schedule again what the code declares, one that was edited or removed; it fires from now on.

    Raises NotFoundError; ScheduleError for an operator's own, and as `add` does for what could not be enqueued.
    """
    with connection.transaction():
        known = _held(connection, name)
        if known.declared is None:
            raise ScheduleError(f"schedule {name!r} was added by an operator: no code says what it was before")
        spec = Declaration.spec_of(known.declared)
        _judge(connection, spec)
        if known.removed_at is not None:
            QUERIES.run(connection, "unbury", {"id": known.id})
        changed = _change(connection, known, spec, is_edited=False)
        _tell(connection, changed, "reset")
    return changed


def pause(connection: Connection, name: str) -> bool:
    """Let a schedule fire no more until it is resumed; return False where it was paused already. NotFoundError."""
    return _steer(connection, name, "pause", "paused")


def resume(connection: Connection, name: str) -> bool:
    """Let a schedule fire again, from now on; return False where it was not paused. Raises NotFoundError."""
    return _steer(connection, name, "resume", "resumed")


def remove(connection: Connection, name: str) -> None:
    """Remove a schedule with its history; one that the code declares stays as one not wanted. Raises NotFoundError."""
    with connection.transaction():
        known = wanted(connection, name)
        QUERIES.run(connection, "remove" if known.source == "operator" else "bury", {"id": known.id})
        _tell(connection, known, "removed")


def install(connection: Connection, declared: Sequence[Declaration], modules: Sequence[str]) -> Installed:
    """Make the schedules what the code declares, in one transaction; an operator's way with one is kept.

    `modules` are those that were asked for their declarations: what one declares no more goes, unless it was edited.
    """
    done = Installed([], [], [], [])
    with connection.transaction():
        for each in declared:
            getattr(done, _install(connection, each)).append(each.spec.name)
        values = {"names": [each.spec.name for each in declared], "modules": list(modules)}
        done.dropped.extend(name for (name,) in QUERIES.run(connection, "drop_undeclared", values))
    return done


def list_schedules(
    connection: Connection, *, limit: int, after: str = "", tenant_id: UUID | None = None, with_removed: bool = False
) -> list[ScheduleRow]:
    """Return schedules by name; a next page goes on `after` the last name of this one."""
    values = {"limit": limit, "after": after, "tenant_id": tenant_id, "with_removed": with_removed}
    return [_row(row) for row in QUERIES.run(connection, "list", values)]


def show(connection: Connection, name: str) -> ScheduleRow | None:
    """Return the schedule of a name, a removed one too."""
    rows = QUERIES.run(connection, "show", {"name": name}) if _is_storable(name) else []
    return _row(rows[0]) if rows else None


def named(connection: Connection, name: str) -> ScheduleRow:
    """Return the schedule of a name, a removed one too; raises NotFoundError."""
    found = show(connection, name)
    if found is None:
        raise _unknown(name)
    return found


def wanted(connection: Connection, name: str) -> ScheduleRow:
    """Return a schedule that was not removed, held to the end of the caller's transaction; raises NotFoundError."""
    known = _held(connection, name)
    if known.removed_at is not None:
        raise NotFoundError(f"the schedule {name!r} was removed: `greenroom schedules edit --reset` brings it back")
    return known


def read(connection: Connection, schedule_id: UUID) -> tuple[datetime, ScheduleRow] | None:
    """Return Postgres' clock and a schedule as it is now, all moments in UTC."""
    rows = QUERIES.run(connection, "read", {"id": schedule_id})
    return (rows[0][0].astimezone(UTC), _row(rows[0][1:])) if rows else None


def secret_fields(connection: Connection, task_types: Sequence[str]) -> dict[str, list[str] | None]:
    """Return which fields of some types' payloads are not to be shown; None for a type that nobody published."""
    return {name: secret for name, secret in QUERIES.run(connection, "secret_fields", {"types": list(task_types)})}


def _judge(connection: Connection, spec: ScheduleSpec) -> None:
    """Raise for what could not be enqueued, as things are."""
    spec.check()
    with _storable():
        rows = QUERIES.run(connection, "judge", {"task_type": spec.task_type, "payload": Jsonb(dict(spec.payload))})
    if not rows:
        raise UnknownTaskTypeError(spec.task_type, tuple(known_types(connection)))
    name, scope, problem = rows[0]
    if problem is not None:
        raise InvalidPayloadError(f"invalid payload for {name}: {problem}")
    if scope == "system" and spec.tenant_id is not None:
        raise ScheduleError(f"schedule {spec.name!r}: {name} works across tenants: leave the tenant out")


@contextmanager
def _storable() -> Iterator[None]:
    """Raise InvalidPayloadError for what Postgres cannot hold as a schedule's payload."""
    try:
        with rules():
            yield
    except (psycopg.errors.UntranslatableCharacter, psycopg.errors.InvalidTextRepresentation):
        # the driver's text quotes it
        raise InvalidPayloadError("the payload holds U+0000, half a surrogate pair, NaN or Infinity") from None
    except ConstraintError as error:
        if error.constraint != "schedules_payload_check":
            raise
        raise InvalidPayloadError("a schedule's payload has at most 64 kB: name a document or a row instead") from None


def _install(connection: Connection, declaration: Declaration) -> Literal["added", "changed", "kept"]:
    spec, said = declaration.spec, declaration.json()
    if QUERIES.run(connection, "add", spec.columns() | {"declared": Jsonb(said)}):
        return "added"
    known = _held(connection, spec.name)
    if known.source == "operator":
        return "kept"
    if known.is_edited or known.removed_at is not None:
        QUERIES.run(connection, "declare", {"id": known.id, "declared": Jsonb(said)})
        return "kept"
    if known.declared != said:
        _change(connection, replace(known, declared=said), spec, is_edited=False)
        return "changed"
    return "kept"


def _change(connection: Connection, known: ScheduleRow, spec: ScheduleSpec, *, is_edited: bool) -> ScheduleRow:
    values = spec.columns() | {
        "id": known.id,
        "declared": None if known.declared is None else Jsonb(dict(known.declared)),
        "is_edited": is_edited,
        "is_moved": any(getattr(known, each.name) != getattr(spec, each.name) for each in fields(Times)),
    }
    with _storable():
        return _row(QUERIES.run(connection, "change", values)[0])


def _steer(connection: Connection, name: str, query: str, deed: str) -> bool:
    with connection.transaction():
        known = wanted(connection, name)
        is_done = bool(QUERIES.run(connection, query, {"id": known.id}))
        if is_done:
            _tell(connection, known, deed)
    return is_done


def _held(connection: Connection, name: str) -> ScheduleRow:
    rows = QUERIES.run(connection, "hold", {"name": name}) if _is_storable(name) else []
    if not rows:
        raise _unknown(name)
    return _row(rows[0])


def _unknown(name: str) -> NotFoundError:
    return NotFoundError(f"there is no schedule {name!r}: `greenroom schedules list` names them")


def _tell(connection: Connection, row: ScheduleRow, deed: str, metadata: Mapping[str, Any] | None = None) -> None:
    what = Resource(OWNER_KIND, row.name, row.tenant_id)
    record(connection, f"schedule.{deed}", f"schedule {deed} by an operator", what, metadata=metadata)


def _row(row: Sequence[Any]) -> ScheduleRow:
    return ScheduleRow(**dict(zip(_NAMES, in_utc(row), strict=True)))


def _is_before(one: datetime | None, other: datetime | None) -> bool:
    return one is not None and other is not None and None not in (one.tzinfo, other.tzinfo) and one < other


def _is_name(text: str) -> bool:
    return 1 <= len(text) <= 100 and text.isprintable() and text == text.strip()


def _is_storable(text: str) -> bool:
    return not any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in text)
