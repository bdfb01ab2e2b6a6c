"""What `greenroom statistics` makes of counts."""

from console.bars import sparkline


def test_a_sparkline_has_a_bar_for_each_minute() -> None:
    assert sparkline([0, 1, 7, 3.5]) == "▁▂█▅"
    assert sparkline([0, 0]) == "▁▁"
    assert sparkline([]) == ""


def test_a_long_time_is_summed_up_into_the_width() -> None:
    assert sparkline([1] * 100 + [3] * 20, width=6) == "▃▃▃▃▃█"
