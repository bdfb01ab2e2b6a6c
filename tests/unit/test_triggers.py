"""When schedules fire: daylight saving by hand, intervals, dates, bounds, APScheduler's question, and words."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import islice, pairwise
from typing import cast

import pytest
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import ScheduleError
from scheduler.triggers import Trigger, TriggerSpec, build_trigger, describe, fires_between
from scheduler.zones import Fold, Gap, load_zone, zone_names
from tests.support.cron_expressions import KNOWN
from tests.support.cron_oracle import all_zones


def at(text: str) -> datetime:
    """A moment of UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def fires(spec: TriggerSpec, after: str, until: str) -> list[str]:
    """The fires in (after, until], by day of month and time in UTC."""
    return [f"{fire:%d %H:%M}" for fire in fires_between(build_trigger(spec), at(after), at(until))]


GAPS = [
    # Berlin: 02:00 +01 becomes 03:00 +02 at 01:00Z
    ("Europe/Berlin", "30 2 * * *", "2026-03-29", ["29 01:30"], []),
    ("Europe/Berlin", "0 2 * * *", "2026-03-29", ["29 01:00"], []),
    ("Europe/Berlin", "0 3 * * *", "2026-03-29", ["29 01:00"], ["29 01:00"]),
    ("Europe/Berlin", "59 1 * * *", "2026-03-29", ["29 00:59"], ["29 00:59"]),
    ("Europe/Berlin", "*/30 2,3 * * *", "2026-03-29", ["29 01:00", "29 01:30"], ["29 01:00", "29 01:30"]),
    ("Europe/Berlin", "15 2,3 * * *", "2026-03-29", ["29 01:15"], ["29 01:15"]),
    ("Europe/Berlin", "45 2 * * *", "2026-03-28 12:00", ["29 01:45"], []),
    # New York: 02:00 -05 becomes 03:00 -04 at 07:00Z
    ("America/New_York", "30 2 * * *", "2026-03-08 06:00", ["08 07:30"], []),
    # Lord Howe: 02:00 +10:30 becomes 02:30 +11 at 15:30Z of the day before
    ("Australia/Lord_Howe", "*/15 2 * * *", "2026-10-03 12:00", ["03 15:30", "03 15:45"], ["03 15:30", "03 15:45"]),
    ("Australia/Lord_Howe", "20 2 * * *", "2026-10-03 12:00", ["03 15:50"], []),
    # Casablanca after Ramadan: 02:00 +00 becomes 03:00 +01 at 02:00Z
    ("Africa/Casablanca", "30 2 * * *", "2026-03-22", ["22 02:30"], []),
    # Dublin, whose winter is the exception: 01:00 +00 becomes 02:00 +01 at 01:00Z
    ("Europe/Dublin", "30 1 * * *", "2026-03-29", ["29 01:30"], []),
    # Troll: 01:00 +00 becomes 03:00 +02 at 01:00Z; 02:30 comes when 04:30 does
    ("Antarctica/Troll", "30 2,4 * * *", "2026-03-29", ["29 02:30"], ["29 02:30"]),
    ("Antarctica/Troll", "30 1 * * *", "2026-03-29", ["29 01:30"], []),
    # Samoa left out 30 December 2011: 00:00 -10 became 24 hours later at 10:00Z
    ("Pacific/Apia", "0 12 30 * *", "2011-12-30 10:00", ["30 22:00"], []),
    ("Pacific/Apia", "0 12 * * *", "2011-12-30 10:00", ["30 22:00"], ["30 22:00"]),
]


@pytest.mark.parametrize(("zone", "cron", "after", "shifted", "skipped"), GAPS)
def test_a_time_that_is_left_out_comes_later_by_the_gap_or_not_at_all(
    zone: str, cron: str, after: str, shifted: list[str], skipped: list[str]
) -> None:
    until = f"{at(after) + timedelta(hours=20):%Y-%m-%d %H:%M}"
    spec = TriggerSpec(cron=cron, zone=zone)
    assert fires(spec, after, until) == shifted
    assert fires(replace(spec, gap="skip"), after, until) == skipped


