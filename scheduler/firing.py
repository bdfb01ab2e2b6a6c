"""Firing: the times of one schedule that have come are settled, each once, in one transaction on Postgres' clock.

A look locks the schedule's row and then, in a statement of its own, reads it with the clock: whoever comes at the same
moment passes by, and who comes later sees what was settled. Times are those of the trigger behind `settled_at`. One
that is settled later than `misfire` is missed, and the schedule's policy says what becomes of it; its overlap policy
says what becomes of one while a task of the schedule lives. Each leaves a row of `queue.fires`, whose key is the
guarantee (invariant I4), in the transaction that enqueues its task. docs/schedules.md has the rules.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from itertools import islice
from typing import NamedTuple
from uuid import UUID

import psycopg

from core import events
from core.errors import (
    InvalidOptionsError,
    InvalidPayloadError,
    NotFoundError,
    ScheduleError,
    UnknownTaskTypeError,
)
from core.times import Times
from db import fires, schedules
from db.connection import Connection
from db.fires import NewFire, Outcome
from db.queries import transaction
from db.schedules import ScheduleRow, ScheduleSpec
from pipelines.enqueue import Options, enqueue_fields
from scheduler.triggers import Trigger, TriggerSpec, build_trigger, fires_between

# Times that one look settles: each that is enqueued takes a savepoint, of which Postgres keeps 64 at hand.
_TIMES_A_LOOK = 50
# Missed times are counted up to here.
_MOST_COUNTED = 10_000
# When a schedule is looked at again whose times cannot be worked out: a zone may come back with the next release, or be
# known to another scheduler already.
_LOOK_AGAIN = timedelta(hours=1)
_MOST_LETTERS = 2000


class Due(NamedTuple):
    """A time that has come; `missed` others before it were missed, and have no row. `is_missed`: it was itself."""

    at: datetime
    is_missed: bool
    missed: int = 0


@dataclass(frozen=True, slots=True)
class Firer:
    """Settles schedules. `misfire` is how late a fire may be; `draw` returns a number from 0 to what it is given."""

    misfire: timedelta
    draw: Callable[[float], float] = field(default=lambda most: random.uniform(0.0, most))  # noqa: S311 - spreads load

    def look(self, connection: Connection, schedule_id: UUID) -> bool:
        """Settle what is due of a schedule, in a transaction of its own; return False where somebody else has it.

        At most fifty times: where there are more, the schedule is still due. Raises UnavailableError.
        """
        with transaction(connection):
            if not fires.lock(connection, schedule_id):
                return False
            found = schedules.read(connection, schedule_id)
            if found is None:
                raise NotFoundError(f"the schedule {schedule_id} is locked and is not there")
            now, row = found
            look = _Look(connection, self, now)
            look.settle(row)
        for event in look.told:
            events.emit(event)
        return True


class _Look:
    """One look at one schedule, at `now`; `told` is what there is to say once it is committed."""

    def __init__(self, connection: Connection, firer: Firer, now: datetime) -> None:
        self._connection = connection
        self._firer = firer
        self._now = now
        self.told: list[events.Event] = []

    def settle(self, row: ScheduleRow) -> None:
        """Settle the times up to `now`, and say when to look again."""
        now = self._now
        try:
            trigger = build_trigger(times_of(row, min(row.settled_at, now)))
        except ScheduleError as error:
            self._give_up(row, str(error))
            return
        if row.settled_at > now:  # nothing is due then, and it goes on from now
            self.told.append(events.ClockSetBack(row.name, (row.settled_at - now).total_seconds()))
        found = list(islice(due_times(trigger, row, row.settled_at, now, self._firer.misfire), _TIMES_A_LOOK + 1))
        settled = self._counted(trigger, row, found[:_TIMES_A_LOOK])
        until = settled[-1].at if len(found) > _TIMES_A_LOOK else now
        taken = fires.fires_at(self._connection, row.id, [due.at for due in settled])
        for due in settled:
            if taken.get(due.at):
                self._count(row, due)
            elif (fired := self._fire(row, due)) is not None:
                self._tell(row, fired)
        fires.settle(
            self._connection,
            row.id,
            settled_at=until,
            next_fire_at=trigger.get_next_fire_time(until, until),
            last_fire_at=settled[-1].at if settled else None,
        )

    def _counted(self, trigger: Trigger, row: ScheduleRow, settled: list[Due]) -> list[Due]:
        """Return them, the first with its count less what is settled: a clock was set back to before that."""
        if not settled or not settled[0].missed:
            return settled
        first = settled[0]
        known = fires.times_between(
            self._connection, row.id, after=row.settled_at, before=first.at, limit=_MOST_COUNTED
        )
        ours = sum(next(fires_between(trigger, at - timedelta.resolution, at), None) is not None for at in known)
        return [first._replace(missed=max(first.missed - ours, 0)), *settled[1:]]

    def _count(self, row: ScheduleRow, due: Due) -> None:
        """Note what was missed before a time that has its task already, from before the clock was set back."""
        if due.missed:
            fires.note_missed(self._connection, row.id, due.at, due.missed)

    def _fire(self, row: ScheduleRow, due: Due) -> NewFire | None:
        """Settle one time: it is missed, overlaps, is enqueued, or is refused; None where it has its task already."""
        if due.is_missed and row.missed == "skip":
            return self._without_task(row, due, "missed")
        parents = self._parents(row)
        if parents is None:
            return self._without_task(row, due, "overlapped")
        jitter = self._firer.draw(row.jitter.total_seconds()) if row.jitter else 0.0
        run_after = (self._now if due.is_missed else due.at) + timedelta(seconds=jitter)
        try:
            return self._enqueue(row, due, run_after, parents)
        except (UnknownTaskTypeError, InvalidPayloadError) as error:
            return self._hold(row, due, run_after, str(error))
        except InvalidOptionsError as error:
            return self._without_task(row, due, "refused", str(error))

    def _parents(self, row: ScheduleRow) -> list[UUID] | None:
        """Return the tasks that a new one has to wait for; None where there is to be no new one."""
        if row.overlap == "allow":
            return []
        live = fires.live_tasks(self._connection, row.id)
        if row.overlap == "skip":
            return None if live else []
        # one runs and one waits: whoever has not begun is the one that waits
        return [task.id for task in live] if all(task.is_running for task in live) else None

    def _enqueue(self, row: ScheduleRow, due: Due, run_after: datetime, parents: list[UUID]) -> NewFire | None:
        options = task_options(row, due.at)
        options["run_after"] = run_after
        if parents:
            options["depends_on"] = parents
            options["on_parent_failed"] = "run"
        with self._connection.transaction():
            task_id = enqueue_fields(self._connection, row.task_type, row.payload, **options)
            return self._with_task(row, due, task_id)

    def _hold(self, row: ScheduleRow, due: Due, run_after: datetime, problem: str) -> NewFire | None:
        """Write a task that is held until it can run; only one of a schedule, or they would pile up."""
        if any(task.hold_reason for task in fires.live_tasks(self._connection, row.id)):
            return self._without_task(row, due, "refused", problem)
        metadata = task_options(row, due.at)["metadata"]
        with self._connection.transaction():
            task_id = fires.enqueue_held(self._connection, row, run_after=run_after, metadata=metadata)
            return self._with_task(row, due, task_id, problem)

    def _with_task(self, row: ScheduleRow, due: Due, task_id: UUID, held: str | None = None) -> NewFire:
        """Write the row of a time whose task there is; rolls both back, for a None, where it has one already."""
        error = None if held is None else held[:_MOST_LETTERS]
        fired = NewFire(fire_at=due.at, outcome="enqueued", task_id=task_id, missed_count=due.missed, error=error)
        if not fires.fire(self._connection, row.id, fired, self._now):
            raise psycopg.Rollback
        return fired

    def _without_task(self, row: ScheduleRow, due: Due, outcome: Outcome, error: str | None = None) -> NewFire:
        told = None if error is None else error[:_MOST_LETTERS]
        fired = NewFire(fire_at=due.at, outcome=outcome, missed_count=due.missed, error=told)
        fires.fire(self._connection, row.id, fired, self._now)
        return fired

    def _tell(self, row: ScheduleRow, fired: NewFire) -> None:
        if fired.error is not None:
            self.told.append(events.ScheduleRefused(row.name, row.task_type, fired.error, fired.task_id))
        if fired.outcome != "refused":
            late = (self._now - fired.fire_at).total_seconds()
            what = (fired.outcome, late, fired.missed_count, fired.task_id)
            self.told.append(events.ScheduleFired(row.name, row.task_type, *what))

    def _give_up(self, row: ScheduleRow, problem: str) -> None:
        """Leave a schedule for later whose times cannot be worked out, and say so; they are not settled by that."""
        fired = self._without_task(row, Due(row.next_fire_at or self._now, is_missed=False), "refused", problem)
        later = self._now + _LOOK_AGAIN
        until = min(row.settled_at, self._now)
        fires.settle(self._connection, row.id, settled_at=until, next_fire_at=later, last_fire_at=None)
        self._tell(row, fired)


def run_now(connection: Connection, name: str) -> UUID:
    """Enqueue a schedule's task at once, whatever its times and policies, as an operator; return the task's id.

    A fire of its own, at this moment, with its audit event; nobody removes the schedule meanwhile. Raises
    NotFoundError, and as `enqueue` does.
    """
    with connection.transaction():
        row = schedules.wanted(connection, name)
        task_id = enqueue_fields(connection, row.task_type, row.payload, **task_options(row, None))
        fires.fire_by_hand(connection, row, task_id)
    return task_id


def next_fire(row: ScheduleRow) -> datetime | None:
    """Return the next time of a schedule, also of one that was changed since a scheduler looked; None: no more.

    Raises ScheduleError where the times cannot be worked out.
    """
    if row.next_fire_at is None or row.next_fire_at > row.settled_at:
        return row.next_fire_at
    trigger = build_trigger(times_of(row, row.settled_at))
    return trigger.get_next_fire_time(row.settled_at, row.settled_at)


def times_of(row: ScheduleRow, since: datetime) -> TriggerSpec:
    """Return when a schedule fires, for the times after `since`.

    An interval counts from the schedule's making. Where that comes later, because the clock was set back before it, as
    many intervals before it as it takes.
    """
    anchor = row.created_at
    if row.every is not None and anchor > since:
        anchor += (since - anchor) // row.every * row.every
    return trigger_spec(row, anchor)


def trigger_spec(spec: ScheduleSpec, anchor: datetime) -> TriggerSpec:
    """Return when a schedule of that spec fires; `anchor` is its making, from which an interval counts."""
    return TriggerSpec(**{each.name: getattr(spec, each.name) for each in fields(Times)}, anchor=anchor)


def due_times(
    trigger: Trigger, spec: ScheduleSpec, since: datetime, now: datetime, misfire: timedelta
) -> Iterator[Due]:
    """Yield the times after `since` up to `now` that are to be settled, oldest first.

    Of those that are missed the last, or by the policy `all` the last `missed_limit`; the first that is yielded counts
    the others.
    """
    edge = max(now - misfire - timedelta.resolution, since)
    most = spec.missed_limit if spec.missed == "all" else 1
    last, count = _last_between(trigger, since, edge, most)
    for place, at in enumerate(last):
        yield Due(at, is_missed=True, missed=count - len(last) if place == 0 else 0)
    for at in fires_between(trigger, edge, now):
        yield Due(at, is_missed=False)


def _last_between(trigger: Trigger, since: datetime, until: datetime, most: int) -> tuple[list[datetime], int]:
    """Return the last times after `since` up to `until`, and how many there are, or that they are too many to count.

    However many there are, it takes little time and room: too many of them are looked for from behind.
    """
    found = list(islice(fires_between(trigger, since, until), _MOST_COUNTED))
    if len(found) < _MOST_COUNTED:
        return found[-most:], len(found)
    span, too_short, too_long = timedelta(hours=1), timedelta(0), until - since
    while not most <= len(found) < _MOST_COUNTED:
        found = list(islice(fires_between(trigger, until - span, until), _MOST_COUNTED))
        if len(found) < most:
            too_short = span
        else:
            too_long = span
        span = min(4 * too_short or too_long, too_short + (too_long - too_short) / 2)
    return found[-most:], _MOST_COUNTED


def task_options(row: ScheduleRow, at: datetime | None) -> Options:
    """Return how a schedule's task is enqueued, due now; `at` is the time that it is for."""
    metadata: dict[str, str] = {"schedule": row.name} | ({} if at is None else {"fire_at": at.isoformat()})
    options: Options = {"owner_kind": schedules.OWNER_KIND, "owner_id": row.id, "metadata": metadata}
    if row.queue is not None:
        options["queue"] = row.queue
    if row.priority is not None:
        options["priority"] = row.priority
    if row.tenant_id is not None:
        options["tenant_id"] = row.tenant_id
    return options
