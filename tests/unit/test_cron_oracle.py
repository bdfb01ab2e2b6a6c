"""Fires beside an oracle of brute force: a seeded sample of what `make cron-oracle` compares whole, and zones made up.

What the sample is for is shown by breaking the scheduler: each of the mistakes that others made is found.
"""

import random
import struct
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from importlib import resources
from io import BytesIO
from itertools import pairwise
from zoneinfo import ZoneInfo
from zoneinfo._common import load_data

import pytest
from cronsim import CronSim

from scheduler import cron, triggers, zones
from scheduler.triggers import CronTrigger, TriggerSpec, build_trigger
from scheduler.zones import Fold, Gap, Stretch
from tests.support.cron_comparison import POLICIES, Comparison, Result, understood
from tests.support.cron_expressions import sample
from tests.support.cron_oracle import Asked, Frame, Window, all_zones, transitions

SEED = "6"
TELLING = (
    "America/Havana",
    "America/Nuuk",
    "America/Scoresbysund",
    "Africa/Casablanca",
    "Antarctica/Troll",
    "Asia/Almaty",
    "Australia/Lord_Howe",
    "Europe/Berlin",
    "Europe/Dublin",
)


@pytest.fixture(autouse=True)
def stretches_of_the_test() -> Iterator[None]:
    """No test leaves another one what it computed, nor finds any."""
    for cached in (zones.stretches, cron._nearest_weekdays):
        cached.cache_clear()
    yield
    for cached in (zones.stretches, cron._nearest_weekdays):
        cached.cache_clear()


def compare_sample(names: Sequence[str]) -> Result:
    """Compare around two transitions of 2024 to 2026, around some other moment, and the first zone over a spring.

    The first difference is raised as an AssertionError.
    """
    chance = random.Random(SEED)
    asked = understood(sample(24, SEED))
    total = Result()
    for name in names:
        comparison = Comparison(name, asked)
        steps = transitions(name, 2024, 2026)
        changes = [(minute, after - before) for (_, before), (minute, after) in pairwise(steps)]
        for minute, size in chance.sample(changes, min(2, len(changes))):
            comparison.around(minute, size)
        comparison.around(steps[0][0] + chance.randrange(3 * 365 * 1440), 0)
        total.add(comparison.result)
    if not total.mismatches:
        spring = Comparison(names[0], asked)
        spring.over(transitions(names[0], 2024, 2026)[0][0], 120, chance)
        total.add(spring.result)
    assert total.mismatches == [], str(total.smallest)
    return total


def test_a_sample_of_zones_and_expressions_fires_as_brute_force_says() -> None:
    total = compare_sample([*TELLING, *random.Random(SEED).sample(all_zones(), 3)])
    assert total.comparisons > 3_000
    assert total.fires > 10_000


Break = Callable[[pytest.MonkeyPatch], None]


def both_occurrences_fire(patch: pytest.MonkeyPatch) -> None:
    """Whatever the policy of times that come twice."""
    around = zones._around
    patch.setattr(zones, "_around", lambda zone, gap, fold, first, end: around(zone, gap, "both", first, end))


def nothing_is_skipped(patch: pytest.MonkeyPatch) -> None:
    """Whatever the policy of times that are left out."""
    around = zones._around
    patch.setattr(zones, "_around", lambda zone, gap, fold, first, end: around(zone, "shift", fold, first, end))


def the_later_offset_shifts(patch: pytest.MonkeyPatch) -> None:
    """Times that are left out come before the gap: PEP 495 with fold=1."""
    around = zones._around

    def early(zone: ZoneInfo, gap: Gap, fold: Fold, first: datetime, end: datetime) -> Iterator[Stretch]:
        plain = list(around(zone, "skip", fold, first, end))
        for stretch in around(zone, gap, fold, first, end):
            size = stretch.end - stretch.start
            yield stretch if stretch in plain else Stretch(stretch.start - size, stretch.start, stretch.offset + size)

    patch.setattr(zones, "_around", early)


def shifted_is_to_the_transition(patch: pytest.MonkeyPatch) -> None:
    """Times that are left out fire when the clock has jumped, as Debian's cron does."""
    in_month = CronTrigger._in_month

    def at_once(trigger: CronTrigger, month: int, after: datetime) -> tuple[datetime | None, datetime | None]:
        found, wall = in_month(trigger, month, after)
        for stretch in zones.stretches(trigger._zone, "skip", trigger._fold, month):
            if found is not None and stretch.start <= found < stretch.end:
                local = found + stretch.offset
                return found if trigger._cron.next_after(local - timedelta(seconds=1)) == local else stretch.start, wall
        return found, wall

    patch.setattr(CronTrigger, "_in_month", at_once)


