"""Whole months that go, one at a time: each is counted, emptied where others refer to it, and dropped.

A month that somebody uses is let be and tried again later.
"""

from db import months
from db.connection import Connection
from pipelines.retention.runs import Pacer, Run
from pipelines.task import TaskContext


def step(context: TaskContext, connection: Connection, run: Run, pacer: Pacer) -> str | None:
    """Let the months of a run go; the reason to come back where some are left."""
    left: list[str] = []
    leaves = months.to_go(connection, run.id)
    for number, leaf in enumerate(leaves):
        if pacer.is_over:
            return f"{run.policy_name} goes on"
        context.progress(number / len(leaves), leaf)
        _clear(connection, run, pacer, leaf)
        outcome, _ = months.drop(connection, run.id, leaf)
        if outcome in ("busy", "filled"):
            left.append(leaf)
    return f"in use: {', '.join(left)}" if left else None


def _clear(connection: Connection, run: Run, pacer: Pacer, leaf: str) -> None:
    """Delete the rows of a month that others refer to, page by page."""
    while not pacer.is_over:
        with pacer.page() as most:
            gone = months.clear(connection, run.id, leaf, most)
        if gone < most:
            return