FOLDS = [
    # Berlin: 03:00 +02 becomes 02:00 +01 at 01:00Z
    ("Europe/Berlin", "30 2 * * *", "2026-10-25", "25 00:30", "25 01:30"),
    ("Europe/Berlin", "0 2 * * *", "2026-10-24 20:00", "25 00:00", "25 01:00"),
    ("America/New_York", "30 1 * * *", "2026-11-01", "01 05:30", "01 06:30"),
    ("Australia/Lord_Howe", "45 1 * * *", "2026-04-04 12:00", "04 14:45", "04 15:15"),
    ("Africa/Casablanca", "30 2 * * *", "2026-02-15", "15 01:30", "15 02:30"),
    ("Europe/Dublin", "30 1 * * *", "2026-10-25", "25 00:30", "25 01:30"),
    ("Antarctica/Troll", "30 1 * * *", "2026-10-24 12:00", "24 23:30", "25 01:30"),
]


@pytest.mark.parametrize(("zone", "cron", "after", "first", "second"), FOLDS)
def test_a_time_that_comes_twice_fires_first_second_or_both_times(
    zone: str, cron: str, after: str, first: str, second: str
) -> None:
    until = f"{at(after) + timedelta(hours=20):%Y-%m-%d %H:%M}"
    found = {}
    for fold in ("first", "second", "both"):
        spec = TriggerSpec(cron=cron, zone=zone, fold=fold)
        found[fold] = fires(spec, after, until)
    assert found == {"first": [first], "second": [second], "both": [first, second]}


@pytest.mark.parametrize("cron", ["0 3 * * *", "59 1 * * *"])
def test_a_time_beside_the_fold_fires_once(cron: str) -> None:
    spec = TriggerSpec(cron=cron, zone="Europe/Berlin", fold="both")
    assert len(fires(spec, "2026-10-24 12:00", "2026-10-25 12:00")) == 1


@pytest.mark.parametrize(("fold", "count"), [("first", 24), ("second", 24), ("both", 25)])
def test_an_hourly_schedule_follows_its_policy_over_a_day_of_25_hours(fold: Fold, count: int) -> None:
    spec = TriggerSpec(cron="0 * * * *", zone="Europe/Berlin", fold=fold)
    assert len(fires(spec, "2026-10-24 21:59", "2026-10-25 22:59")) == count


def test_seconds_go_through_a_gap_and_a_fold_without_a_hole_and_without_a_double() -> None:
    spec = TriggerSpec(cron="* * * * * *", zone="Europe/Berlin", fold="both")
    for middle in ("2026-03-29 01:00", "2026-10-25 01:00"):
        start = at(middle) - timedelta(minutes=2)
        found = list(islice(fires_between(build_trigger(spec), start, at("2027-01-01")), 240))
        assert found == [start + timedelta(seconds=second) for second in range(1, 241)]


def test_a_time_that_its_policy_never_lets_fire_ends_the_search() -> None:
    never = TriggerSpec(cron="* 30 2 * 3 7L", zone="Europe/Berlin", gap="skip")
    assert build_trigger(never).get_next_fire_time(None, at("2026-01-01")) is None
    assert build_trigger(replace(never, gap="shift")).get_next_fire_time(None, at("2026-01-01")) == at(
        "2026-03-29 01:30"
    )


def test_a_rare_date_is_found_over_decades() -> None:
    spec = TriggerSpec(cron="30 2 * 2 MON#5", zone="Europe/Berlin")
    fire = build_trigger(spec).get_next_fire_time(at("2072-02-29 01:30"), at("2072-03-01"))
    assert fire == at("2112-02-29 01:30")


