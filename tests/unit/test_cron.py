"""Cron expressions: what is accepted, what it means on the wall clock, and what is refused by which sentence."""

import sys
import time
import timeit
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest

from core.errors import ScheduleError
from scheduler.cron import LONGEST, Cron
from tests.support.cron_expressions import KNOWN

NEW_YEAR = "2026-01-01 00:00:00"


def walls(text: str, count: int, after: str = NEW_YEAR) -> list[str]:
    """The next `count` wall times after `after`, without what they share with it: the year, and seconds of 0."""
    found = []
    cron, wall = Cron(text), datetime.fromisoformat(after) - timedelta(seconds=1)
    for _ in range(count):
        following = cron.next_after(wall)
        assert following is not None
        wall = following
        found.append(f"{wall:%m-%d %H:%M:%S}".removesuffix(":00"))
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("* * * * *", ["01-01 00:00", "01-01 00:01"]),
        ("*/25 * * * *", ["01-01 00:00", "01-01 00:25", "01-01 00:50", "01-01 01:00"]),
        ("7/25 * * * *", ["01-01 00:07", "01-01 00:32", "01-01 00:57", "01-01 01:07"]),
        ("0 21-21/3 * * *", ["01-01 21:00", "01-02 21:00"]),
        ("0 0 21-21/3 * *", ["01-21 00:00", "02-21 00:00"]),
        ("0 6-18/6 * * *", ["01-01 06:00", "01-01 12:00", "01-01 18:00", "01-02 06:00"]),
        ("  0   8,20 *\t* *  ", ["01-01 08:00", "01-01 20:00"]),
        ("0 0 1 feb-apr *", ["02-01 00:00", "03-01 00:00", "04-01 00:00"]),
        ("0 0 * * Mon,5", ["01-02 00:00", "01-05 00:00", "01-09 00:00"]),
    ],
)
def test_five_fields_are_minute_hour_day_month_weekday(text: str, expected: list[str]) -> None:
    assert walls(text, len(expected)) == expected


def test_the_seconds_of_six_fields_come_first() -> None:
    assert walls("*/30 59 23 * * *", 3) == ["01-01 23:59", "01-01 23:59:30", "01-02 23:59"]


@pytest.mark.parametrize(
    ("nickname", "fields"),
    [
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
        ("@monthly", "0 0 1 * *"),
        ("@weekly", "0 0 * * 0"),
        ("@Daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@hourly", "0 * * * *"),
    ],
)
def test_a_nickname_stands_for_its_fields(nickname: str, fields: str) -> None:
    assert walls(nickname, 5) == walls(fields, 5)


@pytest.mark.parametrize("sunday", ["0", "7", "SUN", "sun", "7-7", "*/7"])
def test_weekdays_0_and_7_are_both_sunday(sunday: str) -> None:
    assert walls(f"0 0 * * {sunday}", 2) == ["01-04 00:00", "01-11 00:00"]


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        ("L * *", ["01-31", "02-28", "03-31"]),
        ("LW * *", ["01-30", "02-27", "03-31"]),
        ("L 2 *", ["02-28", "02-28", "02-29"]),
        ("15,L * *", ["01-15", "01-31", "02-15"]),
        ("* * 5L", ["01-30", "02-27", "03-27"]),
        ("* * SUNL", ["01-25", "02-22", "03-29"]),
        ("* * 0L", ["01-25", "02-22", "03-29"]),
        ("* * MON#1", ["01-05", "02-02", "03-02"]),
        ("* * 7#5", ["03-29", "05-31", "08-30"]),
        ("* * 1#1,1#3", ["01-05", "01-19", "02-02"]),
    ],
)
def test_last_days_and_counted_weekdays(days: str, expected: list[str]) -> None:
    assert walls(f"0 0 {days}", 3) == [f"{day} 00:00" for day in expected]


