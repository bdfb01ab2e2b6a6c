"""`greenroom health`: what personas use and do, hour by hour, and what is over its threshold."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import typer

from console import output
from console.bars import sparkline
from console.options import AsJson, Tenant
from console.runtime import operate
from core.errors import NotFoundError
from db import persona_health
from db.connection import tenant_transaction
from db.persona_health import Hour, Metric, Shown

_WIDTH = 48
_HOUR = timedelta(hours=1)
_UNMEASURED = "–"
Value = Decimal | int | None


@dataclass(frozen=True, slots=True)
class _Figure:
    """How a measure is shown: its name, unit, columns of the roll-up, and whether hours are summed up or peaked."""

    metric: Metric
    name: str
    write: Callable[[Decimal | int], str]
    peak: str
    average: str | None = None
    percentile: str | None = None
    top: float | None = None


def _percent(value: Decimal | int) -> str:
    return f"{value:.0f} %"


def _megabytes(value: Decimal | int) -> str:
    return output.size(round(value) * 10**6)


def _gigabytes(value: Decimal | int) -> str:
    return f"{value:.2f} GB"


def _dollars(value: Decimal | int) -> str:
    return f"${value:,.4f}" if 0 < value < 1 else f"${value:,.2f}"


def _number(value: Decimal | int) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"


def _gauge(metric: Metric, name: str, write: Callable[[Decimal | int], str], stem: str, top: float | None) -> _Figure:
    return _Figure(metric, name, write, f"{stem}_max", f"{stem}_avg", f"{stem}_p95", top)


_FIGURES = (
    _gauge("cpu_percent", "CPU", _percent, "cpu_percent", 100),
    _gauge("memory_percent", "memory", _percent, "memory_percent", 100),
    _gauge("memory_mb", "memory", _megabytes, "memory_mb", None),
    _gauge("disk_usage_gb", "disk", _gigabytes, "disk_usage_gb", None),
    _gauge("active_runs_count", "runs", _number, "active_runs", None),
    _Figure("llm_calls_count", "calls", _number, "llm_calls_sum"),
    _Figure("estimated_cost", "cost", _dollars, "estimated_cost_sum"),
)
_BY_METRIC = {figure.metric: figure for figure in _FIGURES}


def show(
    persona: Annotated[str | None, typer.Argument(metavar="[PERSONA]", help="Its name or id; unset: all.")] = None,
    hours: Annotated[int, typer.Option("--hours", min=1, max=2400, help="So many hours back, this one too.")] = 24,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="At most so many personas.")] = 50,
    tenant: Tenant = None,
    as_json: AsJson = False,
) -> None:
    """Show what personas use and do by the hour; ▲ marks what is over its threshold, a dot an hour without measures."""
    since = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - (hours - 1) * _HOUR
    with operate() as operation, tenant_transaction(operation.connection, operation.tenant_id(tenant)):
        found = persona_health.shown(operation.connection, persona, limit)
        rows = persona_health.hours(operation.connection, [each.id for each in found], since)
    if persona is not None and not found:
        raise NotFoundError(f"no persona is called {persona!r}: `greenroom health` lists those there are")
    past: dict[UUID, list[Hour]] = {each.id: [] for each in found}
    for row in rows:
        past[row.persona_id].append(row)
    if as_json:
        listed = [asdict(each) | {"hours": [asdict(row) for row in past[each.id]]} for each in found]
        output.show_json({"since": since, "personas": listed})
    elif persona is None:
        _show_all(found, past, since, hours)
        if len(found) == limit:
            output.note(f"the first {limit}: --limit shows more")
    else:
        for each in found:
            _show_one(each, past[each.id], since, hours)


def _show_all(found: Sequence[Shown], past: dict[UUID, list[Hour]], since: datetime, hours: int) -> None:
    span = f"{hours} h"
    output.show_table(
        ("persona", "#measured", "#CPU", span, "#memory", span, "#disk", "#runs", f"#calls, {span}", f"#cost, {span}"),
        [_row(each, past[each.id], since, hours) for each in found],
        empty="no personas: a product makes them, and `personas.measure` measures those that are active",
    )


def _row(shown: Shown, past: Sequence[Hour], since: datetime, hours: int) -> tuple[object, ...]:
    name = shown.name if shown.is_active else f"{shown.name} (inactive)"
    sums = [_summed(past, _BY_METRIC[metric], shown) for metric in ("llm_calls_count", "estimated_cost")]
    return (
        output.Alarming(name) if shown.crossed else name,
        output.ago(shown.measured_at) or "never",
        _now(shown, "cpu_percent"),
        _bars(past, _BY_METRIC["cpu_percent"], since, hours),
        _memory(shown),
        _bars(past, _BY_METRIC["memory_percent"], since, hours),
        _now(shown, "disk_usage_gb"),
        _now(shown, "active_runs_count"),
        *sums,
    )


def _show_one(shown: Shown, past: Sequence[Hour], since: datetime, hours: int) -> None:
    measured = f"{output.ago(shown.measured_at)} ago" if shown.measured_at else "never"
    output.show_fields(
        [
            ("persona", shown.name),
            ("id", shown.id),
            ("host", shown.host),
            ("active", shown.is_active),
            ("measured", measured),
            ("measures", sum(row.sample_count for row in past)),
        ]
    )
    columns = ("measure", "#now", "#mean", "#worst p95", "#highest", "#sum", f"{hours} h")
    output.show_table(columns, [_line(figure, shown, past, since, hours) for figure in _FIGURES])


def _line(figure: _Figure, shown: Shown, past: Sequence[Hour], since: datetime, hours: int) -> tuple[object, ...]:
    bars = _bars(past, figure, since, hours)
    now = _now(shown, figure.metric)
    if figure.average is None or figure.percentile is None:
        return (figure.name, now, "", "", "", _summed(past, figure, shown), bars)
    weighted = [(getattr(row, figure.average), row.sample_count) for row in past]
    known = [(value, count) for value, count in weighted if value is not None]
    mean = sum(value * count for value, count in known) / sum(count for _, count in known) if known else None
    worst, highest = (_greatest(past, column) for column in (figure.percentile, figure.peak))
    return (figure.name, now, *(_written(figure, value) for value in (mean, worst, highest)), "", bars)


def _now(shown: Shown, metric: Metric) -> object:
    """Return the last measure; marked where it is over its threshold."""
    text = _written(_BY_METRIC[metric], getattr(shown, metric))
    return output.Alarming(text) if metric in shown.crossed else text


def _memory(shown: Shown) -> object:
    parts = [_written(_BY_METRIC[metric], getattr(shown, metric)) for metric in ("memory_mb", "memory_percent")]
    text = _UNMEASURED if set(parts) == {_UNMEASURED} else ", ".join(parts)
    return output.Alarming(text) if {"memory_mb", "memory_percent"} & set(shown.crossed) else text


def _summed(past: Sequence[Hour], figure: _Figure, shown: Shown) -> object:
    """Return what all hours come to, marked where the last measure is over its threshold."""
    values = _values(past, figure.peak)
    text = _written(figure, sum(values, Decimal()) if values else None)
    return output.Alarming(text) if figure.metric in shown.crossed else text


def _greatest(past: Sequence[Hour], column: str) -> Value:
    return max(_values(past, column), default=None)


def _values(past: Iterable[Hour], column: str) -> list[Any]:
    return [value for row in past if (value := getattr(row, column)) is not None]


def _written(figure: _Figure, value: Value) -> str:
    return _UNMEASURED if value is None else figure.write(value)


def _bars(past: Sequence[Hour], figure: _Figure, since: datetime, hours: int) -> str:
    """Return an hour's mean, or its sum, as a bar each; of many hours the highest mean of those side by side."""
    column = figure.average or figure.peak
    by_hour = {row.hour: getattr(row, column) for row in past}
    values = [by_hour.get(since + n * _HOUR) for n in range(hours)]
    floats = [None if value is None else float(value) for value in values]
    return sparkline(floats, _WIDTH, top=figure.top, fold=max if figure.average else sum)
