"""`greenroom tasks`: every task in every status, and what an operator may do to it. Each deed leaves an audit event."""

from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import typer

from console import output, task_graph
from console.commands.replay import replay
from console.options import (
    AsJson,
    Before,
    Limit,
    OfQueue,
    OfType,
    Owner,
    Since,
    Tenant,
    Until,
    WithError,
    id_of,
    task_id,
    task_ids,
)
from console.runtime import Operation, operate
from console.values import moment_of
from console.watching import watch as follow
from core.errors import GreenroomError, NotFoundError, UsageError
from db import tasks

app = typer.Typer(help="Tasks: list, show, retry, cancel, replay, release.", no_args_is_help=True)
Ids = Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of tasks.")]
_SHOWN = 500
_CANCELLING: dict[tasks.Cancelling | None, str | None] = {
    "cancelled": "cancelled",
    "requested": "runs, and is asked to end",
    None: None,
}


@app.command("list")
def list_(
    status: Annotated[tasks.Status | None, typer.Option("--status", help="Only those of that status.")] = None,
    task_type: OfType = None,
    queue: OfQueue = None,
    owner: Owner = None,
    error: WithError = None,
    since: Since = None,
    until: Until = None,
    held: Annotated[bool, typer.Option("--held", help="Only those that are held.")] = False,
    failed: Annotated[bool, typer.Option("--failed", help="The same as --status failed.")] = False,
    limit: Limit = 20,
    before: Before = None,
    tenant: Tenant = None,
    as_json: AsJson = False,
) -> None:
    """List tasks, newest first; of all tenants, unless one is named."""
    if failed and status not in (None, "failed"):
        raise UsageError("--failed and --status contradict each other: give one of them")
    status = "failed" if failed else status
    page, owner_id = id_of(before), id_of(owner)
    start, end = (None if text is None else moment_of(text) for text in (since, until))
    with operate() as operation:
        wanted = tasks.TaskFilter(
            statuses=(status,) if status else None,
            task_type=task_type,
            queue=queue,
            tenant_id=operation.tenant_id(tenant) if tenant else None,
            owner_id=owner_id,
            error=error,
            since=start,
            until=end,
            held=held,
        )
        rows = tasks.list_tasks(operation.connection, wanted, limit=limit, before=page)
    following = rows[-1].id if len(rows) == limit else None
    if as_json:
        output.show_json({"tasks": [asdict(row) for row in rows], "next": following})
        return
    columns = ("id", "type", "status", "queue", "attempts", "#age", "note")
    output.show_table(columns, [_cells(row) for row in rows], empty="no tasks")
    if following:
        output.note(f"more: --before {following}")