def test_the_next_fire_is_after_the_previous_however_late_it_is_asked_for() -> None:
    trigger = build_trigger(TriggerSpec(cron="@daily"))
    assert trigger.get_next_fire_time(at("2026-01-01"), at("2026-06-01 12:00")) == at("2026-01-02")
    assert trigger.get_next_fire_time(at("2026-01-01 00:00:00.000001"), at("2026-06-01")) == at("2026-01-02")
    assert trigger.get_next_fire_time(at("2025-12-31 23:59:59.999999"), at("2026-06-01")) == at("2026-01-01")


@pytest.mark.parametrize(
    "spec",
    [
        TriggerSpec(cron="@daily"),
        TriggerSpec(every=timedelta(days=1), starts_at=at("2026-01-01")),
        TriggerSpec(at=at("2026-06-01")),
    ],
)
def test_the_first_fire_is_at_now_or_later(spec: TriggerSpec) -> None:
    trigger = build_trigger(spec)
    assert trigger.get_next_fire_time(None, at("2026-06-01")) == at("2026-06-01")
    after = trigger.get_next_fire_time(None, at("2026-06-01 00:00:00.000001"))
    assert after == (None if spec.at else at("2026-06-02"))


def test_a_question_may_come_in_any_zone_and_is_answered_in_utc() -> None:
    here = timezone(timedelta(hours=-9))
    fire = build_trigger(TriggerSpec(cron="@daily")).get_next_fire_time(None, at("2026-06-01 12:00").astimezone(here))
    assert fire == at("2026-06-02")
    assert fire is not None
    assert fire.tzinfo is UTC


def test_apscheduler_takes_a_trigger_as_one_of_its_own() -> None:
    scheduler = BackgroundScheduler(timezone=UTC)
    scheduler.start(paused=True)
    trigger = build_trigger(TriggerSpec(cron="0 0 1 1 *", starts_at=at("2090-06-01")))
    job = scheduler.add_job(print, trigger)
    scheduler.shutdown()
    assert isinstance(trigger, BaseTrigger)
    assert job.next_run_time == at("2091-01-01")


def test_an_interval_counts_from_its_start_which_is_its_first_fire() -> None:
    spec = TriggerSpec(every=timedelta(minutes=90), starts_at=at("2026-01-01 00:10"), anchor=at("2020-01-01"))
    assert fires(spec, "2025-12-31", "2026-01-01 04:00") == ["01 00:10", "01 01:40", "01 03:10"]


def test_an_interval_without_a_start_counts_from_its_anchors_second_and_not_at_it() -> None:
    spec = TriggerSpec(every=timedelta(hours=7), anchor=at("2026-01-01 00:10:00.75"))
    assert fires(spec, "2025-12-31", "2026-01-01 22:00") == ["01 07:10", "01 14:10", "01 21:10"]
    later = build_trigger(spec).get_next_fire_time(None, at("2031-01-01 00:00"))
    assert later is not None
    assert (later - at("2026-01-01 00:10")) % timedelta(hours=7) == timedelta(0)
    assert at("2031-01-01") <= later < at("2031-01-01 07:00")


def test_an_interval_knows_no_daylight_saving() -> None:
    spec = TriggerSpec(every=timedelta(days=1), starts_at=at("2026-03-28 01:30"), zone="Europe/Berlin")
    assert fires(spec, "2026-03-28", "2026-03-31") == ["28 01:30", "29 01:30", "30 01:30"]


def test_no_fire_is_outside_of_start_and_end_and_both_are_inside() -> None:
    spec = TriggerSpec(cron="0 * * * *", starts_at=at("2026-01-01 05:00"), ends_at=at("2026-01-01 07:00"))
    assert fires(spec, "2020-01-01", "2027-01-01") == ["01 05:00", "01 06:00", "01 07:00"]
    narrow = replace(spec, starts_at=at("2026-01-01 05:00:01"), ends_at=at("2026-01-01 06:59:59"))
    assert fires(narrow, "2020-01-01", "2027-01-01") == ["01 06:00"]
    interval = replace(spec, cron=None, every=timedelta(hours=2))
    assert fires(interval, "2020-01-01", "2027-01-01") == ["01 05:00", "01 07:00"]


