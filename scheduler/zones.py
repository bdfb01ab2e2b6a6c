"""Local time: which zones there are, and which wall times an hour of UTC shows.

Zones come from the package tzdata, never from the machine's files: schedulers on several machines must agree on each
instant, since it is the key of a fire. The lock pins the package, and one update moves all.

Daylight saving has no rule of its own here. Time in a zone is a row of stretches of one offset each; in a stretch UTC
is wall time minus that offset. Where the offset grows, wall times are left out: under the policy `shift` they are a
stretch more, with the offset of before (RFC 5545, 3.3.5, and PEP 495, fold=0), so that they come later by what was left
out. Where the offset shrinks, wall times come twice: `first` takes them off the later stretch, `second` off the earlier
one. This holds for a step of any size and cause.
"""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from importlib import resources
from itertools import pairwise
from zoneinfo import ZoneInfo

from core.errors import ScheduleError
from core.times import Fold, Gap

_STEP = timedelta(days=1)
_MARGIN = timedelta(days=2)
"""More than any step of an offset: two days of offset are the most that a datetime can have between them."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """The naive UTC times `start` to `end` (exclusive), each of which shows the wall time that is `offset` later."""

    start: datetime
    end: datetime
    offset: timedelta


@dataclass(frozen=True, slots=True)
class _Change:
    """The naive UTC time at which an offset begins, and the one before it."""

    at: datetime
    before: timedelta
    after: timedelta


@lru_cache(maxsize=1)
def zone_names() -> frozenset[str]:
    """Return the names of all zones."""
    return frozenset(resources.files("tzdata").joinpath("zones").read_text("utf-8").split())


@lru_cache(maxsize=1024)
def load_zone(name: str) -> ZoneInfo:
    """Return a zone; raise ScheduleError, which lists names like it, if there is none of that name."""
    if name not in zone_names():
        raise ScheduleError(_unknown(name))
    with resources.files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


@lru_cache(maxsize=4096)
def stretches(name: str, gap: Gap, fold: Fold, month: int) -> tuple[Stretch, ...]:
    """Return a UTC month's stretches, by their starts; `month` counts from the year 0 (year * 12 + month - 1).

    Under gap=`shift` two may overlap. A wall time that belongs to no stretch of any month does not fire.
    """
    first, end = month_start(month), month_start(month + 1)
    found = []
    for stretch in _around(load_zone(name), gap, fold, first - _MARGIN, end + _MARGIN):
        start, stop = max(stretch.start, first), min(stretch.end, end)
        if start < stop:
            found.append(Stretch(start, stop, stretch.offset))
    return tuple(sorted(found, key=lambda stretch: stretch.start))


def month_of(moment: datetime) -> int:
    """Return the number of a datetime's month."""
    return moment.year * 12 + moment.month - 1


def month_start(month: int) -> datetime:
    """Return a month's first moment, naive."""
    return datetime.combine(date(month // 12, month % 12 + 1, 1), time.min)


def _unknown(name: str) -> str:
    shown = name if len(name) <= 60 else name[:60] + "…"
    folded = {known.lower(): known for known in sorted(zone_names())}
    tails = {known.rpartition("/")[2]: known for known in folded}
    asked = name[:60].lower().replace(" ", "_")
    near = difflib.get_close_matches(asked, [*folded, *tails], n=3, cutoff=0.6)
    names = dict.fromkeys(folded[tails.get(match, match)] for match in near)
    return f"zone {shown!r} is unknown: write " + (
        " or ".join(names) if names else "a name of the IANA time zone database, such as Europe/Berlin or UTC"
    )


def _around(zone: ZoneInfo, gap: Gap, fold: Fold, first: datetime, end: datetime) -> Iterator[Stretch]:
    edges = list(_changes(zone, first, end))
    opening = _Change(first, _offset(zone, first), _offset(zone, first))
    closing = _Change(end, _offset(zone, end), _offset(zone, end))
    for begins, ends in pairwise([opening, *edges, closing]):
        grown = begins.after - begins.before
        shrunk = ends.before - ends.after
        start = begins.at - grown if fold == "first" and grown < timedelta(0) else begins.at
        stop = ends.at - shrunk if fold == "second" and shrunk > timedelta(0) else ends.at
        yield Stretch(start, stop, begins.after)
        if gap == "shift" and grown > timedelta(0):
            yield Stretch(begins.at, begins.at + grown, begins.before)


def _changes(zone: ZoneInfo, first: datetime, end: datetime) -> Iterator[_Change]:
    """Find by halves the second at which each offset begins. Since 1970 no zone has changed twice within a week."""
    start, before = first, _offset(zone, first)
    while start < end:
        stop = min(start + _STEP, end)
        after = _offset(zone, stop)
        if after != before:
            low, high = 0, int((stop - start).total_seconds())
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (
                    (middle, high) if _offset(zone, start + timedelta(seconds=middle)) == before else (low, middle)
                )
            yield _Change(start + timedelta(seconds=high), before, after)
        start, before = stop, after


def _offset(zone: ZoneInfo, moment: datetime) -> timedelta:
    offset = moment.replace(tzinfo=UTC).astimezone(zone).utcoffset()
    return timedelta(0) if offset is None else offset