@pytest.mark.parametrize(
    ("day", "year", "expected"),
    [
        ("15W", 2026, ["01-15", "02-16", "03-16", "04-15", "05-15", "06-15"]),
        ("1W", 2026, ["01-01", "02-02", "03-02", "04-01", "05-01", "06-01", "07-01", "08-03"]),
        ("1W", 2022, ["01-03", "02-01", "03-01"]),
        ("31W", 2026, ["01-30", "03-31", "05-29", "07-31", "08-31", "10-30"]),
        ("30W 5", 2027, ["05-31"]),
        ("31W 1", 2027, ["01-29"]),
        ("31,15W 2", 2026, ["02-16"]),
        ("10W,L 1-2", 2026, ["01-09", "01-31", "02-10", "02-28"]),
    ],
)
def test_the_nearest_weekday_stays_within_its_month(day: str, year: int, expected: list[str]) -> None:
    text = f"0 0 {day} {'' if ' ' in day else '* '}*"
    assert walls(text, len(expected), f"{year}-01-01") == [f"{date} 00:00" for date in expected]


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        ("13 * 5", ["01-02", "01-09", "01-13"]),
        ("13 * */5", ["02-13", "03-13", "09-13"]),
        ("*/13 * 5", ["02-27", "03-27", "05-01"]),
        ("15W * 5", ["01-02", "01-09", "01-15"]),
        ("1,* * 5", ["01-01", "01-02", "01-03"]),
        ("15W,*/30 * 5", ["01-01", "01-02", "01-09"]),
        ("*/30,15W * 5", ["05-01", "05-15", "07-31"]),
        ("*,1 * 5", ["01-02", "01-09", "01-16"]),
    ],
)
def test_two_fields_of_days_are_alternatives_unless_one_begins_with_a_star(days: str, expected: list[str]) -> None:
    assert walls(f"0 0 {days}", 3) == [f"{day} 00:00" for day in expected]


def test_a_weekday_on_29_february_is_found_over_the_40_years_that_have_none() -> None:
    cron = Cron("0 0 * 2 MON#5")
    assert cron.next_after(datetime.fromisoformat("2072-03-01")) == datetime.fromisoformat("2112-02-29")


@pytest.mark.parametrize("text", ["0 0 30 2 *", "0 0 31 4,6 *", "0 0 31W 2,11 *", "0 0 LW * */7", "0 0 */30 2 0#5"])
def test_an_expression_that_never_matches_is_refused(text: str) -> None:
    with pytest.raises(ScheduleError, match=r"never matches: none of its months has such a day"):
        Cron(text)


REFUSED = [
    ("1--100000000", "has not five or six fields but 1: write five"),
    ("1--100000000 * * * *", "the minute '1--100000000' is not understood: it takes 0 to 59"),
    ("1-100000000 * * * *", "the minute '1-100000000' is not understood: it takes 0 to 59"),
    ("*/0 * * * *", "the minute '*/0' is not understood: a step is 1 to 59"),
    ("0-59/100000000 * * * *", "the minute '0-59/100000000' is not understood: a step is 1 to 59"),
    ("0 */24 * * *", "the hour '*/24' is not understood: a step is 1 to 23"),
    ("*/ * * * *", "the minute '*/' is not understood"),
    ("*/2/3 * * * *", "the minute '*/2/3' is not understood"),
    (",".join("1" * 5_000) + " * * * *", f"has at most {LONGEST} characters; this one has 10007"),
    ("60 * * * *", "the minute '60' is not understood: it takes 0 to 59"),
    ("61 0 0 * * *", "the second '61' is not understood"),
    ("0 24 * * *", "the hour '24' is not understood"),
    ("0 0 0 * *", "the day of month '0' is not understood: it takes 1 to 31"),
    ("0 0 1 13 *", "the month '13' is not understood: it takes 1 to 12, JAN to DEC"),
    ("0 0 1 JANUARY *", "the month 'JANUARY' is not understood"),
    ("0 0 * * 8", "the day of week '8' is not understood: it takes 0 to 7, SUN to SAT"),
    ("0 22-2 * * *", "a range does not wrap: write 22-23,0-2"),
    ("0 0 * * SAT-SUN", "a range does not wrap: write 6-7"),
    ("0 0 * * FRI-MON", "a range does not wrap: write 5-7,0-1"),
    ("0 0 ? * 1", "the day of month '?' is not understood"),
    ("0 0 W * *", "the day of month 'W' is not understood"),
    ("0 0 0W * *", "the day of month '0W' is not understood"),
    ("0 0 32W * *", "the day of month '32W' is not understood"),
    ("0 0 15WL * *", "the day of month '15WL' is not understood"),
    ("0 0 L-3 * *", "the day of month 'L-3' is not understood"),
    ("0 0 L/2 * *", "the day of month 'L/2' is not understood"),
    ("0 0 5L * *", "the day of month '5L' is not understood"),
    ("0 0 * * L", "the day of week 'L' is not understood"),
    ("0 0 * * 8L", "the day of week '8L' is not understood"),
    ("0 0 * * 1#6", "the day of week '1#6' is not understood"),
    ("0 0 * * 1-5#1", "the day of week '1-5#1' is not understood"),
    ("L * * * *", "the minute 'L' is not understood"),
    ("1,,2 * * * *", "the minute '' is not understood"),
    ("-1 * * * *", "the minute '-1' is not understood"),
    ("\uff11 * * * *", "the minute '\uff11' is not understood"),
    ("²  * * * *", "the minute '²' is not understood"),
    ("", "has not five or six fields but 0"),
    ("0 0 1 1 * 2026 2027", "has not five or six fields but 7"),
    ("@reboot", "is unknown: write fields, or one of @yearly, @annually"),
    ("@daily 5", "is unknown: write fields, or one of @yearly"),
]