def days_and_weekdays_both_have_to_match(patch: pytest.MonkeyPatch) -> None:
    """APScheduler's rule."""
    patch.setattr(CronSim, "match_day", lambda walls, day: walls.match_dom(day) and walls.match_dow(day))


def days_or_weekdays_have_to_match(patch: pytest.MonkeyPatch) -> None:
    """Without the exception for fields that begin with a star and go on."""

    def either(walls: CronSim, day: date) -> bool:
        if "*" in (walls.parts[3], walls.parts[5]):
            return walls.match_dom(day) and walls.match_dow(day)
        return walls.match_dom(day) or walls.match_dow(day)

    patch.setattr(CronSim, "match_day", either)


def zero_is_monday(patch: pytest.MonkeyPatch) -> None:
    """APScheduler's days of the week."""
    match = CronSim.match_dow
    patch.setattr(CronSim, "match_dow", lambda walls, day: match(walls, day + timedelta(days=1)))


def the_nearest_weekday_is_the_one_before(patch: pytest.MonkeyPatch) -> None:
    """Saturdays and Sundays both go back to Friday."""
    patch.setattr(cron, "_nearest_weekday", lambda weekday, day, last: max(day - max(0, weekday - 4), 1))


@pytest.mark.parametrize(
    "mistake",
    [
        both_occurrences_fire,
        nothing_is_skipped,
        the_later_offset_shifts,
        shifted_is_to_the_transition,
        days_and_weekdays_both_have_to_match,
        days_or_weekdays_have_to_match,
        zero_is_monday,
        the_nearest_weekday_is_the_one_before,
    ],
)
def test_the_sample_finds_the_mistakes_that_others_made(mistake: Break, monkeypatch: pytest.MonkeyPatch) -> None:
    mistake(monkeypatch)
    with pytest.raises(AssertionError, match=r"only (ours|the oracle) has [1-9]|refused and would fire"):
        compare_sample(["Europe/Berlin"])


AT_A_MONTHS_END = ("0 * * * *", "30 0 * * *", "*/20 23 * * *", "0 0 1 * *", "0 12 L * *", "15 10 0 1 11 *", "* * * * *")
ENDS = tuple(datetime.fromisoformat(f"2026-{text}+00:00") for text in ("10-31T23:30", "11-01T00:00", "11-01T00:30"))


def made_up(at: datetime, before: int, after: int) -> ZoneInfo:
    """A zone whose offset changes once, from `before` to `after` minutes: RFC 9636's format, version 1."""
    counts = struct.pack(">6l", 0, 0, 0, 1, 2, 4)
    kinds = struct.pack(">lBB", before * 60, 0, 0) + struct.pack(">lBB", after * 60, 0, 0)
    data = b"TZif" + bytes(16) + counts + struct.pack(">l", int(at.timestamp())) + b"\x01" + kinds + b"LMT\0"
    return ZoneInfo.from_file(BytesIO(data), key="Made/Up")


@pytest.mark.parametrize("size", [-1440, -60, 30, 1440])
@pytest.mark.parametrize("at", ENDS)
def test_any_change_of_offset_at_a_months_end_is_followed(
    at: datetime, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    zone = made_up(at, -size // 2, size - size // 2)
    monkeypatch.setattr(zones, "load_zone", lambda name: zone)
    monkeypatch.setattr(triggers, "load_zone", lambda name: zone)
    middle = int(at.timestamp()) // 60
    frame = Frame(zone, middle - 5760, middle + 5760)
    for text in AT_A_MONTHS_END:
        window = Window(frame, Asked(text), middle - 2880, middle + 2880)
        for gap, fold in POLICIES:
            trigger = build_trigger(TriggerSpec(cron=text, zone="Made/Up", gap=gap, fold=fold))
            for minute in range(middle - 1500, middle + 1500, 131):
                now = datetime.fromtimestamp(minute * 60, UTC)
                wanted = window.fires(gap, fold, minute * 60 - 1, (middle + 2880) * 60 - 1)[:1]
                found = trigger.get_next_fire_time(None, now)
                if wanted or (found is not None and found < at + timedelta(days=2)):
                    assert found == datetime.fromtimestamp(wanted[0], UTC) if wanted else None, (text, gap, fold, now)


def test_no_zone_changes_twice_within_four_days() -> None:
    nearest = timedelta.max
    for name in all_zones():
        with resources.files("tzdata").joinpath("zoneinfo", name).open("rb") as file:
            kinds, moments, offsets, *_ = load_data(file)
        changes = [
            moment
            for moment, (before, after) in zip(moments[1:], pairwise(kinds), strict=True)
            if moment >= 0 and offsets[before] != offsets[after]
        ]
        nearest = min([nearest, *(timedelta(seconds=later - earlier) for earlier, later in pairwise(changes))])
    assert nearest > max(2 * zones._MARGIN, zones._STEP)
