"""When a schedule fires: what is written down of it, and APScheduler triggers made from that.

A trigger is a set of UTC instants and nothing else: it keeps no state, reads no clock, and two processes that ask it
the same question get the same instant, which is the key of a fire. Jitter, overlap and what was missed are none of its
business.

`get_next_fire_time(previous_fire_time, now)` is APScheduler 3's: the first fire strictly after `previous_fire_time`,
however long ago that is; without one, the first at or after `now`. Both are aware; what comes back is aware and in UTC.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import get_args

from apscheduler.triggers.base import BaseTrigger

from core.errors import ScheduleError
from scheduler.cron import LAST_YEAR, Cron
from scheduler.zones import Fold, Gap, Stretch, load_zone, month_of, month_start, stretches

SHORTEST = timedelta(seconds=1)
LONGEST = timedelta(days=366)
HORIZON_MONTHS = 50 * 12
"""How far a cron trigger looks ahead, from its last question, for a wall time that its zone and policies let fire."""

_INSTANT = timedelta(microseconds=1)
_SECOND = timedelta(seconds=1)
_WIDEST = timedelta(days=2)
_EPOCH = datetime.fromisoformat("1970-01-01")


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerSpec:
    """When a schedule fires: exactly one of `cron`, `every` and `at`. Datetimes are aware.

    `cron` is read on the wall clock of `zone`. `gap` says what becomes of its wall times that daylight saving leaves
    out (later by the length of the gap, or not at all), `fold` at which of two occurrences those that come twice fire.
    `every` counts in UTC from `starts_at`, which is its first fire, or from the whole second of `anchor`, one interval
    after which is its first. No fire is before `starts_at` or after `ends_at`.
    """

    cron: str | None = None
    every: timedelta | None = None
    at: datetime | None = None
    zone: str = "UTC"
    gap: Gap = "shift"
    fold: Fold = "first"
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    anchor: datetime | None = None


@BaseTrigger.register
class Trigger(ABC):
    """What all triggers share: APScheduler's question, and the bounds."""

    def __init__(self, spec: TriggerSpec) -> None:
        self._starts_at = None if spec.starts_at is None else spec.starts_at.astimezone(UTC)
        self._ends_at = None if spec.ends_at is None else spec.ends_at.astimezone(UTC)

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        """Return the first fire after `previous_fire_time`, or without one not before `now`; None if there is none."""
        after = now.astimezone(UTC) - _INSTANT if previous_fire_time is None else previous_fire_time.astimezone(UTC)
        if self._starts_at is not None:
            after = max(after, self._starts_at - _INSTANT)
        found = self._next_after(after)
        return found if found is None or self._ends_at is None or found <= self._ends_at else None

    @abstractmethod
    def _next_after(self, after: datetime) -> datetime | None:
        """Return the first instant strictly after the UTC datetime `after`, bounds aside."""


class CronTrigger(Trigger):
    """The instants at which a zone's wall clock matches an expression, under the policies of daylight saving."""

    def __init__(self, spec: TriggerSpec, cron: Cron) -> None:
        super().__init__(spec)
        self._cron = cron
        self._zone = spec.zone
        self._gap = spec.gap
        self._fold = spec.fold

    def _next_after(self, after: datetime) -> datetime | None:
        naive = max(after.replace(tzinfo=None), _EPOCH)
        month = month_of(naive)
        end = month + HORIZON_MONTHS
        while month <= end and month // 12 < LAST_YEAR:
            found, wall = self._in_month(month, naive)
            if found is not None:
                return found.replace(tzinfo=UTC)
            following = month + 1
            # A month that lies wholly after `naive` shows that no wall time matches until `wall`. In the first one the
            # clock may still be set back to times before that, so its neighbour is looked at in any case.
            if month_start(month) > naive:
                if wall is None:
                    return None
                following = max(following, month_of(wall - _WIDEST))
            month = following
        return None

    def _in_month(self, month: int, after: datetime) -> tuple[datetime | None, datetime | None]:
        """Return the month's first fire after `after`, and the first wall time that matches at all, both naive."""
        fires: list[datetime] = []
        walls: list[datetime | None] = []
        for stretch in stretches(self._zone, self._gap, self._fold, month):
            if fires and stretch.start > min(fires):
                break
            if stretch.end > after:
                wall = self._cron.next_after(_wall_before(stretch, after))
                walls.append(wall)
                if wall is not None and wall - stretch.offset < stretch.end:
                    fires.append(wall - stretch.offset)
        return min(fires, default=None), min((wall for wall in walls if wall is not None), default=None)


