"""When a measure is told of: once as it crosses its threshold, and once when it is well below again."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from decimal import Decimal

from core.groups import HealthSettings
from db.persona_health import METRICS, Metric, Threshold

_CLEARED = Decimal("0.9")
"""A threshold of the settings is cleared below this share of it."""
Figures = Mapping[Metric, Decimal | int | None]
Thresholds = Mapping[Metric, Threshold | None]


@dataclass(frozen=True, slots=True)
class Crossing:
    """A measure that has crossed its threshold, or has cleared it; that has none any more if `threshold` is None."""

    metric: Metric
    is_up: bool
    value: Decimal | int | None
    threshold: Threshold | None


def crossings(figures: Figures, thresholds: Thresholds, crossed: Collection[Metric]) -> list[Crossing]:
    """Return what changes with a measure, `crossed` being what was over its threshold; what is None changes nothing."""
    found = []
    for metric in METRICS:
        threshold, value, was_up = thresholds.get(metric), figures.get(metric), metric in crossed
        is_up = was_up if threshold is None or value is None else _is_up(value, threshold, was_up)
        if threshold is None:
            is_up = False
        if is_up != was_up:
            found.append(Crossing(metric, is_up, value, threshold))
    return found


def crossed_after(crossed: Collection[Metric], changes: Collection[Crossing]) -> list[Metric]:
    """Return what is over its threshold once that has changed."""
    ups = {change.metric: change.is_up for change in changes}
    return [metric for metric in METRICS if ups.get(metric, metric in crossed)]


def defaults(settings: HealthSettings) -> dict[Metric, Threshold | None]:
    """Return the thresholds of the settings, of which 0 is none."""
    given: dict[Metric, float] = {
        "cpu_percent": settings.cpu_percent,
        "memory_percent": settings.memory_percent,
        "disk_usage_gb": settings.disk_gb,
        "estimated_cost": settings.cost,
    }
    return {metric: _threshold(Decimal(str(at))) if at else None for metric, at in given.items()}


def _threshold(at: Decimal) -> Threshold:
    return Threshold(at, at * _CLEARED)


def _is_up(value: Decimal | int, threshold: Threshold, was_up: bool) -> bool:
    return value >= (threshold.clear_below if was_up else threshold.raise_at)
