"""The triggers' fires beside the oracle's: `make cron-oracle` compares all of them, the suite a sample.

Windows lie around transitions of a zone, and anywhere else. Of an expression that fires often the middle of a window is
compared, of one that fires all the time some seconds around each edge of what is left out or comes twice.
"""

import argparse
import multiprocessing
import random
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

from core.errors import ScheduleError
from scheduler.triggers import Trigger, TriggerSpec, build_trigger, fires_between
from scheduler.zones import Fold, Gap
from tests.support.cron_expressions import expressions
from tests.support.cron_oracle import Asked, Frame, Window, all_zones, transitions, zone_of

FIRST_YEAR, LAST_YEAR = 2024, 2030
POLICIES: tuple[tuple[Gap, Fold], ...] = (
    ("shift", "first"),
    ("shift", "second"),
    ("shift", "both"),
    ("skip", "first"),
    ("skip", "second"),
    ("skip", "both"),
)
_DAY = 1440
_MOST_IN_WINDOW = 60
_MOST_IN_MIDDLE = 120
_MOST_AT_EDGE = 60
_MOST_OVER_DAYS = 400


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Fires that differ: seconds since 1970, in (after, until]."""

    expression: str
    zone: str
    gap: str
    fold: str
    after: int
    until: int
    wanted: tuple[int, ...]
    found: tuple[int, ...]

    def __str__(self) -> str:
        said = f"{self.expression!r} in {self.zone}, gap={self.gap}, fold={self.fold}"
        said += f", after {_moment(self.after)} until {_moment(self.until)}:"
        for name, these, others in (
            ("only the oracle", self.wanted, self.found),
            ("only ours", self.found, self.wanted),
        ):
            only = [_moment(fire) for fire in these if fire not in set(others)]
            said += f"\n  {name} has {len(only)}: {', '.join(only[:5])}"
        return said


@dataclass(slots=True)
class Result:
    """What was compared."""

    windows: int = 0
    comparisons: int = 0
    fires: int = 0
    mismatches: list[Mismatch] = field(default_factory=list)

    def add(self, other: "Result") -> None:
        self.windows += other.windows
        self.comparisons += other.comparisons
        self.fires += other.fires
        self.mismatches += other.mismatches

    @property
    def smallest(self) -> Mismatch:
        """The mismatch that is easiest to look at."""
        return min(self.mismatches, key=lambda one: (len(one.wanted) + len(one.found), len(one.expression), one.until))


class Comparison:
    """One zone's triggers, for all expressions and policies, beside the oracle."""

    def __init__(self, zone: str, asked: dict[str, Asked]) -> None:
        self.zone = zone
        self.result = Result()
        self._of_database = zone_of(zone)
        self._asked = asked
        self._triggers: dict[tuple[str, Gap, Fold], Trigger] = {}

    def around(self, middle: int, size: int, policies: Iterable[tuple[Gap, Fold]] = POLICIES) -> None:
        """Compare in the four days around a minute of UTC; `size` is by how many minutes the offset changes there."""
        frame = Frame(self._of_database, middle - 4 * _DAY, middle + 4 * _DAY)
        self.result.windows += 1
        for expression, asked in self._asked.items():
            window = Window(frame, asked, middle - 2 * _DAY, middle + 2 * _DAY)
            spans = _spans(window, middle * 60, abs(size) * 60)
            for gap, fold in policies:
                for after, until in spans:
                    self._compare(expression, gap, fold, window, after, until)

    def over(self, first: int, days: int, chance: random.Random) -> None:
        """Compare the expressions that fire now and then over so many days, each under one policy."""
        end = first + days * _DAY
        frame = Frame(self._of_database, first - 2 * _DAY, end + 2 * _DAY)
        self.result.windows += 1
        for expression, asked in self._asked.items():
            window = Window(frame, asked, first, end)
            if window.count <= _MOST_OVER_DAYS:
                gap, fold = chance.choice(POLICIES)
                self._compare(expression, gap, fold, window, first * 60, end * 60 - 1)

    def _compare(self, expression: str, gap: Gap, fold: Fold, window: Window, after: int, until: int) -> None:
        trigger = self._trigger(expression, gap, fold)
        wanted = window.fires(gap, fold, after, until)
        most = len(wanted) + 10  # one that fires on and on must not keep us here
        found = []
        for fire in fires_between(trigger, datetime.fromtimestamp(after, UTC), datetime.fromtimestamp(until, UTC)):
            found.append(int(fire.timestamp()))
            if len(found) > most:
                break
        self.result.comparisons += 1
        self.result.fires += len(wanted)
        if found != wanted:
            mismatch = Mismatch(expression, self.zone, gap, fold, after, until, tuple(wanted), tuple(found))
            self.result.mismatches.append(mismatch)

    def _trigger(self, expression: str, gap: Gap, fold: Fold) -> Trigger:
        key = (expression, gap, fold)
        if key not in self._triggers:
            spec = TriggerSpec(cron=expression, zone=self.zone, gap=gap, fold=fold)
            self._triggers[key] = build_trigger(spec)
        return self._triggers[key]


