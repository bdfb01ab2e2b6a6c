"""How schedules and their fires are shown: plain words for people, everything for programs, secrets as stars."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from console import output
from core.errors import ScheduleError
from db import fires, health, identity, schedules
from db.connection import Connection
from db.fires import FireRow
from db.schedules import ScheduleRow

if TYPE_CHECKING:
    from scheduler.preview import Upcoming

_MISSED = {"skip": "nothing is made up for", "once": "the last is made up for", "all": "the last {} are made up for"}
_OVERLAP = {
    "allow": "another beside it", "skip": "none while one lives", "wait": "another that begins when that one ends"
}  # fmt: skip
_UNCHANGING = ("module", "design", "tenant_id", "name")


class View:
    """Some schedules with all that is told of them, as they stand at one moment of Postgres' clock."""

    def __init__(self, connection: Connection, rows: Sequence[ScheduleRow]) -> None:
        self.rows = rows
        self.now = health.now(connection)
        types = {row.task_type for row in rows} | {row.declared["task_type"] for row in rows if row.declared}
        self._secret = schedules.secret_fields(connection, sorted(types))
        self._slugs = identity.slugs_of(connection, [row.tenant_id for row in rows if row.tenant_id])
        self._last = fires.last_of_each(connection, [row.id for row in rows])

    def facts(self, row: ScheduleRow) -> dict[str, Any]:
        """Return everything of a schedule; `next_fire_at` is None for one that is paused or removed."""
        last, declared = self._last.get(row.id), row.declared
        if declared is not None:
            declared = {**declared, "payload": self._masked(declared["task_type"], declared["payload"])}
        return asdict(row) | {
            "tenant": self._tenant(row),
            "payload": self._masked(row.task_type, row.payload),
            "declared": declared,
            "when": when_of(row),
            "next_fire_at": next_of(row),
            "last_fire": None if last is None else fire_facts(last),
        }

    def cells(self) -> Iterator[tuple[object, ...]]:
        """Yield a row of a table for each schedule."""
        for row in self.rows:
            named = (row.name, row.task_type, self._tenant(row), when_of(row))
            yield (*named, self._next(row), self._last_of(row), ", ".join(_states(row)))

    def fields(self, row: ScheduleRow) -> list[tuple[str, Any]]:
        """Return what people want to know of one schedule, by its names."""
        shown = self.facts(row)
        names = ("queue", "priority", "description", "created_at", "updated_at")
        return [
            ("schedule", row.name),
            ("task type", row.task_type),
            ("tenant", shown["tenant"]),
            ("payload", shown["payload"]),
            ("when", shown["when"]),
            ("next", self._next(row)),
            ("last", self._last_of(row)),
            ("state", ", ".join(_states(row))),
            ("jitter", f"up to {output.duration(row.jitter.total_seconds())}" if row.jitter else None),
            ("missed", _MISSED[row.missed].format(row.missed_limit)),
            ("overlap", _OVERLAP[row.overlap]),
            ("declared by", f"{row.declared['module']}, for {row.declared['design']}" if row.declared else None),
            ("edited", ", ".join(_edited(row))),
            *((name.replace("_", " "), shown[name]) for name in names),
        ]

    def _masked(self, task_type: str, payload: Any) -> Any:
        return output.masked(payload, self._secret[task_type])

    def _tenant(self, row: ScheduleRow) -> str | None:
        return None if row.tenant_id is None else self._slugs.get(row.tenant_id, str(row.tenant_id))

    def _next(self, row: ScheduleRow) -> str:
        found = next_of(row)
        if found is None:
            return "" if row.paused_at or row.removed_at else "never again"
        seconds = (found - self.now).total_seconds()
        told = f"in {output.duration(seconds)}" if seconds >= 0 else f"{output.duration(-seconds)} late"
        return f"{utc(found)} ({told})"

    def _last_of(self, row: ScheduleRow) -> str:
        last = self._last.get(row.id)
        return "" if last is None else f"{utc(last.fire_at)} {', '.join(filter(None, (last.outcome, last.status)))}"


def when_of(row: ScheduleRow) -> str:
    """Say when a schedule fires; of one that was written past its checks, what is wrong with it."""
    from scheduler.firing import trigger_spec
    from scheduler.triggers import describe

    try:
        return describe(trigger_spec(row, row.created_at))
    except ScheduleError as error:
        return f"never: {error}"


def next_of(row: ScheduleRow) -> datetime | None:
    """Return when a schedule fires next; None for one that is paused, removed, over, or wrong."""
    from scheduler.firing import next_fire

    if row.paused_at or row.removed_at:
        return None
    try:
        return next_fire(row)
    except ScheduleError:
        return None


def upcoming_facts(coming: "Sequence[Upcoming]") -> list[dict[str, Any]]:
    """Return fires to come, for programs."""
    return [{"at": each.at, "local": each.local, "note": each.note} for each in coming]


def show_upcoming(coming: "Sequence[Upcoming]", now: datetime) -> None:
    """Print fires to come, for people."""
    rows = [(local(each.local), utc(each.at), _in(each.at, now), each.note) for each in coming]
    output.show_table(("fires", "UTC", "#in", ""), rows, empty="it never fires again")


def fire_facts(fire: FireRow) -> dict[str, Any]:
    """Return everything of a fire; `seconds` is how long its task took."""
    return fire._asdict() | {"seconds": _seconds(fire)}


def fire_cells(fire: FireRow, shown_at: datetime) -> tuple[object, ...]:
    """Return a fire as a row of a table; `shown_at` is its time on the schedule's clock."""
    seconds = _seconds(fire)
    took = "" if seconds is None else f"{seconds:.3g} s" if seconds < 100 else output.duration(seconds)
    return local(shown_at), fire.outcome, fire.task_id, fire.status, took, "; ".join(_notes(fire))


def local(moment: datetime) -> str:
    """Return a time with its weekday, as its own clock shows it."""
    return f"{moment:%a} {moment.isoformat(' ', 'seconds')}"


def utc(moment: datetime) -> str:
    """Return a time of UTC; Postgres' times come in the zone of the session."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"


def _in(moment: datetime, now: datetime) -> str:
    return output.duration((moment - now).total_seconds())


def _states(row: ScheduleRow) -> list[str]:
    stands = {"removed": row.removed_at, "paused": row.paused_at, "edited": row.is_edited}
    return [word for word, is_so in stands.items() if is_so]


def _edited(row: ScheduleRow) -> list[str]:
    """Return which fields are not as the code declares them."""
    if row.declared is None or not row.is_edited:
        return []
    declared = schedules.Declaration.spec_of(row.declared)
    now = row.spec()
    return [
        name for name in asdict(declared) if name not in _UNCHANGING and getattr(declared, name) != getattr(now, name)
    ]


def _seconds(fire: FireRow) -> float | None:
    if fire.started_at is None or fire.completed_at is None:
        return None
    return (fire.completed_at - fire.started_at).total_seconds()


def _notes(fire: FireRow) -> list[str]:
    late = (fire.fired_at - fire.fire_at).total_seconds()
    notes: Mapping[str, bool] = {
        "by hand": fire.is_manual,
        f"{output.duration(late)} late": late >= 60,
        f"{fire.missed_count} missed before it": fire.missed_count > 0,
        fire.error or "": fire.error is not None,
        f"held: {fire.hold_reason}": fire.hold_reason is not None and fire.hold_reason != fire.error,
        fire.last_error or "": fire.last_error is not None and fire.status != "done",
    }
    return [text for text, is_so in notes.items() if is_so]
