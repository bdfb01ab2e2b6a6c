"""`greenroom tasks replay`: tasks named by id live again at once, those of a filter by a task that can be stopped."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from console import output
from console.commands.enqueue import end_of, show_end
from console.options import AsJson, OfQueue, OfType, Owner, Since, Tenant, Timeout, Until, WithError, id_of, task_ids
from console.runtime import Operation, operate
from console.values import moment_of
from core.errors import GreenroomError, NotFoundError, UnknownTaskTypeError, UsageError
from db import audit, replays, tasks
from db.connection import tenant_transaction
from db.queue import TaskEnd

if TYPE_CHECKING:
    from pipelines.replay import ReplayTasks

_ERRORS = 5


def replay(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID...]", help="Ids; or say which by options.")] = None,
    failed: Annotated[bool, typer.Option("--failed", help="All that failed.")] = False,
    cancelled: Annotated[bool, typer.Option("--cancelled", help="Those that were cancelled too.")] = False,
    task_type: OfType = None,
    queue: OfQueue = None,
    tenant: Tenant = None,
    owner: Owner = None,
    error: WithError = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[
        int, typer.Option("--limit", min=1, max=replays.MOST, help="The oldest of those that options name.")
    ] = replays.MOST,
    rate: Annotated[float | None, typer.Option("--rate", help="So many a second; unset: 100.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be replayed.")] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for the ends of named tasks, else for the replay's; 1 unless done.")
    ] = False,
    timeout: Timeout = 60.0,
    as_json: AsJson = False,
) -> None:
    """Let failed or cancelled tasks live again, with all their attempts before them.

    Tasks that are named do at once. Those that options name are replayed by a task, so many a second, which
    `tasks show --watch` follows and `tasks cancel` stops.
    """
    if bool(ids) == any((failed, cancelled, task_type, queue, tenant, owner, error, since, until)):
        raise UsageError(
            "name tasks by id, or by --failed, --cancelled, --type, --queue, --tenant, --owner, --error, --since and "
            "--until"
        )
    if ids:
        if rate is not None:
            raise UsageError("--rate is for tasks that options name: those named by id are replayed at once")
        _replay_named(task_ids(ids), timeout if wait else None, dry_run=dry_run, as_json=as_json)
        return
    from pipelines.replay import LEAST_RATE, MOST_RATE, RATE

    rate = RATE if rate is None else rate
    if not LEAST_RATE <= rate <= MOST_RATE:
        raise UsageError(f"--rate is tasks a second, from {LEAST_RATE} to {MOST_RATE:g}, not {rate:g}")
    asked: dict[str, Any] = {
        "cancelled": cancelled, "of_type": task_type, "queue": queue, "owner_id": id_of(owner), "error": error,
        "since": None if since is None else moment_of(since), "until": None if until is None else moment_of(until),
        "count": limit, "rate": rate,
    }  # fmt: skip
    with operate(works=wait) as operation:
        asked["tenant_id"] = operation.tenant_id(tenant) if tenant else None
        _replay_found(operation, asked, timeout if wait else None, dry_run=dry_run, as_json=as_json)


# ---------------------------------------------------------------------------------------------------- named by id


def _replay_named(wanted: list[UUID], timeout: float | None, *, dry_run: bool, as_json: bool) -> None:
    with operate(works=timeout is not None) as operation:
        found = tasks.replayable(operation.connection, wanted)
        if len(found) < len(wanted):
            _refuse(operation, min(set(wanted) - {row.id for row in found}))
        revived = [] if dry_run else tasks.replay(operation.connection, [row.id for row in found])
        ends = _ends_of(operation, revived, timeout) if timeout is not None and revived else []
    _show_named(found, revived, ends, dry_run=dry_run, as_json=as_json)
    if any(end.status != "done" for end in ends):
        raise typer.Exit(1)


def _refuse(operation: Operation, missing: UUID) -> None:
    found = tasks.show(operation.connection, missing)
    if found is None:
        raise NotFoundError(f"no task has the id {missing}: see `greenroom tasks list`")
    raise GreenroomError(f"task {found.id} is {found.status}: only failed and cancelled tasks are replayed")


def _ends_of(operation: Operation, ids: list[UUID], timeout: float) -> list[TaskEnd]:
    from pipelines.waiting import wait_for_all

    return wait_for_all(operation.connection, ids, timeout=timeout)


def _show_named(
    found: list[tasks.Replayable], revived: list[UUID], ends: list[TaskEnd], *, dry_run: bool, as_json: bool
) -> None:
    if as_json:
        said = {"found": [asdict(row) for row in found], "replayed": revived, "dry_run": dry_run}
        output.show_json(said | {"ends": [asdict(end) for end in ends]})
        return
    if dry_run:
        output.show_table(("id", "type", "error"), [(r.id, r.task_type, r.last_error) for r in found], empty="none")
        output.note(f"{len(found)} would be replayed; without --dry-run they are")
        return
    output.show_line(f"{len(revived)} replayed")
    if ends:
        output.show_table(("id", "status", "error"), [(end.task_id, end.status, end.error) for end in ends])
    if skipped := len(found) - len(revived):
        output.note(f"{skipped} not replayed: a younger task has their unique key")


# ---------------------------------------------------------------------------------------------------- by a filter


def _replay_found(
    operation: Operation, asked: dict[str, Any], timeout: float | None, *, dry_run: bool, as_json: bool
) -> None:
    from pipelines.replay import ReplayTasks

    payload, connection = ReplayTasks(**asked), operation.connection
    with tenant_transaction(connection, None):
        groups = replays.preview(connection, payload.wanted(), payload.count)
        first = replays.following(connection, payload.wanted(), min(_ERRORS, payload.count))
    count = sum(group.count for group in groups)
    if not count:
        _check_names(operation, payload)
    task_id = None if dry_run or not count else _enqueue(operation, payload.model_copy(update={"count": count}))
    if not as_json:
        _show_preview(groups, first, payload, task_id)
    end = None if timeout is None or task_id is None else end_of(operation, task_id, timeout)
    if as_json:
        said = {"count": count, "by_type": [asdict(group) for group in groups], "first": [f._asdict() for f in first]}
        output.show_json(said | {"dry_run": dry_run, "task_id": task_id, "end": end and asdict(end)})
    elif end:
        show_end(end)
    if end and end.status != "done":
        raise typer.Exit(1)


def _check_names(operation: Operation, payload: "ReplayTasks") -> None:
    """Say so where nothing matches because a name is misspelt."""
    known = tasks.known_types(operation.connection)
    if payload.of_type is not None and payload.of_type not in known:
        raise UnknownTaskTypeError(payload.of_type, tuple(known))
    rows = tasks.queues(operation.connection, process_timeout=operation.settings.relay.process_timeout)
    if payload.queue is not None and payload.queue not in (names := [row.name for row in rows]):
        raise NotFoundError(f"no queue is named {payload.queue!r}; there are {', '.join(names)}")


def _enqueue(operation: Operation, payload: "ReplayTasks") -> UUID:
    """Enqueue the replay; the audit has who asked for it, and by which filter."""
    from pipelines.enqueue import enqueue

    with tenant_transaction(operation.connection, None) as connection:
        task_id = enqueue(connection, payload)
        asked = payload.model_dump(mode="json", exclude_none=True)
        audit.record(
            connection,
            "replay.requested",
            "replay requested by an operator",
            audit.Resource("task", task_id),
            metadata=asked,
        )
    return task_id


def _show_preview(
    groups: Sequence[replays.Group], first: Sequence[replays.Ended], payload: "ReplayTasks", task_id: UUID | None
) -> None:
    rows = [(group.task_type, group.queue, group.count) for group in groups]
    output.show_table(("type", "queue", "#tasks"), rows, empty="nothing matches")
    if not groups:
        return
    output.show_table(("first of them", "type", "error"), [(row.id, row.task_type, row.error) for row in first])
    count = sum(group.count for group in groups)
    if task_id is None:
        output.note(f"{count} would be replayed, {payload.rate:g} a second; without --dry-run they are")
        return
    output.show_line(f"{task_id}: replays {count}, {payload.rate:g} a second")
    output.note(f"`greenroom tasks show {task_id} --watch` follows it, `greenroom tasks cancel {task_id}` stops it")
