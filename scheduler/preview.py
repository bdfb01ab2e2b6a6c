"""What a schedule is going to do: its next fires as people read a clock, and what daylight saving does to each.

Nothing here decides when something fires: the instants are the trigger's.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

from scheduler.cron import Cron
from scheduler.triggers import TriggerSpec, build_trigger, fires_between
from scheduler.zones import load_zone

_SECOND = timedelta(seconds=1)
_DAY = timedelta(days=1)
"""No less than the longest time that a zone ever left out (Pacific/Apia, 30 December 2011)."""
_END = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Upcoming:
    """A fire to come: in UTC, on the zone's clock, and what daylight saving does to it, if it does anything."""

    at: datetime
    local: datetime
    note: str | None = None


def upcoming(spec: TriggerSpec, after: datetime, count: int) -> list[Upcoming]:
    """Return the first `count` fires after an instant, or as many as there are; raises ScheduleError."""
    fires = islice(fires_between(build_trigger(spec), after, _END), count)
    zone, cron = load_zone(spec.zone), None if spec.cron is None else Cron(spec.cron)
    return [Upcoming(at, at.astimezone(zone), None if cron is None else _note(at, zone, cron)) for at in fires]


def _note(at: datetime, zone: ZoneInfo, cron: Cron) -> str | None:
    """Say that a fire was moved out of a gap, or that its wall time comes twice."""
    local = at.astimezone(zone)
    wall = local.replace(tzinfo=None, fold=0)
    if cron.next_after(wall - _SECOND) != wall:
        meant = at.astimezone(UTC).replace(tzinfo=None) + _offset(at - _DAY, zone)
        return f"moved: daylight saving leaves out {meant.time().isoformat()}"
    if local.replace(fold=1 - local.fold).utcoffset() != local.utcoffset():
        return f"comes twice that day: the {'second' if local.fold else 'first'}"
    return None


def _offset(moment: datetime, zone: ZoneInfo) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta(0)