@app.command()
def show(
    task: Annotated[str, typer.Argument(metavar="ID", help="The task's id.")],
    watch: Annotated[bool, typer.Option("--watch", help="Follow it to its end; 1 unless that is done.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show one task: what it is, how it went, its attempts. Secret fields of its payload print as stars."""
    wanted = task_id(task)
    with operate() as operation:
        found = follow(operation, wanted, as_json=as_json) if watch else _existing(operation, wanted)
        attempts = tasks.attempts(operation.connection, found.id)
        around = task_graph.around(operation.connection, found.id)
    if not (watch and as_json):
        _show(found, attempts, around, as_json=as_json)
    if watch and found.status != "done":
        raise typer.Exit(1)


def _show(
    found: tasks.TaskDetail, attempts: list[tasks.AttemptRow], around: task_graph.Around, *, as_json: bool
) -> None:
    facts = asdict(found) | {"payload": output.masked(found.payload, found.secret_fields)}
    if as_json:
        records = {"attempt_records": [asdict(attempt) for attempt in attempts]}
        output.show_json(facts | records | task_graph.facts(around))
        return
    output.show_fields([(name, _shortened(value)) for name, value in facts.items()])
    task_graph.show(around, f"{found.id} {found.task_type} ({found.status})")
    if attempts:
        columns = ("#attempt", "outcome", "ended", "error")
        output.show_table(columns, [(a.number, a.outcome, a.ended_at, a.error) for a in attempts])
    if traceback := next((a.traceback for a in reversed(attempts) if a.traceback), None):
        output.show_line(traceback)
    for attempt in attempts:
        if attempt.log:
            output.show_line(f"\nlog of attempt {attempt.number}:\n{attempt.log}")


@app.command()
def retry(ids: Ids) -> None:
    """Let waiting tasks start at once, whatever they were waiting for."""
    _each(
        ids,
        lambda operation, one: "due now" if tasks.retry_now(operation.connection, one) else None,
        _why_not_retried,
    )


@app.command()
def cancel(
    ids: Ids, reason: Annotated[str, typer.Option("--reason", help="Kept with the task.")] = "cancelled by an operator"
) -> None:
    """End tasks that wait, now; those that run are asked to end, and do so in a moment unless they are done by then."""
    _each(
        ids,
        lambda operation, one: _CANCELLING[tasks.cancel(operation.connection, one, reason[:10_000])],
        lambda found: f"is {found.status} already",
    )


@app.command()
def release(ids: Ids) -> None:
    """Judge held tasks anew: what fits by now waits for its turn, the rest stays held."""

    def act(operation: Operation, one: UUID) -> str | None:
        was_held, reason = tasks.release(operation.connection, one)
        if was_held and reason:
            raise GreenroomError(f"task {one} is still held: {reason}")
        return "released" if was_held else None

    _each(ids, act, lambda found: "is not held")


app.command()(replay)


def _each(
    ids: list[str],
    act: Callable[[Operation, UUID], str | None],
    why_not: Callable[[tasks.TaskDetail], str],
) -> None:
    """Do one deed to each task and say what was done; one that cannot be keeps no other from its own."""
    wanted, failures = task_ids(ids), 0
    with operate() as operation:
        for one in wanted:
            try:
                if (done := act(operation, one)) is None:
                    raise GreenroomError(f"task {one} {why_not(_existing(operation, one))}")
                output.show_line(f"{one}: {done}")
            except GreenroomError as error:
                output.show_error(str(error))
                failures += 1
    if failures:
        raise typer.Exit(1)


def _existing(operation: Operation, one: UUID) -> tasks.TaskDetail:
    found = tasks.show(operation.connection, one)
    if found is None:
        raise NotFoundError(f"no task has the id {one}: see `greenroom tasks list`")
    return found


def _why_not_retried(found: tasks.TaskDetail) -> str:
    if found.hold_reason:
        return f"is held ({found.hold_reason}): mend the cause, then `greenroom tasks release`"
    if found.completed_at:
        return f"is {found.status}: `greenroom tasks replay` lets failed and cancelled tasks live again"
    return "is running"


def _cells(row: tasks.TaskRow) -> tuple[Any, ...]:
    attempts = f"{row.attempts}/{row.max_attempts}"
    return row.id, row.task_type, row.status, row.queue, attempts, output.ago(row.created_at), _note(row)


def _note(row: tasks.TaskRow) -> str:
    if row.hold_reason:
        return f"held: {row.hold_reason}"
    if row.status == "in_progress" and row.progress is not None:
        return f"{row.progress:.0%} {row.progress_message or ''}".strip()
    if row.status == "pending" and row.run_after > datetime.now(UTC):
        due = f"due in {output.duration((row.run_after - datetime.now(UTC)).total_seconds())}"
        return f"{due}, after {row.last_error}"[:_SHOWN] if row.last_error else due
    return (row.last_error or "")[:_SHOWN] if row.status != "done" else ""


def _shortened(value: Any) -> Any:
    """Return a value as people want to see it: a vector of a query fills no screen."""
    text = output.cell(value) if isinstance(value, dict | list) else value
    return f"{text[:_SHOWN]} …" if isinstance(text, str) and len(text) > 4 * _SHOWN else value
