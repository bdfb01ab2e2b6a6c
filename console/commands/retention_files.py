"""`greenroom retention orphans`: stored files that no row owns, and rows whose file is missing."""

from typing import Annotated, Any
from uuid import UUID

import typer

from console import output
from console.commands.enqueue import followed
from console.options import AsJson
from console.runtime import Operation, operate
from core.errors import GreenroomError, UsageError
from db import audit

_QUEUE = "default"


def orphans(
    remove: Annotated[bool, typer.Option("--remove", help="Remove the files that no row owns; rows stay.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it: they do not come back.")] = False,
    tenant: Annotated[
        str | None, typer.Option("--tenant", help="Slug of the tenant; unset: all, and archives.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare storage and rows both ways: a task does it, which is followed to its end.

    A file is no orphan before it is a day old. Files that a producer put into a tenant's folder and has not named are.
    """
    if yes and not remove:
        raise UsageError("--yes says yes to --remove: without that nothing is removed")
    with operate(works=True) as operation:
        operation.require_worker(_QUEUE)
        tenant_id = operation.tenant_id(tenant) if tenant else None
        found = _checked(operation, tenant_id, is_removing=remove and yes, as_json=as_json)
    if as_json:
        output.show_json(found)
    else:
        _show(found)
    if remove and not yes and found["orphans"]["count"]:
        count, size = found["orphans"]["count"], output.size(found["orphans"]["bytes"])
        raise UsageError(f"this removes {count:,} files ({size}) for good: look at them, then say --yes")
    if found["failed"]:
        raise GreenroomError(f"{found['failed']} files could not be removed: mend the storage's permissions")


def _checked(operation: Operation, tenant_id: UUID | None, *, is_removing: bool, as_json: bool) -> dict[str, Any]:
    """Have a task look, and return its result; that somebody wants files removed stands in the audit."""
    from pipelines.enqueue import enqueue
    from pipelines.retention.orphans import CheckFiles

    with operation.connection.transaction():
        task_id = enqueue(operation.connection, CheckFiles(tenant_id=tenant_id, remove=is_removing))
        if is_removing:
            told = "removal of stored files that no row owns requested"
            audit.record(operation.connection, "files.requested", told, audit.Resource("task", task_id, tenant_id))
    end = followed(operation, task_id, as_json=as_json)
    if end.status != "done":
        raise GreenroomError(f"storage and rows were not compared: {end.error or end.status}")
    found: dict[str, Any] = end.result
    return found


def _show(found: dict[str, Any]) -> None:
    tallies = (("of no row", "orphans"), ("removed", "removed"), ("missing", "missing"))
    rows = [(key, what) for what, name in tallies for key in found[name]["first"]]
    output.show_table(("file", "is"), rows, empty="storage and rows agree")
    for what, name in tallies:
        if more := found[name]["count"] - len(found[name]["first"]):
            output.note(f"{more:,} more {what}")
    removed = f", {found['removed']['count']:,} of them removed" if found["removed"]["count"] else ""
    output.show_line(
        f"{found['objects']:,} files ({output.size(found['bytes'])}): {found['orphans']['count']:,} of no row "
        f"({output.size(found['orphans']['bytes'])}){removed}, {found['missing']['count']:,} missing"
    )
    if found["elsewhere"]:
        output.note(f"{found['elsewhere']:,} files in no tenant's folder are not ours, and stay")