def test_one_date_fires_once() -> None:
    spec = TriggerSpec(at=at("2026-05-05 12:00"))
    assert fires(spec, "2020-01-01", "2099-01-01") == ["05 12:00"]
    assert fires(spec, "2026-05-05 12:00", "2099-01-01") == []


@pytest.mark.parametrize(
    "spec", [TriggerSpec(cron="@daily"), TriggerSpec(every=timedelta(days=1), starts_at=at("2026-01-01"))]
)
def test_there_is_nothing_to_come_where_dates_end(spec: TriggerSpec) -> None:
    assert build_trigger(spec).get_next_fire_time(at("9999-12-31 12:00"), at("9999-12-31 12:00")) is None


def test_there_is_nothing_before_1970() -> None:
    trigger = build_trigger(TriggerSpec(cron="0 12 * * *", zone="Europe/Berlin"))
    assert trigger.get_next_fire_time(None, at("0001-01-02")) == at("1970-01-01 11:00")


START, LATER = at("2026-01-01"), at("2026-02-01")


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        (TriggerSpec(), "give exactly one of them"),
        (TriggerSpec(cron="@daily", every=timedelta(days=1)), "give exactly one of them"),
        (TriggerSpec(cron="@daily", at=START), "give exactly one of them"),
        (TriggerSpec(cron="1--100000000"), "has not five or six fields but 1"),
        (TriggerSpec(cron="@daily", zone="Europe/Berln"), "zone 'Europe/Berln' is unknown: write Europe/Berlin or "),
        (TriggerSpec(cron="@daily", zone="berlin"), "write Europe/Berlin or "),
        (TriggerSpec(cron="@daily", zone="new york"), "write America/New_York"),
        (TriggerSpec(cron="@daily", zone="../../etc/passwd"), "write a name of the IANA time zone database"),
        (TriggerSpec(cron="@daily", zone="localtime"), "zone 'localtime' is unknown"),
        (TriggerSpec(cron="@daily", zone="Europe"), "zone 'Europe' is unknown"),
        (TriggerSpec(cron="@daily", zone=""), "zone '' is unknown"),
        (TriggerSpec(cron="@daily", zone="x" * 10_000), "x…' is unknown"),
        (TriggerSpec(at=START, zone="Nowhere/Here"), "zone 'Nowhere/Here' is unknown"),
        (TriggerSpec(every=timedelta(0), anchor=START), "an interval is 1 second to 366 days in whole seconds"),
        (TriggerSpec(every=timedelta(seconds=-5), anchor=START), "an interval is 1 second to 366 days"),
        (TriggerSpec(every=timedelta(days=367), anchor=START), "an interval is 1 second to 366 days"),
        (TriggerSpec(every=timedelta(seconds=1.5), anchor=START), "in whole seconds; this one is 0:00:01.500000"),
        (TriggerSpec(every=timedelta(hours=1)), "an interval counts from a time: give starts_at or anchor"),
        (
            TriggerSpec(cron="@daily", starts_at=LATER, ends_at=START),
            "ends before it starts: move starts_at or ends_at",
        ),
        (TriggerSpec(at=START, starts_at=LATER), "one date is before its start or after its end"),
        (TriggerSpec(at=LATER, ends_at=START), "one date is before its start or after its end"),
        (TriggerSpec(at=START.replace(tzinfo=None)), "at has no zone: write an offset, such as 2026-01-01T00:00+00:00"),
        (TriggerSpec(cron="@daily", starts_at=START.replace(tzinfo=None)), "starts_at has no zone"),
        (TriggerSpec(cron="@daily", ends_at=START.replace(tzinfo=None)), "ends_at has no zone"),
        (TriggerSpec(every=timedelta(days=1), anchor=START.replace(tzinfo=None)), "anchor has no zone"),
    ],
)
def test_what_is_refused_says_what_to_write(spec: TriggerSpec, why: str) -> None:
    for refuse in (build_trigger, describe):
        with pytest.raises(ScheduleError) as refused:
            refuse(spec)
        assert why in str(refused.value)
        assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        (TriggerSpec(cron="@daily", gap=cast(Gap, "jump")), "gap 'jump' is unknown: write shift or skip"),
        (
            TriggerSpec(cron="@daily", fold=cast(Fold, "third")),
            "fold 'third' is unknown: write first or second or both",
        ),
    ],
)
def test_a_policy_that_a_row_or_a_command_line_made_up_is_refused(spec: TriggerSpec, why: str) -> None:
    with pytest.raises(ScheduleError, match=why):
        build_trigger(spec)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (
            TriggerSpec(cron="0 2 1 * *", zone="Europe/Berlin"),
            "at 02:00 on the first day of every month, Europe/Berlin",
        ),
        (TriggerSpec(cron="@daily", gap="skip", fold="both"), "at 00:00 every day, UTC"),
        (
            TriggerSpec(cron="30 2 * * *", zone="Europe/Berlin", gap="skip", fold="both"),
            "at 02:30 every day, Europe/Berlin, not at times that daylight saving leaves out,"
            " at both of times that come twice",
        ),
        (
            TriggerSpec(cron="30 2 * * *", zone="Europe/Berlin", fold="second"),
            "at 02:30 every day, Europe/Berlin, at the second of times that come twice",
        ),
        (TriggerSpec(every=timedelta(minutes=15), anchor=START), "every 15 minutes"),
        (TriggerSpec(every=timedelta(hours=1), anchor=START), "every hour"),
        (TriggerSpec(every=timedelta(days=1, hours=2, seconds=3), anchor=START), "every 1 day, 2 hours and 3 seconds"),
        (
            TriggerSpec(every=timedelta(seconds=90), starts_at=START, ends_at=LATER),
            "every 1 minute and 30 seconds, from 2026-01-01 00:00:00 UTC, until 2026-02-01 00:00:00 UTC",
        ),
        (TriggerSpec(at=START), "once, at 2026-01-01 00:00:00 UTC"),
    ],
)
def test_a_schedule_is_said_in_words(spec: TriggerSpec, words: str) -> None:
    assert describe(spec) == words


