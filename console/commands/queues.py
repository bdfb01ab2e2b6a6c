"""`greenroom queues`: what waits where, the brake, and the limits."""

import math
import re
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Literal

import typer

from console import output
from console.options import AsJson
from console.runtime import Operation, operate
from console.values import SECONDS, moment_of, span_of
from core.errors import NotFoundError, UsageError
from db import limits, tasks

app = typer.Typer(help="Queues: list, show, pause, resume, limit.", no_args_is_help=True)
Names = Annotated[list[str], typer.Argument(metavar="QUEUE...", help="Names of queues.")]
Per = Literal["queue", "type", "tenant", "key"]
_KINDS: dict[Per, limits.Kind] = {"queue": "queue", "type": "task_type", "tenant": "tenant", "key": "key"}
_RATE = re.compile(r"(?P<rate>\d+(\.\d+)?)/(?P<count>\d+(\.\d+)?)?(?P<unit>s|min|h|d)")


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List queues with what waits, runs, is deferred or held, who serves them, and limits with how full they are."""
    with operate() as operation:
        rows, found = _rows(operation), limits.limits(operation.connection)
    _show(rows, found, as_json=as_json)


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="QUEUE", help="Name of a queue.")], as_json: AsJson = False
) -> None:
    """Show one queue and the limits that its tasks may meet."""
    with operate() as operation:
        rows = _known(operation, [name])
        found = [row for row in limits.limits(operation.connection) if row.kind != "queue" or row.name in (name, "*")]
    _show([row for row in rows if row.name == name], found, as_json=as_json)


@app.command()
def pause(
    queues: Names,
    until: Annotated[
        str | None, typer.Option("--until", help="Resume then: a time with zone, or seconds from now.")
    ] = None,
    for_: Annotated[str | None, typer.Option("--for", help="Resume after that long: 90s, 30min, 2h or 1d.")] = None,
    as_json: AsJson = False,
) -> None:
    """Claim no more of a queue's tasks, for good or for a time; what runs goes on, and what is enqueued waits."""
    moment = _resumption(until, for_)
    _steer(queues, lambda operation, name: tasks.pause(operation.connection, name, moment), "paused", moment, as_json)


@app.command()
def resume(queues: Names, as_json: AsJson = False) -> None:
    """Claim a queue's tasks again."""
    _steer(queues, lambda operation, name: tasks.resume(operation.connection, name), "open", None, as_json)


@app.command()
def limit(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Queue, task type, tenant's id or key; * for each by itself.")
    ],
    per: Annotated[Per, typer.Option("--per", help="What NAME is the name of.")] = "queue",
    concurrency: Annotated[
        int | None, typer.Option("--concurrency", help="So many tasks at once, claimed or in progress.")
    ] = None,
    rate: Annotated[
        str | None, typer.Option("--rate", help="So many tasks in a time: 10/s, 300/min, 1000/2h, 5000/d.")
    ] = None,
    burst: Annotated[
        int | None,
        typer.Option("--burst", help="So many at once after a rest; unset: what the rate gives in a second."),
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Remove the limit, and its key's pause.")] = False,
    as_json: AsJson = False,
) -> None:
    """Set a limit or remove it; running relays keep to it within a quarter of a second."""
    wanted = _limit_of(_KINDS[per], name, concurrency, rate, burst)
    if remove and (concurrency, rate, burst) != (None, None, None):
        raise UsageError("--remove takes the whole limit away: leave --concurrency, --rate and --burst out")
    with operate() as operation:
        if remove:
            if not limits.remove_limit(operation.connection, wanted.kind, name):
                raise NotFoundError(
                    f"there is no limit on {per} {name!r}: `greenroom queues list` shows those there are"
                )
        else:
            _check_name(operation, wanted)
            limits.set_limit(operation.connection, wanted)
        found = [row for row in limits.limits(operation.connection) if (row.kind, row.name) == (wanted.kind, name)]
    if as_json:
        output.show_json({"limits": [asdict(row) for row in found]})
        return
    output.show_line(f"{per} {name}: {_said(found[0]) if found else 'no limit'}")