def compare_zone(zone: str, asked: dict[str, Asked], seed: str) -> Result:
    """Compare one zone: around each of its transitions, at four other places, and over a year."""
    chance = random.Random(f"{seed} {zone}")
    comparison = Comparison(zone, asked)
    steps = transitions(zone, FIRST_YEAR, LAST_YEAR)
    for (_, before), (minute, after) in pairwise(steps):
        comparison.around(minute, after - before)
    first, end = steps[0][0], steps[0][0] + (LAST_YEAR - FIRST_YEAR + 1) * 365 * _DAY
    for _ in range(4):
        comparison.around(chance.randrange(first, end), 0)
    comparison.over(chance.randrange(first, end - 365 * _DAY), 365, chance)
    return comparison.result


def understood(texts: Iterable[str]) -> dict[str, Asked]:
    """Return those that can fire; raise AssertionError if the scheduler takes one that cannot, or refuses one that
    can."""
    found = {}
    for text in texts:
        asked = Asked(text)
        if _is_taken(text) != any(asked.has_day(day) for day in _days()):
            raise AssertionError(
                f"{text!r} is {'taken and never fires' if _is_taken(text) else 'refused and would fire'}"
            )
        if _is_taken(text):
            found[text] = asked
    return found


def _days() -> Iterator[date]:
    """Yield the days of 28 years, in which each month begins on every day of the week, leap years' too."""
    return (date(2001, 1, 1) + timedelta(days=day) for day in range(28 * 365 + 7))


def _is_taken(text: str) -> bool:
    try:
        build_trigger(TriggerSpec(cron=text))
    except ScheduleError:
        return False
    return True


def _spans(window: Window, middle: int, size: int) -> list[tuple[int, int]]:
    """Return what to compare of a window, in seconds since 1970: (after, until] each."""
    if window.count <= _MOST_IN_WINDOW:
        return [(middle - 2 * _DAY * 60, middle + 2 * _DAY * 60 - 1)]
    near = (middle - 9_000, middle + 9_000)
    if len(window.fires("shift", "both", *near)) <= _MOST_IN_MIDDLE:
        return [near]
    often = len(window.fires("shift", "both", middle - 600, middle + 600)) > _MOST_AT_EDGE
    width = 31 if often else 600
    return [(edge - width, edge + width) for edge in sorted({middle - size, middle, middle + size})]


def _moment(second: int) -> str:
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%d %H:%M:%S}Z"


def main() -> int:
    """Compare every distinct rule set of the zones; return 1 if anything differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--expressions", type=int, default=250, help="how many (250)")
    parser.add_argument("--seed", default="6", help="of random expressions and windows (6)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (2)")
    wanted = parser.parse_args()
    began = time.monotonic()
    texts = expressions(wanted.expressions, wanted.seed)
    total = Result()
    with multiprocessing.Pool(wanted.jobs, _prepare, (texts, wanted.seed)) as pool:
        groups = _groups(pool.imap(_rules, all_zones(), chunksize=8))
        for done, (zone, result) in enumerate(pool.imap_unordered(_compare, groups), start=1):
            total.add(result)
            spent = time.monotonic() - began
            _say(
                f"{done}/{len(groups)} {zone}: {result.fires} fires, {len(result.mismatches)} mismatches, {spent:.0f} s"
            )
    _say(
        f"{len(groups)} rule sets of {sum(map(len, groups.values()))} zones in {FIRST_YEAR} to {LAST_YEAR}, "
        f"{len(understood(texts))} expressions of {len(texts)} (the others never match), {total.windows} windows, "
        f"{len(POLICIES)} policies: {total.comparisons} comparisons, {total.fires} fires, "
        f"{len(total.mismatches)} mismatches, {time.monotonic() - began:.0f} s"
    )
    if total.mismatches:
        _say(f"the smallest:\n{total.smallest}")
    return 1 if total.mismatches else 0


_prepared: dict[str, Asked] = {}
_seeds: list[str] = []


def _prepare(texts: list[str], seed: str) -> None:
    _prepared.update(understood(texts))
    _seeds.append(seed)


def _rules(zone: str) -> tuple[str, tuple[tuple[int, int], ...]]:
    return zone, transitions(zone, FIRST_YEAR, LAST_YEAR)


def _compare(zone: str) -> tuple[str, Result]:
    return zone, compare_zone(zone, _prepared, _seeds[0])


def _groups(rules: Iterable[tuple[str, tuple[tuple[int, int], ...]]]) -> dict[str, list[str]]:
    """Say and return the zones of each rule set, by the first one's name; those with the most transitions first."""
    groups: dict[tuple[tuple[int, int], ...], list[str]] = {}
    for zone, changes in rules:
        groups.setdefault(changes, []).append(zone)
    for number, (changes, zones) in enumerate(groups.items(), start=1):
        _say(f"rule set {number}, {len(changes) - 1} transitions: {', '.join(zones)}")
    return {zones[0]: zones for _, zones in sorted(groups.items(), key=lambda group: -len(group[0]))}


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
