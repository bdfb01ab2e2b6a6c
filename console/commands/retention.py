"""`greenroom retention`: what is kept for how long."""

import typer

from console.commands import retention_run

app = typer.Typer(help="Retention: plan, run.", no_args_is_help=True)
app.command()(retention_run.plan)
app.command()(retention_run.run)
