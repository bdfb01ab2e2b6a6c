"""Cron expressions over wall-clock time: what is accepted, and the next match.

Five fields (minute, hour, day of month, month, day of week) or six with the seconds FIRST, as Quartz, Spring and
cronsim have them; or `@yearly`, `@annually`, `@monthly`, `@weekly`, `@daily`, `@midnight`, `@hourly`. An item of a
field is `*`, a number, a range `a-b`, each with an optional step `/n` (`a/n` runs from a to the field's end), or a list
of those. Months and weekdays have English names of three letters; weekdays 0 and 7 are both Sunday. Days of the month
take `L` (the last), `15W` (the weekday, Monday to Friday, nearest to the 15th within its month; none where the month
has no such day) and `LW` (the last weekday); days of the week take `5L` (the month's last Friday) and `5#2` (its
second). Ranges do not wrap.

Day of month and day of week, both restricted: either matches. A field that begins with `*` (`*/2` too) is not
restricted, and then both have to match: crontab(5), "If both fields are restricted (i.e., do not start with *), the
command will be run when either field matches the current time". `?` and `@reboot` are refused: Quartz, where `?` comes
from, counts Sunday as 1.

Text is held against these rules before a number is expanded, so that no input costs more than its length. What is left
is cronsim's, on naive datetimes: it knows no zone here.
"""

import calendar
import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from itertools import product

from cronsim import CronSim, CronSimError
from cronsim.explain import Expression

from core.errors import ScheduleError

LONGEST = 200
"""Characters of an expression, at most."""

LAST_YEAR = 9900
"""Beyond it nothing matches, so that sums of dates stay within what datetime holds."""


_START = datetime.fromisoformat("2000-01-01")
_YEARS = tuple({(calendar.weekday(year, 1, 1), calendar.isleap(year)): year for year in range(2001, 2029)}.values())
"""One year of each of the 14 kinds that there are."""


@dataclass(frozen=True, slots=True)
class _Field:
    """One field: its numbers, their names (the first one names `lowest`), and its items that are not numbers."""

    name: str
    lowest: int
    highest: int
    names: tuple[str, ...] = ()
    special: re.Pattern[str] | None = None
    allowed: str = ""


_DAYS = "L, LW, 1W to 31W"
_WEEKDAYS = "5L (the last Friday of a month), 5#2 (its second)"
_FIELDS = (
    _Field("second", 0, 59),
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31, special=re.compile(r"(?:L|LW|([0-9]{1,2})W)"), allowed=_DAYS),
    _Field("month", 1, 12, names=tuple(name.upper() for name in calendar.month_abbr[1:])),
    _Field(
        "day of week",
        0,
        7,
        names=("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"),
        special=re.compile(r"([0-9]|[A-Z]{3})(?:L|#[1-5])"),
        allowed=_WEEKDAYS,
    ),
)
_DAY = 3
_WEEKDAY = 5
_NICKNAMES = {
    "@YEARLY": "0 0 1 1 *",
    "@ANNUALLY": "0 0 1 1 *",
    "@MONTHLY": "0 0 1 * *",
    "@WEEKLY": "0 0 * * 0",
    "@DAILY": "0 0 * * *",
    "@MIDNIGHT": "0 0 * * *",
    "@HOURLY": "0 * * * *",
}
_PLAIN = re.compile(r"(?:\*|([0-9]+|[A-Z]{3})(?:-([0-9]+|[A-Z]{3}))?)(?:/([0-9]+))?")


class Cron:
    """A cron expression that was read and does match; equal texts are equal."""

    def __init__(self, text: str) -> None:
        """Read `text`; raise ScheduleError, whose sentence names the field, if it is wrong or never matches."""
        self.text = text
        self._fields = _read(text)
        try:
            self._walls = _Walls(self._fields)  # it sees a 30 or 31 of short months by itself
            matches = any(self._walls.match_day(day) for day in _days_of(self._walls.months))
        except CronSimError:
            matches = False
        if not matches:
            raise ScheduleError(f"cron {text!r} never matches: none of its months has such a day")

    def next_after(self, wall: datetime) -> datetime | None:
        """Return the first naive wall time that matches, strictly after the naive `wall`; whole seconds.

        None if there is none for 50 years, which no expression that matches at all comes to: the rarest, a weekday
        on 29 February, leaves out 40 (2072 to 2112).
        """
        walls = copy.copy(self._walls)
        walls.dt = wall.replace(microsecond=0)
        found = next(walls, None) if wall.year < LAST_YEAR else None
        return found if found is None or found.year < LAST_YEAR else None

    def describe(self) -> str:
        """Say the expression in English words, beginning in lower case."""
        fields = list(self._fields)
        days = fields[_DAY]
        if any(map(_is_nearest, days.split(","))):
            fields[_DAY] = "*"
            dates = " and ".join(_words_of_day(item) for item in days.split(","))
            link = ", on " if fields[_WEEKDAY].startswith("*") or days.startswith("*") else ", or on "
            return _explained(fields).replace(" every day", "") + link + dates
        return _explained(fields)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Cron) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Cron({self.text!r})"