@pytest.mark.parametrize(("text", "why"), REFUSED, ids=[text[:20] for text, _ in REFUSED])
def test_what_is_refused_says_which_field_and_what_it_takes(text: str, why: str) -> None:
    with pytest.raises(ScheduleError) as refused:
        Cron(text)
    assert why in str(refused.value)
    assert len(str(refused.value)) < 2 * LONGEST + 200


@pytest.mark.parametrize("text", [text for text, _ in REFUSED if len(text) > 10])
def test_a_refusal_costs_no_more_than_its_text(text: str) -> None:
    def refuse() -> None:
        with pytest.raises(ScheduleError):
            Cron(text)

    assert min(timeit.repeat(refuse, timer=time.process_time, number=1, repeat=5)) < 0.001


@pytest.mark.parametrize("text", ["0 0 LW * */7", f"0 0 {','.join(f'{day}W' for day in range(1, 32))} * */7"])
def test_the_dearest_search_ends_within_50_ms(text: str) -> None:
    def search() -> None:
        with pytest.raises(ScheduleError):
            Cron(text)

    assert min(timeit.repeat(search, timer=time.process_time, number=1, repeat=4)) < 0.05


def test_nothing_matches_where_dates_end() -> None:
    assert Cron("@daily").next_after(datetime.fromisoformat("9899-12-31 12:00")) is None
    assert Cron("@daily").next_after(datetime.fromisoformat("9999-12-31 23:59:59")) is None


def test_one_expression_may_be_asked_by_many_threads() -> None:
    cron = Cron("0 0 28 * *")
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def ask(year: int) -> set[datetime | None]:
        return {cron.next_after(datetime.fromisoformat(f"{year}-01-28")) for _ in range(200)}

    try:
        with ThreadPoolExecutor(4) as threads:
            found = list(threads.map(ask, range(2001, 2009)))
    finally:
        sys.setswitchinterval(interval)
    assert found == [{datetime.fromisoformat(f"{year}-02-28")} for year in range(2001, 2009)]


@pytest.mark.parametrize("text", [*KNOWN, "0 2 1W,15W,L 3 MON"])
def test_whatever_is_accepted_has_words_that_begin_in_lower_case(text: str) -> None:
    said = Cron(text).describe()
    assert said[0].islower()
    assert said.isprintable()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0 2 1 * *", "at 02:00 on the first day of every month"),
        ("*/5 9-17 * * MON-FRI", "every fifth minute from 09:00 through 17:59 on Monday through Friday"),
        ("@daily", "at 00:00 every day"),
        ("0 2 15W * *", "at 02:00, on the weekday nearest to day 15"),
        (
            "0 2 1,15W,LW,L 3 *",
            "at 02:00 in March, on day 1 and the weekday nearest to day 15 and the last weekday and the last day",
        ),
        ("0 2 15W * MON", "at 02:00 on Monday, or on the weekday nearest to day 15"),
    ],
)
def test_an_expression_is_said_in_words(text: str, words: str) -> None:
    assert Cron(text).describe() == words


def test_equal_texts_are_equal() -> None:
    assert len({Cron("@daily"), Cron("@daily"), Cron("@hourly")}) == 2
    assert repr(Cron("@daily")) == "Cron('@daily')"
    assert Cron("@daily") != "@daily"
