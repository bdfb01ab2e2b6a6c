"""Spark lines: values side by side as bars, one character each."""

from collections.abc import Callable, Iterable, Sequence

_BARS = "▁▂▃▄▅▆▇█"
_GAP = "·"


def sparkline(
    values: Sequence[float | None],
    width: int = 60,
    *,
    top: float | None = None,
    fold: Callable[[Iterable[float]], float] = sum,
) -> str:
    """Return values as bars, the highest the greatest or `top`; a gap, None, is a dot.

    More than `width` of them are folded into one side by side, summed up unless `fold` says other.
    """
    step = -(-len(values) // width) or 1
    parts = [[value for value in values[i : i + step] if value is not None] for i in range(0, len(values), step)]
    folded = [fold(part) if part else None for part in parts]
    highest = top or max((value for value in folded if value is not None), default=0) or 1
    return "".join(_GAP if value is None else _bar(value / highest) for value in folded)


def _bar(part: float) -> str:
    return _BARS[round(min(part, 1) * (len(_BARS) - 1))]