class IntervalTrigger(Trigger):
    """Every so often, counted in UTC, from the spec's start or anchor."""

    def __init__(self, spec: TriggerSpec, every: timedelta) -> None:
        super().__init__(spec)
        if not SHORTEST <= every <= LONGEST or every % _SECOND:
            raise ScheduleError(f"an interval is 1 second to {LONGEST.days} days in whole seconds; this one is {every}")
        self._every = every
        origin = self._starts_at
        if origin is None:
            if spec.anchor is None:
                raise ScheduleError("an interval counts from a time: give starts_at or anchor")
            origin = spec.anchor.astimezone(UTC).replace(microsecond=0) + every
        self._first = origin

    def _next_after(self, after: datetime) -> datetime | None:
        if after < self._first:
            return self._first
        try:
            return self._first + ((after - self._first) // self._every + 1) * self._every
        except OverflowError:
            return None


class DateTrigger(Trigger):
    """One instant."""

    def __init__(self, spec: TriggerSpec, at: datetime) -> None:
        super().__init__(spec)
        self._at = at.astimezone(UTC)
        if self.get_next_fire_time(None, self._at) is None:
            raise ScheduleError(
                "a schedule's one date is before its start or after its end: move it, or drop that bound"
            )

    def _next_after(self, after: datetime) -> datetime | None:
        return self._at if self._at > after else None


def build_trigger(spec: TriggerSpec) -> Trigger:
    """Return the trigger that a specification says; raise ScheduleError, a sentence that says what to write instead."""
    _check_policies(spec)
    _check_bounds(spec)
    match spec:
        case TriggerSpec(cron=str(cron), every=None, at=None):
            return CronTrigger(spec, Cron(cron))
        case TriggerSpec(cron=None, every=timedelta() as every, at=None):
            return IntervalTrigger(spec, every)
        case TriggerSpec(cron=None, every=None, at=datetime() as at):
            return DateTrigger(spec, at)
        case _:
            raise ScheduleError(
                "a schedule fires by a cron expression, an interval or a date: give exactly one of them"
            )


def fires_between(trigger: Trigger, after: datetime, until: datetime) -> Iterator[datetime]:
    """Yield a trigger's fires after `after` (exclusive) until `until` (inclusive), in order; as many as there are."""
    fire = trigger.get_next_fire_time(after, after)
    while fire is not None and fire <= until:
        yield fire
        fire = trigger.get_next_fire_time(fire, fire)


def _wall_before(stretch: Stretch, after: datetime) -> datetime:
    """Return the wall time after which the next match is the stretch's first one after `after`."""
    return (after if after >= stretch.start else stretch.start - _SECOND) + stretch.offset


def describe(spec: TriggerSpec) -> str:
    """Say in plain English when a specification fires; policies of daylight saving where they are not the defaults.

    Raises ScheduleError as `build_trigger` does.
    """
    build_trigger(spec)
    if spec.cron is not None:
        said = _described_cron(spec, Cron(spec.cron))
    elif spec.every is not None:
        said = f"every {_span(spec.every)}"
    else:
        said = f"once, at {_moment(spec.at)}"
    if spec.starts_at is not None:
        said += f", from {_moment(spec.starts_at)}"
    if spec.ends_at is not None:
        said += f", until {_moment(spec.ends_at)}"
    return said


def _described_cron(spec: TriggerSpec, cron: Cron) -> str:
    said = f"{cron.describe()}, {spec.zone}"
    if load_zone(spec.zone).utcoffset(None) is not None:  # one offset for ever
        return said
    if spec.gap == "skip":
        said += ", not at times that daylight saving leaves out"
    if spec.fold == "second":
        said += ", at the second of times that come twice"
    if spec.fold == "both":
        said += ", at both of times that come twice"
    return said


def _span(every: timedelta) -> str:
    """Say an interval in the largest units that fit: "1 day and 30 minutes"."""
    rest = int(every.total_seconds())
    parts = []
    for unit, seconds in (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1)):
        count, rest = divmod(rest, seconds)
        if count:
            parts.append(f"{count} {unit}{'s' if count > 1 else ''}")
    if parts == [parts[0]] and parts[0].startswith("1 "):
        return parts[0].removeprefix("1 ")
    return " and ".join(parts) if len(parts) < 3 else ", ".join(parts[:-1]) + " and " + parts[-1]


def _moment(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _check_policies(spec: TriggerSpec) -> None:
    load_zone(spec.zone)
    if spec.gap not in get_args(Gap):
        raise ScheduleError(f"gap {spec.gap!r} is unknown: write {' or '.join(get_args(Gap))}")
    if spec.fold not in get_args(Fold):
        raise ScheduleError(f"fold {spec.fold!r} is unknown: write {' or '.join(get_args(Fold))}")


def _check_bounds(spec: TriggerSpec) -> None:
    for name in ("at", "starts_at", "ends_at", "anchor"):
        moment = getattr(spec, name)
        if moment is not None and moment.utcoffset() is None:
            raise ScheduleError(f"{name} has no zone: write an offset, such as {moment:%Y-%m-%dT%H:%M}+00:00")
    if spec.starts_at is not None and spec.ends_at is not None and spec.ends_at < spec.starts_at:
        raise ScheduleError("a schedule ends before it starts: move starts_at or ends_at")