class _Walls(CronSim):
    """cronsim's iterator over naive datetimes, which knows the nearest weekday too."""

    def __init__(self, fields: list[str]) -> None:
        days = fields[_DAY].split(",")
        self.nearest = tuple(int(item[:-1]) for item in days if _is_nearest(item))
        known = [item for item in days if not _is_nearest(item)]
        if self.nearest:  # cronsim wants a day, and would refuse 31 in February, which is not all there is
            known.append("L")
        super().__init__(" ".join([*fields[:_DAY], ",".join(known), *fields[_DAY + 1 :]]), _START)
        if self.nearest and "L" not in days:
            self.days.remove(self.LAST)
        self.day_and = fields[_DAY].startswith("*") or fields[_WEEKDAY].startswith("*")

    def match_dom(self, d: date) -> bool:
        return super().match_dom(d) or d.day in _nearest_weekdays(d.year, d.month, self.nearest)


def _days_of(months: set[int]) -> Iterator[date]:
    """Yield all days that these months can have: with each length, and beginning on each day of the week."""
    for year, month in product(_YEARS, sorted(months)):
        for day in range(1, calendar.monthrange(year, month)[1] + 1):
            yield date(year, month, day)


@lru_cache(maxsize=1024)
def _nearest_weekdays(year: int, month: int, days: tuple[int, ...]) -> frozenset[int]:
    """Return the day of the month, Monday to Friday, that is nearest to each of `days`; none for a day it lacks."""
    first, last = calendar.monthrange(year, month)
    return frozenset(_nearest_weekday((first + day - 1) % 7, day, last) for day in days if day <= last)


def _nearest_weekday(weekday: int, day: int, last: int) -> int:
    if weekday == calendar.SATURDAY:
        return day - 1 if day > 1 else day + 2
    if weekday == calendar.SUNDAY:
        return day + 1 if day < last else day - 2
    return day


def _is_nearest(item: str) -> bool:
    return item.endswith("W") and item != "LW"


def _read(text: str) -> list[str]:
    """Return the six fields in numbers, within their bounds."""
    if len(text) > LONGEST:
        raise ScheduleError(f"a cron expression has at most {LONGEST} characters; this one has {len(text)}")
    fields = text.upper().split()
    if fields and fields[0].startswith("@"):
        fields = _nickname(text)
    if len(fields) == 5:
        fields.insert(0, "0")
    if len(fields) != 6:
        raise ScheduleError(
            f"cron {text!r} has not five or six fields but {len(fields)}: write five (minute, hour, day of month,"
            " month, day of week) or six (second, then those)"
        )
    return [
        ",".join(_item(text, field, item) for item in written.split(","))
        for field, written in zip(_FIELDS, fields, strict=True)
    ]


def _nickname(text: str) -> list[str]:
    meant = _NICKNAMES.get(text.upper().strip())
    if meant is None:
        raise ScheduleError(f"cron {text!r} is unknown: write fields, or one of {', '.join(_NICKNAMES).lower()}")
    return meant.split()


def _item(text: str, field: _Field, item: str) -> str:
    """Return one item with its names as numbers."""
    plain = _PLAIN.fullmatch(item)
    if plain is None:
        return _special(text, field, item)
    first, last, step = plain.groups()
    if step is not None and not 1 <= _number(step) <= field.highest:
        raise _refused(text, field, item, f"a step is 1 to {field.highest}")
    start = _value(text, field, item, first)
    end = _value(text, field, item, last)
    if start is not None and end is not None and end < start:
        raise _refused(text, field, item, f"a range does not wrap: write {_unwrapped(field, start, end)}")
    if start is not None and start == end:
        return str(start)  # of `21-21/3` cronsim would make `21/3`
    written = "*" if start is None else str(start)
    return written + ("" if end is None else f"-{end}") + ("" if step is None else f"/{int(step)}")


def _special(text: str, field: _Field, item: str) -> str:
    """Return an item that only days have: L, W, #."""
    found = field.special.fullmatch(item) if field.special else None
    if found is None:
        raise _refused(text, field, item)
    written = found.group(1)
    value = _value(text, field, item, written)
    return item if value is None else f"{value}{item[len(written) :]}"


def _value(text: str, field: _Field, item: str, written: str | None) -> int | None:
    """Return the number that a number or a name stands for; None for none."""
    if written is None:
        return None
    value = field.lowest + field.names.index(written) if written in field.names else _number(written)
    if not field.lowest <= value <= field.highest:
        raise _refused(text, field, item)
    return value


def _number(written: str) -> int:
    """Return the number that is written, and -1, which no field takes, for a name."""
    return int(written) if written.isdigit() else -1


def _refused(text: str, field: _Field, item: str, why: str = "") -> ScheduleError:
    allowed = f"it takes {field.lowest} to {field.highest}"
    if field.names:
        allowed += f", {field.names[0]} to {field.names[-1]}"
    allowed += f", *, ranges a-b, steps /n, lists a,b{', ' if field.allowed else ''}{field.allowed}"
    return ScheduleError(f"cron {text!r}: the {field.name} {item!r} is not understood: {why or allowed}")


def _unwrapped(field: _Field, start: int, end: int) -> str:
    if field.name == "day of week" and end == 0:
        return f"{start}-7"
    return f"{start}-{field.highest},{field.lowest}-{end}"


def _explained(fields: list[str]) -> str:
    said = Expression(list(fields)).explain()
    return said[0].lower() + said[1:]


def _words_of_day(item: str) -> str:
    if item == "L":
        return "the last day"
    if item == "LW":
        return "the last weekday"
    return f"the weekday nearest to day {item[:-1]}" if _is_nearest(item) else f"day {item}"
