"""`greenroom bench`: measure this machine."""

from typing import Annotated

import typer

from console import output
from console.runtime import observe, settings


def bench(
    tasks: Annotated[int, typer.Option("--tasks", min=100, max=1_000_000, help="No-op tasks a round.")] = 20_000,
    quick: Annotated[bool, typer.Option("--quick", help="One round of each, fewer texts.")] = False,
) -> None:
    """Measure tasks per second, latency and chunks per second; prints JSON."""
    observe("console")
    from console.commands.bench import run_bench

    output.show_json(run_bench(settings(), tasks=tasks, quick=quick))
