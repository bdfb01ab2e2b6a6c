"""The store of fires: when a scheduler has to look, and what came of each time of a schedule (`sql/fires.sql`).

From `lock` to `settle`, calls run in one transaction of the caller's, which holds the schedule's row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID

from psycopg.types.json import Jsonb

from db.audit import Resource, record
from db.connection import Connection
from db.queries import Queries, in_utc
from db.schedules import OWNER_KIND, ScheduleRow

QUERIES = Queries("fires")
Outcome = Literal["enqueued", "missed", "overlapped", "refused"]


class FireRow(NamedTuple):
    """A fire, and how its task stands; `status` is None where there is no task, or its history is gone."""

    fire_at: datetime
    fired_at: datetime
    outcome: Outcome
    task_id: UUID | None
    is_manual: bool
    missed_count: int
    error: str | None
    status: str | None
    hold_reason: str | None
    started_at: datetime | None
    completed_at: datetime | None
    last_error: str | None


class LiveTask(NamedTuple):
    """A task of a schedule that has not ended."""

    id: UUID
    is_running: bool
    hold_reason: str | None


@dataclass(frozen=True, kw_only=True)
class NewFire:
    """What came of a time: a task where it is `enqueued`, a sentence where it is `refused`."""

    fire_at: datetime
    outcome: Outcome
    task_id: UUID | None = None
    missed_count: int = 0
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Troubled:
    """A schedule that does not do what it should: for how long it has been due, and why its last fire was refused."""

    name: str
    overdue_seconds: float
    refusal: str | None


def history(connection: Connection, schedule_id: UUID, *, limit: int, before: datetime | None = None) -> list[FireRow]:
    """Return a schedule's fires, newest first; a next page goes on `before` the last time of this one."""
    values = {"id": schedule_id, "limit": limit, "before": before}
    return [FireRow(*in_utc(row)) for row in QUERIES.run(connection, "history", values)]


def last_of_each(connection: Connection, schedule_ids: Sequence[UUID]) -> dict[UUID, FireRow]:
    """Return the last fire of each of some schedules; one that never fired has none."""
    rows = QUERIES.run(connection, "last_of_each", {"ids": list(schedule_ids)})
    return {schedule_id: FireRow(*in_utc(fire)) for schedule_id, *fire in rows}


def due(connection: Connection, limit: int, besides: Sequence[UUID] = ()) -> list[UUID]:
    """Return schedules, `besides` some, whose time has come, or whose clock was set back."""
    return [row[0] for row in QUERIES.run(connection, "due", {"limit": limit, "besides": list(besides)})]


def due_in(connection: Connection, besides: Sequence[UUID] = ()) -> float | None:
    """Return the seconds until the next schedule, `besides` some, is due, by Postgres' clock; None: none is to come."""
    [(seconds,)] = QUERIES.run(connection, "due_in", {"besides": list(besides)})
    return None if seconds is None else float(seconds)


def lock(connection: Connection, schedule_id: UUID) -> bool:
    """Take a live schedule for this transaction; return False where somebody has it, or it is not live any more."""
    return bool(QUERIES.run(connection, "lock", {"id": schedule_id}))


def look_again(connection: Connection) -> int:
    """Have schedules looked at that follow a zone's clock; return how many. The rules of a zone may be new."""
    return QUERIES.count(connection, "look_again")


def fires_at(connection: Connection, schedule_id: UUID, times: Sequence[datetime]) -> dict[datetime, bool]:
    """Return those of some times that are settled, and whether a task came of each."""
    values = {"id": schedule_id, "times": list(times)}
    return {fire_at: has_task for fire_at, has_task in map(in_utc, QUERIES.run(connection, "fires_at", values))}


def times_between(
    connection: Connection, schedule_id: UUID, *, after: datetime, before: datetime, limit: int
) -> list[datetime]:
    """Return the settled times between two, neither of them included; those by hand are none."""
    values = {"id": schedule_id, "after": after, "before": before, "limit": limit}
    return [row[0] for row in QUERIES.run(connection, "times_between", values)]


def note_missed(connection: Connection, schedule_id: UUID, fire_at: datetime, missed_count: int) -> None:
    """Say of a time that is settled how many before it were missed and have no row."""
    QUERIES.run(connection, "note_missed", {"id": schedule_id, "fire_at": fire_at, "missed_count": missed_count})


def live_tasks(connection: Connection, schedule_id: UUID) -> list[LiveTask]:
    """Return a schedule's tasks that have not ended, the first ten of them."""
    return [LiveTask(*row) for row in QUERIES.run(connection, "live_tasks", {"id": schedule_id})]


def enqueue_held(
    connection: Connection, schedule: ScheduleRow, *, run_after: datetime, metadata: Mapping[str, Any]
) -> UUID:
    """Write a schedule's task past the checks of an enqueue: one that cannot run is held; return its id."""
    values = schedule.columns() | {"id": schedule.id, "run_after": run_after, "metadata": Jsonb(dict(metadata))}
    [(task_id,)] = QUERIES.run(connection, "enqueue_held", values)
    return UUID(str(task_id))


def fire(connection: Connection, schedule_id: UUID, what: NewFire, now: datetime | None = None) -> bool:
    """Settle a time; return False where a task came of it before, and nothing was written.

    `now` is what Postgres' clock said when it was decided what becomes of it; without it, what it says now.
    """
    values = {field.name: getattr(what, field.name) for field in fields(NewFire)}
    return bool(QUERIES.run(connection, "fire", values | {"id": schedule_id, "is_manual": False, "now": now}))


def fire_by_hand(connection: Connection, schedule: ScheduleRow, task_id: UUID) -> datetime:
    """Note a fire of this moment that an operator asked for, with its audit event; return the moment."""
    values = {"id": schedule.id, "task_id": task_id}
    while not (rows := QUERIES.run(connection, "fire_by_hand", values)):
        continue  # a scheduler settles this very microsecond: the next one is free
    what = Resource(OWNER_KIND, schedule.name, schedule.tenant_id)
    record(connection, "schedule.run", "schedule run by an operator", what, metadata={"task_id": str(task_id)})
    moment: datetime = rows[0][0]
    return moment


def settle(
    connection: Connection,
    schedule_id: UUID,
    *,
    settled_at: datetime,
    next_fire_at: datetime | None,
    last_fire_at: datetime | None,
) -> None:
    """Say up to when a schedule's times are settled, and when to look again; no `last_fire_at` leaves that one."""
    values = {"settled_at": settled_at, "next_fire_at": next_fire_at, "last_fire_at": last_fire_at}
    QUERIES.run(connection, "settle", values | {"id": schedule_id})


def prune(connection: Connection, *, days: int, limit: int) -> int:
    """Forget fires that are older; return how many, at most `limit`."""
    return QUERIES.count(connection, "prune", {"days": days, "limit": limit})


def is_any(connection: Connection) -> bool:
    """Return whether there is a schedule that a scheduler has to fire."""
    return QUERIES.run(connection, "is_any") == [(True,)]


def troubled(connection: Connection, seconds: float) -> list[Troubled]:
    """Return schedules that are overdue by so many seconds, and those whose last fire was refused, by name."""
    return [Troubled(*row) for row in QUERIES.run(connection, "troubled", {"seconds": seconds})]
