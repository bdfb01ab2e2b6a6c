"""The run for people: who, on what, and the table."""

import os
import platform
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
    "plain psycopg keeps no attempts, leases, retries or history: the ceiling, not a peer",
    "each measurement starts from an empty queue in a database of its own, after ANALYZE and CHECKPOINT",
)
_NOTHING = "–"
_COLUMNS = (
    *("no-op /s", "of best", "one row /s", "enqueue /s", "in bulk /s"),
    *("idle p50 ms", "p99", "half load p50", "p99", "at /s"),
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
        if result.error is not None:
            console.print(f"[bold red]{result.leg.name} failed[/bold red] {result.error}", markup=True)
    for name in ("parameters", "servers", "machine"):
        console.print(f"{name}: " + ", ".join(f"{key} {value}" for key, value in run[name].items()))
    for caveat in CAVEATS:
        console.print(f"- {caveat}")


def _table(results: list[Result]) -> Table:
    best = max((result.median("noop") or 0.0 for result in results if result.leg.peer != "plain"), default=0.0)
    table = Table(title="Two worker processes each; medians")
    table.add_column("leg")
    for name in _COLUMNS:
        table.add_column(name, justify="right")
    for result in results:
        noop = result.median("noop")
        idle, load = result.latency.get("idle", {}), result.latency.get("load", {})
        table.add_row(
            result.leg.name + (" ✗" if result.error else ""),
            _whole(noop),
            f"{noop / best:.2f}" if noop and best else _NOTHING,
            *(_whole(result.median(name)) for name in ("write", "enqueue_one", "enqueue_many")),
            *(_fine(found.get(name)) for found in (idle, load) for name in ("p50_ms", "p99_ms")),
            _whole(load.get("rate")),
        )
    return table


def _leg(result: Result) -> Json:
    return {
        "leg": result.leg.name,
        "tasks": result.tasks,
        "facts": vars(result.facts) if result.facts else None,
        "medians": {name: round(result.median(name) or 0.0, 3) for name in result.rounds},
        "rounds": {name: [round(value, 3) for value in values] for name, values in result.rounds.items()},
        "latency": result.latency,
        "error": result.error,
    }


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
