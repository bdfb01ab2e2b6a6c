"""Rows that go by themselves: deleted page by page with what goes along, of measures those that are rolled up."""

from db import retention_runs
from db.connection import Connection
from pipelines.retention.runs import Pacer, Run
from pipelines.task import TaskContext


def step(context: TaskContext, connection: Connection, run: Run, pacer: Pacer) -> str | None:
    """Delete what a run takes; the reason to come back where something is left."""
    gone = run.rows_gone
    while not pacer.is_over:
        with pacer.page() as most:
            taken, state = retention_runs.page(connection, run.id, most)
        gone += taken
        context.progress(min(gone / max(run.rows_planned, 1), 1.0), f"{run.policy_name}: {gone:,} rows")
        if state in ("over", "ended"):
            return None
        if state == "busy":
            return f"{run.table} is in use"
    return f"{run.policy_name} goes on"


def roll_up_step(context: TaskContext, connection: Connection, run: Run, pacer: Pacer) -> str | None:
    """Delete what a run takes of measures that are rolled up, then drop the months that this has emptied."""
    left = step(context, connection, run, pacer)
    if left is None:
        for leaf in retention_runs.months_over(connection, run.id):
            retention_runs.drop_emptied(connection, run.id, leaf)
    return left
