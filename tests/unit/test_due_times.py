"""Which times of a schedule are to be settled: those in time, and of the missed ones as many as its policy wants."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from db.schedules import ScheduleSpec
from scheduler.firing import Due, due_times, trigger_spec
from scheduler.triggers import build_trigger

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


def due(since: datetime, now: datetime, misfire: timedelta = MINUTE, **given: Any) -> list[Due]:
    when = {} if {"cron", "every", "at"} & set(given) else {"cron": "0 * * * *"}
    spec = ScheduleSpec(**({"name": "s", "task_type": "test.noop", "payload": {}} | when | given))
    trigger = build_trigger(trigger_spec(spec, datetime(2026, 1, 1, tzinfo=UTC)))
    return list(due_times(trigger, spec, since, now, misfire))


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (NOON - timedelta.resolution, []),
        (NOON, [Due(NOON, is_missed=False)]),
        (NOON + MINUTE, [Due(NOON, is_missed=False)]),
        (NOON + MINUTE + timedelta.resolution, [Due(NOON, is_missed=True)]),
    ],
)
def test_a_time_is_missed_once_it_is_settled_later_than_it_may_be(now: datetime, expected: list[Due]) -> None:
    assert due(NOON - HOUR, now) == expected


def test_what_is_settled_is_not_due_again() -> None:
    assert due(NOON, NOON + MINUTE) == []
    assert due(NOON + MINUTE, NOON) == []


@pytest.mark.parametrize(
    ("given", "hours", "missed"),
    [
        ({"missed": "skip"}, [11], 3),
        ({"missed": "once"}, [11], 3),
        ({"missed": "all", "missed_limit": 3}, [9, 10, 11], 1),
        ({"missed": "all", "missed_limit": 4}, [8, 9, 10, 11], 0),
        ({"missed": "all", "missed_limit": 9}, [8, 9, 10, 11], 0),
    ],
)
def test_of_missed_times_the_last_ones_are_kept_and_the_others_counted(
    given: dict[str, Any], hours: list[int], missed: int
) -> None:
    found = due(NOON - 5 * HOUR, NOON, **given)
    assert [one.at.hour for one in found] == [*hours, 12]
    assert [one.missed for one in found] == [missed, *[0] * len(hours)]
    assert [one.is_missed for one in found] == [*[True] * len(hours), False]


def test_times_between_a_late_settling_and_now_are_missed_from_there_on() -> None:
    found = due(NOON - MINUTE / 2, NOON + 3 * HOUR, missed="once")
    assert [(one.at - NOON) / HOUR for one in found] == [2, 3]


@pytest.mark.parametrize("days", [1, 365])
def test_of_however_many_missed_seconds_the_last_ones_are_found(days: int) -> None:
    found = due(NOON - timedelta(days=days), NOON, timedelta(0), cron="* * * * * *", missed="all", missed_limit=100)
    assert [(NOON - one.at).total_seconds() for one in found if one.is_missed] == list(range(100, 0, -1))
    assert found[0].missed == 10_000 - 100


def test_of_missed_times_that_are_dense_long_ago_and_rare_now_the_last_ones_are_found() -> None:
    """Each second of one January, and nothing since."""
    found = due(NOON - timedelta(days=365), NOON, cron="* * * 1 1 *", missed="all", missed_limit=50)
    end = datetime(2026, 1, 1, 23, 59, 59, tzinfo=UTC)
    assert [(end - one.at).total_seconds() for one in found] == list(range(49, -1, -1))


def test_ten_thousand_missed_times_are_counted_exactly() -> None:
    now = NOON + timedelta(seconds=9_999 + 61)
    found = due(NOON, now, cron="* * * * * *", missed="once")
    assert (found[0].is_missed, found[0].missed) == (True, 9_998)
