"""`greenroom queues`: what waits where, and the brake."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated

import typer

from console import output
from console.options import AsJson
from console.runtime import Operation, operate
from core.errors import NotFoundError
from db import tasks
from db.connection import Connection

app = typer.Typer(help="Queues: list, pause, resume.", no_args_is_help=True)
Names = Annotated[list[str], typer.Argument(metavar="QUEUE...", help="Names of queues.")]


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List queues with what waits, runs, is deferred or held, and who serves them."""
    with operate() as operation:
        rows = _rows(operation)
    if as_json:
        output.show_json({"queues": [asdict(row) for row in rows]})
        return
    output.show_table(
        ("queue", "state", "#waiting", "#running", "#deferred", "#held", "#workers", "#slots", "#oldest due"),
        [
            (
                r.name,
                "paused" if r.paused_at else "open",
                r.waiting,
                r.running,
                r.deferred,
                r.held,
                r.workers,
                r.slots,
                output.duration(r.oldest_seconds) if r.waiting else "",
            )
            for r in rows
        ],
    )


@app.command()
def pause(queues: Names) -> None:
    """Claim no more of a queue's tasks; what runs goes on, and what is enqueued waits."""
    _steer(queues, tasks.pause, "paused")


@app.command()
def resume(queues: Names) -> None:
    """Claim a queue's tasks again."""
    _steer(queues, tasks.resume, "open")


def _steer(names: list[str], act: Callable[[Connection, str], None], word: str) -> None:
    with operate() as operation:
        known = [row.name for row in _rows(operation)]
        if unknown := [name for name in names if name not in known]:
            raise NotFoundError(f"no queue is named {unknown[0]!r}; there are {', '.join(known)}")
        for name in names:
            act(operation.connection, name)
            output.show_line(f"{name}: {word}")


def _rows(operation: Operation) -> list[tasks.QueueRow]:
    return tasks.queues(operation.connection, process_timeout=operation.settings.relay.process_timeout)
