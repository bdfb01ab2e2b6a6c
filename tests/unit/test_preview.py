"""What is shown of fires to come: the clock of the zone, and what daylight saving does to each."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core.errors import ScheduleError
from scheduler.preview import upcoming
from scheduler.triggers import TriggerSpec

MOVED = "moved: daylight saving leaves out "
FIRST, SECOND = (f"comes twice that day: the {which}" for which in ("first", "second"))


@pytest.mark.parametrize(
    ("since", "what", "told"),
    [
        (
            "2026-03-28", {"cron": "30 2 * * *", "zone": "Europe/Berlin"},
            [("2026-03-28T02:30:00+01:00", None), ("2026-03-29T03:30:00+02:00", MOVED + "02:30:00"),
             ("2026-03-30T02:30:00+02:00", None)],
        ),
        (
            "2026-03-28T12:00", {"cron": "30 2 * * *", "zone": "Europe/Berlin", "gap": "skip"},
            [("2026-03-30T02:30:00+02:00", None)],
        ),
        (  # what is moved onto another time of the expression is that one
            "2026-03-29", {"cron": "30 2,3 * * *", "zone": "Europe/Berlin"},
            [("2026-03-29T03:30:00+02:00", None), ("2026-03-30T02:30:00+02:00", None)],
        ),
        (
            "2026-10-24T12:00", {"cron": "30 2 * * *", "zone": "Europe/Berlin", "fold": "both"},
            [("2026-10-25T02:30:00+02:00", FIRST), ("2026-10-25T02:30:00+01:00", SECOND),
             ("2026-10-26T02:30:00+01:00", None)],
        ),
        ("2026-10-24T12:00", {"cron": "30 2 * * *", "zone": "Europe/Berlin"}, [("2026-10-25T02:30:00+02:00", FIRST)]),
        (
            "2026-10-24T12:00", {"cron": "30 2 * * *", "zone": "Europe/Berlin", "fold": "second"},
            [("2026-10-25T02:30:00+01:00", SECOND)],
        ),
        (  # half an hour
            "2026-10-03", {"cron": "5 15 2 * * *", "zone": "Australia/Lord_Howe"},
            [("2026-10-04T02:45:05+11:00", MOVED + "02:15:05")],
        ),
        (  # a day that never was, each hour of it moved onto the next day's
            "2011-12-29T12:00", {"cron": "0 12 30 12 *", "zone": "Pacific/Apia"},
            [("2011-12-31T12:00:00+14:00", MOVED + "12:00:00")],
        ),
        ("2026-10-24T23:59", {"every": timedelta(hours=1), "zone": "Europe/Berlin"},
         [("2026-10-25T02:00:00+02:00", None), ("2026-10-25T02:00:00+01:00", None)]),
        ("2026-10-24", {"at": datetime(2026, 10, 25, 0, 30, tzinfo=UTC), "zone": "Europe/Berlin"},
         [("2026-10-25T02:30:00+02:00", None)]),
    ],
)  # fmt: skip
def test_fires_are_told_as_the_zones_clock_shows_them(
    since: str, what: dict[str, Any], told: list[tuple[str, str | None]]
) -> None:
    after = datetime.fromisoformat(since).replace(tzinfo=UTC)
    found = upcoming(TriggerSpec(**what, anchor=datetime(2026, 1, 1, tzinfo=UTC)), after, len(told))
    assert [(each.local.isoformat(), each.note) for each in found] == told
    assert [each.at for each in found] == [datetime.fromisoformat(local).astimezone(UTC) for local, _ in told]


def test_there_are_no_more_fires_than_there_are() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    spec = TriggerSpec(cron="0 0 * * *", ends_at=start + timedelta(days=2))
    assert [each.at.day for each in upcoming(spec, start, 10)] == [2, 3]
    assert upcoming(TriggerSpec(at=start), start, 10) == []


def test_what_cannot_be_followed_is_refused() -> None:
    with pytest.raises(ScheduleError, match="the minute"):
        upcoming(TriggerSpec(cron="1--100000000 * * * *"), datetime(2026, 1, 1, tzinfo=UTC), 1)