def test_zones_are_the_locked_packages_and_no_machines() -> None:
    assert zone_names() == set(all_zones())
    assert load_zone("Asia/Gaza") is load_zone("Asia/Gaza")
    assert load_zone("America/Argentina/Buenos_Aires").key == "America/Argentina/Buenos_Aires"


MOMENTS = st.datetimes(
    datetime.fromisoformat("2024-01-01"), datetime.fromisoformat("2031-01-01"), timezones=st.just(UTC)
)
ZONES = st.sampled_from(
    ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "Pacific/Apia")
)


@st.composite
def cron_triggers(draw: st.DrawFn) -> Trigger:
    """Any cron trigger."""
    gap: Gap = draw(st.sampled_from(("shift", "skip")))
    fold: Fold = draw(st.sampled_from(("first", "second", "both")))
    return build_trigger(TriggerSpec(cron=draw(st.sampled_from(KNOWN)), zone=draw(ZONES), gap=gap, fold=fold))


@given(trigger=cron_triggers(), moment=MOMENTS)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_fires_come_in_order_and_each_is_its_own_first(trigger: Trigger, moment: datetime) -> None:
    found = list(islice(fires_between(trigger, moment, moment + timedelta(days=9_000)), 5))
    assert all(earlier < later for earlier, later in pairwise([moment, *found]))
    assert [trigger.get_next_fire_time(None, fire) for fire in found] == found


@given(trigger=cron_triggers(), moment=MOMENTS, ahead=st.timedeltas(timedelta(0), timedelta(days=90)))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_who_asks_later_never_gets_an_earlier_fire(trigger: Trigger, moment: datetime, ahead: timedelta) -> None:
    first, then = trigger.get_next_fire_time(None, moment), trigger.get_next_fire_time(None, moment + ahead)
    if first is not None and then is not None:
        assert first <= then
        assert then == first or first < moment + ahead
