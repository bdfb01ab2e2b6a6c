"""When cron fires, by brute force: every minute of UTC is walked, and its wall time held against the expression.

Nothing here is shared with `scheduler`, nor with the library that it uses. A field is never expanded into a set: it is
asked, for one number after the other, whether it means that number. A gap is what a walk through UTC jumps over on the
wall clock, a fold what it shows twice. Offsets are read minute by minute, from the zone database alone.
"""

import calendar
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from importlib import resources
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int64]
Truths = npt.NDArray[np.bool_]

MINUTES_A_DAY = 1440
_RANGES = ((0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_NICKNAMES = {"@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0"}
_NICKNAMES |= {"@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *"}
_NAMES = {name.upper(): str(at) for at, name in enumerate(calendar.month_abbr) if name}
_NAMES |= {name.upper(): str((at + 1) % 7) for at, name in enumerate(calendar.day_abbr)}


class Asked:
    """An expression that is asked about one number, or one date, at a time."""

    def __init__(self, expression: str) -> None:
        fields = _NICKNAMES.get(expression, expression).upper().split()
        self.fields = fields if len(fields) == 6 else ["0", *fields]
        self.seconds = np.array([second for second in range(60) if self._means(0, second)], dtype=np.int64)
        self.times = np.array(
            [self._means(2, minute // 60) and self._means(1, minute % 60) for minute in range(MINUTES_A_DAY)]
        )
        self._days = np.full(80_000, -1, dtype=np.int8)  # what it said of each day since 1970; -1: not asked

    def hits(self, walls: Numbers) -> Truths:
        """Say of each wall minute since 1970 whether it matches."""
        days = walls // MINUTES_A_DAY
        if len(days):
            first, last = int(days.min()), int(days.max())
            for day in first + np.nonzero(self._days[first : last + 1] < 0)[0]:
                self._days[day] = self.has_day(date(1970, 1, 1) + timedelta(days=int(day)))
        hits: Truths = (self._days[days] > 0) & self.times[walls % MINUTES_A_DAY]
        return hits

    def has_day(self, day: date) -> bool:
        """Say whether a date matches; crontab(5): two restricted fields of days are alternatives."""
        if not self._means(4, day.month):
            return False
        of_month = any(self._day_of_month(item, day) for item in self.fields[3].split(","))
        of_week = any(self._day_of_week(item, day) for item in self.fields[5].split(","))
        if self.fields[3][0] == "*" or self.fields[5][0] == "*":
            return of_month and of_week
        return of_month or of_week

    def _means(self, field: int, number: int) -> bool:
        return any(_item_means(item, number, *_RANGES[field]) for item in self.fields[field].split(","))

    def _day_of_month(self, item: str, day: date) -> bool:
        last = calendar.monthrange(day.year, day.month)[1]
        if item == "L":
            return day.day == last
        workdays = [number for number in range(1, last + 1) if day.replace(day=number).isoweekday() < 6]
        if item == "LW":
            return day.day == workdays[-1]
        if item.endswith("W"):
            wanted = int(item[:-1])
            return wanted <= last and day.day == min(workdays, key=lambda number: abs(number - wanted))
        return _item_means(item, day.day, 1, 31)

    def _day_of_week(self, item: str, day: date) -> bool:
        if item.endswith("L"):
            return self._day_of_week(item[:-1], day) and (day + timedelta(days=7)).month != day.month
        if "#" in item:
            weekday, count = item.split("#")
            return self._day_of_week(weekday, day) and (day.day - 1) // 7 + 1 == int(count)
        sunday = day.isoweekday() == 7
        return _item_means(item, day.isoweekday(), 0, 7) or (sunday and _item_means(item, 0, 0, 7))


class Frame:
    """The minutes of UTC from `first` to `end` (exclusive; minutes since 1970) and the wall clock of a zone over them.

    Policies are right for what is more than two days inside of the frame: what is further back, it has not seen.
    """

    def __init__(self, zone: ZoneInfo, first: int, end: int) -> None:
        self.utc: Numbers = np.arange(first, end, dtype=np.int64)
        self.wall: Numbers = self.utc + np.array(
            [_offset(zone, minute) for minute in range(first, end)], dtype=np.int64
        )
        self.is_first = _first_of_each(self.wall)
        self.is_last = _first_of_each(self.wall[::-1])[::-1]
        shown = set(self.wall.tolist())
        left_out = []
        for jump in np.nonzero(np.diff(self.wall) > 1)[0]:
            before, after = int(self.wall[jump]), int(self.wall[jump + 1])
            # With the offset from before the jump, the clock would have come to it so many minutes later.
            left_out += [
                (int(self.utc[jump]) + wall - before, wall) for wall in range(before + 1, after) if wall not in shown
            ]
        self.shifted: Numbers = np.array(left_out, dtype=np.int64).reshape(-1, 2)


class Window:
    """The fires of one expression in one frame, under each policy."""

    def __init__(self, frame: Frame, asked: Asked, first: int, end: int) -> None:
        """Look at the UTC minutes from `first` to `end` (exclusive)."""
        low, high = first - int(frame.utc[0]), end - int(frame.utc[0])
        hits = asked.hits(frame.wall[low:high])
        utc = frame.utc[low:high]
        is_first, is_last = frame.is_first[low:high], frame.is_last[low:high]
        self._kept = {
            "first": utc[hits & is_first],
            "second": utc[hits & is_last],
            "both": utc[hits],
        }
        within = frame.shifted[(frame.shifted[:, 0] >= first) & (frame.shifted[:, 0] < end)]
        self._shifted = within[asked.hits(within[:, 1]), 0]
        self._seconds = asked.seconds

    @property
    def count(self) -> int:
        """How many fires there are at the most."""
        return (len(self._kept["both"]) + len(self._shifted)) * len(self._seconds)

    def fires(self, gap: str, fold: str, after: int, until: int) -> list[int]:
        """Return the seconds since 1970 of the fires in (after, until], in order, each once."""
        minutes = self._kept[fold]
        if gap == "shift":
            minutes = np.concatenate([minutes, self._shifted])
        minutes = minutes[(minutes >= after // 60) & (minutes <= until // 60)]
        seconds = np.unique(np.add.outer(minutes * 60, self._seconds))
        found: list[int] = seconds[(seconds > after) & (seconds <= until)].tolist()
        return found


def zone_of(name: str) -> ZoneInfo:
    """Return a zone as the package tzdata has it."""
    with (resources.files("tzdata") / "zoneinfo" / name).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


def all_zones() -> list[str]:
    """Return the names of the IANA time zone database."""
    return sorted((resources.files("tzdata") / "zones").read_text("utf-8").split())


@lru_cache(maxsize=1024)
def transitions(name: str, first_year: int, last_year: int) -> tuple[tuple[int, int], ...]:
    """Return (UTC minute, new offset in minutes) of each change in these years, the offset at their beginning first.

    UTC is walked in steps of three hours, and minute by minute where the offsets at a step's ends differ.
    """
    zone = zone_of(name)
    first, end = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) // 60 for year in (first_year, last_year + 1))
    now = _offset(zone, first)
    found = [(first, now)]
    for step in range(first, end, 180):
        if _offset(zone, step + 180) != now:
            for minute in range(step, step + 181):
                if _offset(zone, minute) != now:
                    now = _offset(zone, minute)
                    found.append((minute, now))
    return tuple(found)


def _item_means(item: str, number: int, lowest: int, highest: int) -> bool:
    """Say whether one item (`*`, `a`, `a-b`, with or without `/step`) means a number."""
    span, _, step = item.partition("/")
    start, dash, end = ("*", "", "") if span == "*" else span.partition("-")
    if start == "*":
        low, high = lowest, highest
    else:
        low = int(_NAMES.get(start, start))
        high = int(_NAMES.get(end, end)) if dash else (highest if step else low)
    return low <= number <= high and (number - low) % int(step or 1) == 0


def _first_of_each(values: Numbers) -> Truths:
    is_first = np.zeros(len(values), dtype=np.bool_)
    is_first[np.unique(values, return_index=True)[1]] = True
    return is_first


def _offset(zone: ZoneInfo, minute: int) -> int:
    """Return the zone's offset in minutes at a minute of UTC since 1970."""
    offset = datetime.fromtimestamp(minute * 60, zone).utcoffset()
    if offset is None or offset % timedelta(minutes=1):
        raise ValueError(f"{zone.key} has an offset of {offset}: the oracle walks whole minutes")
    return offset // timedelta(minutes=1)
