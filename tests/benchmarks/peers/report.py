"""The run for people: who, on what, and the table."""

import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.benchmarks.peers.measures import Json, Result

CAVEATS = (
    "producers, workers and servers share the machine's processor: ratios count, absolute figures carry the machine",
    "tasks a second are counted from the first handler's start to the moment at which the last task is seen as done",
    "Postgres commits durably (fsync and synchronous_commit on); Redis runs without append-only file, which is to the"
    " peers' advantage",
    "latency is from the producer's return from commit (from the enqueue, on Redis) to the handler's first line; below"
    " zero: the handler was faster than the answer",
    "the half load is half of the no-op throughput of the same run, and never more than --load-cap",
    "plain psycopg keeps no attempts, leases, retries or history: the ceiling, not a peer; its enqueue one by one is"
    " the plain INSERT",
    "a row is written 'with the completion', or in its own transaction, which a crash may part from the task's end",
    "tasks that write a row are two fifths of the others' number",
    "each measurement starts from an empty queue in a database of its own, after ANALYZE and CHECKPOINT",
)
_NOTHING = "–"
_COLUMNS = (
    *("no-op /s", "of best", "row /s", "written", "enqueue /s", "of INSERT", "bulk /s"),
    *("idle p50", "p95", "p99 ms", "half load p50", "p95", "p99 ms", "at /s"),
)


def as_json(results: list[Result], run: Json) -> Json:
    """Return everything, for a file."""
    return {**run, "legs": [_leg(result) for result in results], "caveats": list(CAVEATS)}


def machine() -> dict[str, Any]:
    """Return what the figures were measured on."""
    return {
        "cores": os.cpu_count(),
        "processor": _processor(),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def print_report(console: Console, results: list[Result], run: Json) -> None:
    """Print table, set-ups, failures and caveats."""
    console.print(_table(results))
    for result in results:
        if result.facts is not None:
            versions = ", ".join(f"{name} {version}" for name, version in result.facts.versions.items())
            console.print(
                f"[bold]{result.leg.name}[/bold] ({versions}; {result.tasks:,} tasks a round): {result.facts.settings}."
                f" Done: {result.facts.judged}. Row written {result.facts.effect}."
            )
    for result in results:
        for what, error in result.errors.items():
            console.print(f"[bold red]{result.leg.name} {what} failed[/bold red]")
            console.print(error, markup=False)
    for name in ("parameters", "servers", "machine"):
        console.print(f"{name}: " + ", ".join(f"{key} {value}" for key, value in run[name].items()), markup=False)
    for caveat in CAVEATS:
        console.print(f"- {caveat}")


def markdown(results: list[Result]) -> str:
    """Return the table for a page of the documents."""
    head = ("leg", *_COLUMNS)
    lines = [head, ("---", *("---:" for _ in _COLUMNS)), *_rows(results)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _table(results: list[Result]) -> Table:
    table = Table(title="Two worker processes each; medians of the rounds")
    table.add_column("leg")
    for name in _COLUMNS:
        table.add_column(name, justify="right")
    for cells in _rows(results):
        table.add_row(*cells)
    return table


def _rows(results: list[Result]) -> Iterator[tuple[str, ...]]:
    best = max((result.median("noop") or 0.0 for result in results if result.leg.peer != "plain"), default=0.0)
    insert = next((result.median("enqueue_one") for result in results if result.leg.peer == "plain"), None)
    for result in results:
        idle, load = result.latency.get("idle", {}), result.latency.get("load", {})
        noop, one = result.median("noop"), result.median("enqueue_one")
        yield (
            result.leg.name + (" ✗" if result.errors else ""),
            *(_whole(noop), _share(noop, best), _whole(result.median("write")), _written(result)),
            *(_whole(one), _share(one, insert), _whole(result.median("enqueue_many"))),
            *(_fine(found.get(name)) for found in (idle, load) for name in ("p50_ms", "p95_ms", "p99_ms")),
            _whole(load.get("rate")),
        )


def _written(result: Result) -> str:
    """Say in which transaction a task's row was written."""
    if result.facts is None or result.median("write") is None:
        return _NOTHING
    return "own" if "own" in result.facts.effect else "atomic"


def _leg(result: Result) -> Json:
    return {
        "leg": result.leg.name,
        "tasks": result.tasks,
        "facts": vars(result.facts) if result.facts else None,
        "medians": {name: round(result.median(name) or 0.0, 3) for name in result.rounds},
        "rounds": {name: [round(value, 3) for value in values] for name, values in result.rounds.items()},
        "latency": result.latency,
        "errors": result.errors,
    }


def _share(value: float | None, whole: float | None) -> str:
    return f"{value / whole:.2f}" if value and whole else _NOTHING


def _whole(value: float | None) -> str:
    return _NOTHING if value is None else f"{value:,.0f}"


def _fine(value: float | None) -> str:
    return _NOTHING if value is None else f"{value:.1f}"


def _processor() -> str:
    """Return the processor's name as Linux knows it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
