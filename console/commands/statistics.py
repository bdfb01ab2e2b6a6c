"""`greenroom statistics`: what ended minute by minute, and how queues stood."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from console import output
from console.bars import sparkline
from console.options import AsJson
from console.runtime import operate
from db import statistics


def show(
    minutes: Annotated[int, typer.Option(min=1, max=10_080, help="How many closed minutes to look back.")] = 60,
    queue: Annotated[str | None, typer.Option(help="Only this queue.")] = None,
    task_type: Annotated[str | None, typer.Option("--type", help="Only this task type.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what ended in the last minutes by queue and task type, and how many tasks waited."""
    with operate() as operation:
        rows = statistics.minutes(operation.connection, count=minutes, queue=queue, task_type=task_type)
        stands = statistics.gauges(operation.connection, count=minutes, queue=queue)
    if as_json:
        output.show_json({"minutes": [asdict(row) for row in rows], "queues": [asdict(row) for row in stands]})
        return
    output.show_table(
        ("queue", "task type", "#done", "#failed", "#cancelled", "#retried", "#mean run", "#mean wait", "ended"),
        [_totals(key, [row for row in rows if (row.queue, row.task_type) == key], rows) for key in _keys(rows)],
        empty=f"nothing ended in the last {minutes} closed minutes",
    )
    output.show_table(
        ("queue", "#waiting", "#running", "#oldest due", "waiting"),
        [
            _standing([row for row in stands if row.queue == name])
            for name in dict.fromkeys(row.queue for row in stands)
        ],
        empty="no relay has looked at the queues in that time",
    )


def _keys(rows: Sequence[statistics.MinuteRow]) -> list[tuple[str, str]]:
    return sorted({(row.queue, row.task_type) for row in rows})


def _totals(
    key: tuple[str, str], rows: Sequence[statistics.MinuteRow], everything: Sequence[statistics.MinuteRow]
) -> list[object]:
    runs = sum(row.runs for row in rows)
    counts = [sum(getattr(row, name) for row in rows) for name in ("done", "failed", "cancelled", "retried")]
    means = [_mean(sum(getattr(row, name) for row in rows), runs) for name in ("run_seconds", "wait_seconds")]
    # one scale of time for all rows: from the first minute that has any
    first, last = everything[0].minute, everything[-1].minute
    bars = [0.0] * (round((last - first).total_seconds() / 60) + 1)
    for row in rows:
        bars[round((row.minute - first).total_seconds() / 60)] = row.done + row.failed + row.cancelled
    return [*key, *counts, *means, sparkline(bars)]


def _mean(seconds: float, runs: int) -> str:
    return f"{seconds / runs:.3g} s" if runs else ""


def _standing(rows: Sequence[statistics.GaugeRow]) -> list[object]:
    now = rows[-1]
    oldest = output.duration(now.oldest_seconds) if now.waiting else ""
    return [now.queue, now.waiting, now.running, oldest, sparkline([row.waiting for row in rows])]
