"""What `greenroom statistics` and `doctor` make of counts and alerts."""

from datetime import UTC, datetime

from console.bars import sparkline
from console.checks import Check, raised
from db.alerts import Alert


def test_a_sparkline_has_a_bar_for_each_minute() -> None:
    assert sparkline([0, 1, 7, 3.5]) == "▁▂█▅"
    assert sparkline([0, 0]) == "▁▁"
    assert sparkline([]) == ""


def test_a_long_time_is_summed_up_into_the_width() -> None:
    assert sparkline([1] * 100 + [3] * 20, width=6) == "▃▃▃▃▃█"


def test_an_alert_that_is_raised_is_a_warning_with_its_facts() -> None:
    facts = {"queue": "mail", "workers": 0, "oldest_seconds": 400}
    alert = Alert("stalled_queue", "stalled_queue:mail", facts, datetime.now(UTC), 300.0, is_told=False)
    told = Alert("dead_loop", "dead_loop:x", {"loop": "beat"}, datetime.now(UTC), 30.0, is_told=True)
    assert list(raised([alert, told])) == [
        Check(
            "alert stalled_queue",
            "warning",
            "for 5 min: oldest_seconds 400, queue mail, workers 0; no webhook was told",
        ),
        Check("alert dead_loop", "warning", "for 30 s: loop beat"),
    ]
