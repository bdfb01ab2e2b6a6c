"""`greenroom bench`: measure this machine."""

from typing import Annotated

import typer

from console import output
from console.runtime import observe, settings


def bench(
    tasks: Annotated[int, typer.Option("--tasks", min=100, max=1_000_000, help="No-op tasks a round.")] = 20_000,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer samples; judges shares of plain psycopg only.")] = False,
    check: Annotated[bool, typer.Option("--check", help="End with exit status 1 when a floor is missed.")] = False,
) -> None:
    """Measure tasks per second, latency and chunks per second; prints JSON."""
    observe("console")
    from console.bench.engine import run_bench

    found = run_bench(settings(), tasks=tasks, quick=quick)
    output.show_json(found)
    missed = [floor["figure"] for floor in found["floors"] if not floor["met"]]
    if check and missed:
        output.show_error(f"below the floor: {', '.join(missed)}")
        raise typer.Exit(1)
