"""`greenroom enqueue`: one task of any published type."""

from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast
from uuid import UUID

import typer

from console import output
from console.options import AsJson, Tenant, Timeout, id_of, task_ids
from console.runtime import Operation, operate
from console.values import moment_of, payload_of
from console.watching import watch
from core.errors import GreenroomError, UnknownTaskTypeError
from db import tasks
from db.connection import tenant_transaction
from db.queue import TaskEnd

if TYPE_CHECKING:
    from pipelines.enqueue import Options

UniqueMode = Literal["keep", "replace", "debounce"]
ParentPolicy = Literal["fail", "cancel", "run"]
_A_DAY = 86_400.0


def enqueue(
    task_type: Annotated[str, typer.Argument(metavar="TYPE", help="A task type, such as document.ingest.")],
    fields: Annotated[
        list[str] | None, typer.Argument(metavar="[JSON | KEY=VALUE...]", help="The payload; - reads standard input.")
    ] = None,
    queue: Annotated[str | None, typer.Option("--queue", help="Another queue than the type's own.")] = None,
    priority: Annotated[int | None, typer.Option("--priority", min=-100, max=100, help="Higher goes first.")] = None,
    run_after: Annotated[
        str | None, typer.Option("--run-after", help="Not before: a time with zone, or seconds from now.")
    ] = None,
    max_attempts: Annotated[
        int | None, typer.Option("--max-attempts", min=1, help="Not the number of its type.")
    ] = None,
    limit_key: Annotated[str | None, typer.Option("--limit-key", help="What limits go by: a provider, say.")] = None,
    unique_key: Annotated[str | None, typer.Option("--unique-key", help="At most one live task has it.")] = None,
    unique_mode: Annotated[
        UniqueMode | None, typer.Option("--unique-mode", help="What becomes of a task that waits with that key.")
    ] = None,
    debounce: Annotated[
        float | None, typer.Option("--debounce", help="Seconds without another enqueue; for --unique-mode debounce.")
    ] = None,
    depends_on: Annotated[
        list[str] | None, typer.Option("--depends-on", metavar="ID", help="A task that must end first; repeatable.")
    ] = None,
    on_parent_failed: Annotated[
        ParentPolicy | None, typer.Option("--on-parent-failed", help="What to do if one of them was not done.")
    ] = None,
    batch: Annotated[str | None, typer.Option("--batch", metavar="ID", help="An open batch that counts it.")] = None,
    tenant: Tenant = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for its end and print the result.")] = False,
    timeout: Timeout = 60.0,
    as_json: AsJson = False,
) -> None:
    """Enqueue a task."""
    payload = payload_of(fields or [])
    options = _options(
        queue=queue, priority=priority, run_after=run_after and moment_of(run_after), max_attempts=max_attempts,
        limit_key=limit_key, unique_key=unique_key, unique_mode=unique_mode, batch_id=id_of(batch),
        debounce=None if debounce is None else timedelta(seconds=debounce),
        depends_on=task_ids(depends_on) if depends_on else None, on_parent_failed=on_parent_failed,
    )  # fmt: skip
    with operate(works=wait) as operation:
        task_id = _write(operation, task_type, payload, options, tenant)
        if not wait:
            output.show_json({"id": task_id}) if as_json else output.show_line(str(task_id))
            return
        await_end(operation, task_id, timeout, as_json=as_json)


def _options(**given: Any) -> "Options":
    """Return what was given of the options."""
    return cast("Options", {name: value for name, value in given.items() if value is not None})


def _write(
    operation: Operation, task_type: str, payload: dict[str, Any], options: "Options", tenant: str | None
) -> UUID:
    """Enqueue in the tenant's transaction; a type that works across tenants in one that is bound to none."""
    from pipelines.enqueue import enqueue_fields

    connection = operation.connection
    scope = tasks.scope_of(connection, task_type)
    if scope is None:
        raise UnknownTaskTypeError(task_type, tuple(tasks.known_types(connection)))
    tenant_id = operation.tenant_id(tenant) if scope == "tenant" else None
    with tenant_transaction(connection, tenant_id):
        return enqueue_fields(connection, task_type, payload, **options)


def await_end(operation: Operation, task_id: UUID, timeout: float, *, as_json: bool) -> None:
    """Wait for a task's end, print it, and exit with 1 unless the task is done."""
    end = end_of(operation, task_id, timeout)
    if as_json:
        output.show_json(asdict(end))
    else:
        show_end(end)
    if end.status != "done":
        raise typer.Exit(1)


def end_of(operation: Operation, task_id: UUID, timeout: float) -> TaskEnd:
    """Wait for a task's end; raises GreenroomError at once for one that nobody will run as things are."""
    from pipelines.waiting import wait_for

    task = tasks.show(operation.connection, task_id)
    if task is not None and task.hold_reason:
        raise GreenroomError(f"the task {task_id} is held: {task.hold_reason}")
    if task is not None and task.completed_at is None:
        operation.require_worker(task.queue)
    return wait_for(operation.connection, task_id, timeout=timeout)


def followed(operation: Operation, task_id: UUID, *, as_json: bool) -> TaskEnd:
    """Wait for a task's end for up to a day, and show people its changes meanwhile; raises as `end_of` does."""
    if not as_json:
        watch(operation, task_id, as_json=False)
    return end_of(operation, task_id, _A_DAY)


def show_end(end: TaskEnd) -> None:
    """Print how a task ended."""
    output.show_fields([("task", end.task_id), ("status", end.status), ("result", end.result), ("error", end.error)])
