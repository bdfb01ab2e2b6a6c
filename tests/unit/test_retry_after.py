"""What a server says about when to come again, in every form that it may have."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from core.retry_after import retry_after

MOST = timedelta(hours=1)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("nan", None),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("0.25", 0.25),
        ("-3", 0.0),
        ("9" * 15, 3600.0),
        ("inf", 3600.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("Mon, 01 Jan 9999 23:59:59 GMT", 3600.0),
        ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", None),
        ("Mon, 1 Jan 2030 00:00:00 +99999999999999", None),
    ],
)
def test_a_wait_is_read_within_bounds(header: str | None, seconds: float | None) -> None:
    found = retry_after(header, most=MOST)
    assert found == (None if seconds is None else timedelta(seconds=seconds))


def test_a_date_is_so_far_ahead() -> None:
    found = retry_after(format_datetime(datetime.now(UTC) + timedelta(minutes=2)), most=MOST)
    assert found is not None
    assert timedelta(seconds=115) < found <= timedelta(minutes=2)


def test_a_wait_has_a_least() -> None:
    assert retry_after("0", least=timedelta(seconds=1), most=MOST) == timedelta(seconds=1)