def _limit_of(
    kind: limits.Kind, name: str, concurrency: int | None, rate: str | None, burst: int | None
) -> limits.Limit:
    if rate is None:
        if burst is not None:
            raise UsageError("--burst says how many tokens a rate saves up: give --rate too")
        return limits.Limit(kind, name, concurrency)
    given = _RATE.fullmatch(rate)
    if given is None:
        raise UsageError(f"{rate!r} is no rate: write 10/s, 300/min, 1000/2h or 5000/d")
    count, seconds = float(given["rate"]), float(given["count"] or 1) * SECONDS[given["unit"]]
    if seconds == 0:
        raise UsageError(f"{rate!r} is no rate: its time is zero")
    tokens = burst if burst is not None else max(math.ceil(count / seconds), 1)
    return limits.Limit(kind, name, concurrency, count, seconds, tokens)


def _check_name(operation: Operation, wanted: limits.Limit) -> None:
    """Refuse a limit on what is not there: a word that is misspelt limits nothing."""
    if wanted.name == limits.EACH or wanted.kind in ("tenant", "key"):
        return
    if wanted.kind == "queue":
        _known(operation, [wanted.name])
    elif wanted.name not in (known := tasks.known_types(operation.connection)):
        raise NotFoundError(f"no task type is named {wanted.name!r}; there are {', '.join(sorted(known))}")


def _resumption(until: str | None, for_: str | None) -> datetime | None:
    """Return when a pause ends by itself; raises UsageError for what is no time, or none to come."""
    if until is not None and for_ is not None:
        raise UsageError("--until and --for say the same: give one of them")
    if for_ is not None:
        span = span_of(for_)
        if not span:
            raise UsageError(f"{for_!r} is no pause: write 90s, 30min, 2h or 1d")
        return moment_of(str(span.total_seconds()))
    if until is None:
        return None
    moment = moment_of(until)
    if moment <= datetime.now(moment.tzinfo):
        raise UsageError(f"{until!r} is past: a pause ends in the time to come")
    return moment


def _steer(
    names: list[str], act: Callable[[Operation, str], None], word: str, until: datetime | None, as_json: bool
) -> None:
    with operate() as operation:
        _known(operation, names)
        for name in names:
            act(operation, name)
        rows = [row for row in _rows(operation) if row.name in names]
    if as_json:
        output.show_json({"queues": [asdict(row) for row in rows]})
        return
    for name in names:
        output.show_line(f"{name}: {word}{f' until {until:%Y-%m-%d %H:%M:%S %Z}' if until else ''}")


def _known(operation: Operation, names: list[str]) -> list[tasks.QueueRow]:
    rows = _rows(operation)
    known = [row.name for row in rows]
    if unknown := [name for name in names if name not in known]:
        raise NotFoundError(f"no queue is named {unknown[0]!r}; there are {', '.join(known)}")
    return rows


def _rows(operation: Operation) -> list[tasks.QueueRow]:
    return tasks.queues(operation.connection, process_timeout=operation.settings.relay.process_timeout)


def _show(rows: list[tasks.QueueRow], found: list[limits.LimitRow], *, as_json: bool) -> None:
    if as_json:
        output.show_json({"queues": [asdict(row) for row in rows], "limits": [asdict(row) for row in found]})
        return
    columns = ("queue", "state", "#waiting", "#running", "#deferred", "#held", "#workers", "#slots", "#oldest due")
    output.show_table(columns, [_cells(row) for row in rows])
    if found:
        words = {kind: per for per, kind in _KINDS.items()}
        output.show_table(("limit on", "name", "is"), [(words[row.kind], row.name, _said(row)) for row in found])


def _cells(row: tasks.QueueRow) -> tuple[object, ...]:
    counts = (row.waiting, row.running, row.deferred, row.held, row.workers, row.slots)
    return (row.name, _state(row), *counts, output.duration(row.oldest_seconds) if row.waiting else "")


def _state(row: tasks.QueueRow) -> str:
    if row.paused_at is None:
        return "open"
    return f"paused until {row.resume_at:%Y-%m-%d %H:%M:%S %Z}" if row.resume_at else "paused"


def _said(row: limits.LimitRow) -> str:
    """Return what a limit says and how full it is, in words."""
    parts = []
    if row.concurrency is not None:
        whose = f" of {row.fullest}" if row.name == limits.EACH and row.fullest else ""
        parts.append(f"{row.occupied} of {row.concurrency} at once{whose}")
    if row.rate is not None:
        left = "" if row.tokens is None else f", {max(row.tokens, 0):.0f} of {row.burst} to spend"
        parts.append(f"{row.rate:g} in {row.rate_seconds:g} s{left}")
    if row.paused_until is not None:
        parts.append(f"paused until {row.paused_until:%Y-%m-%d %H:%M:%S %Z}, as its provider asked")
    return "; ".join(parts)
