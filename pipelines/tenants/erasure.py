"""`tenant.erase`: all that a deleted tenant has goes, page by page, and its row at last.

In this order: what runs for it ends · its files, which no transaction brings back · its rows, in every table that the
catalogue says tenants own, children first · its part of the audit · what archives hold of it · its row, once nothing
refers to it. What stays is one event, `tenant.erased`, with its id and counts, and the note that its emptied row went.
A hold keeps all of it: the task fails and says which. Where it stands is kept on its own row with each page, so it goes
on wherever it was killed.
"""

from dataclasses import asdict, replace
from datetime import timedelta
from typing import ClassVar
from uuid import UUID

from db import standings, tenants
from db.forgetting import Subject
from db.tenants import Standing
from pipelines.outcomes import Done, Fail, Outcome, Snooze
from pipelines.payload import Payload
from pipelines.retention.forgetting import erasing_task, forget
from pipelines.storage import Storage
from pipelines.task import TaskContext
from pipelines.transaction import Transaction

TENANTS_QUEUE = "default"
_ROWS, _FILES = 2000, 500
_PATIENCE = timedelta(seconds=1)


class EraseTenant(Payload):
    """Erase a tenant whose status is deleted; a trigger enqueues it."""

    task_type: ClassVar[str] = "tenant.erase"

    tenant_id: UUID


def unique_key(tenant_id: UUID) -> str:
    """Return the key that the trigger enqueues it by, too: a tenant is erased once at a time."""
    return f"{EraseTenant.task_type}:{tenant_id}"


def erase(context: TaskContext, payload: EraseTenant) -> Outcome:
    """Take the next page; fails where a hold keeps the tenant, or where it is not deleted."""
    tenant_id = payload.tenant_id
    with context.read() as transaction:
        found = tenants.look(transaction.connection, tenant_id)
        running = tenants.count_running(transaction.connection, tenant_id)
        standing = Standing(**standings.read(transaction.connection, context.task_id, "erasure"))
        ordered = tenants.tables(transaction.connection)
        left = tenants.leftover(transaction.connection, tenant_id) if standing.stage == "end" else None
    if found is None:
        return Done(standing.counts)
    if refusal := _refusal(tenant_id, *found):
        return Fail(refusal)
    if running:
        return Snooze(_PATIENCE, lambda applying: tenants.request_ends(applying.connection, tenant_id), "its tasks run")
    if left is not None:
        standing = replace(standing, stage="rows", table=left)
    if standing.stage == "rows":
        return _rows(context, tenant_id, ordered, standing)
    return _files(context, tenant_id, standing)


def _refusal(tenant_id: UUID, status: str, hold: str | None) -> str | None:
    if status != "deleted":
        return f"the tenant {tenant_id} is {status}: only a deleted one is erased"
    return f"held by {hold}: lift the hold, then `greenroom tenants delete {tenant_id}`" if hold else None


def _rows(context: TaskContext, tenant_id: UUID, ordered: list[str], standing: Standing) -> Outcome:
    done = ordered.index(standing.table) if standing.table in ordered else 0
    context.progress(done / len(ordered), f"{standing.files} files, {standing.total} rows")

    def apply(transaction: Transaction) -> None:
        reached = tenants.erase_rows(transaction.connection, tenant_id, ordered, standing, _ROWS)
        standings.note(transaction.connection, context.task_id, "erasure", asdict(reached))

    return Snooze(timedelta(0), apply)


def _files(context: TaskContext, tenant_id: UUID, standing: Standing) -> Outcome:
    """Remove a page of files, at the end those that somebody put there since; then comes the next stage."""
    gone = context.resources.get(Storage).erase(tenant_id, _FILES)
    if not gone and standing.stage == "end":
        return _archives(context, tenant_id, standing)
    reached = replace(standing, files=standing.files + gone)
    if not gone:
        reached = replace(reached, stage="rows")

    def apply(transaction: Transaction) -> None:
        standings.note(transaction.connection, context.task_id, "erasure", asdict(reached))

    return Snooze(timedelta(0), apply)


def _archives(context: TaskContext, tenant_id: UUID, standing: Standing) -> Outcome:
    """Forget the tenant in a part of an archive; at the end its row goes. No row is left that could be archived."""
    outcome = forget(context, Subject("tenant", tenant_id))
    if not isinstance(outcome, Done):
        return outcome
    reached = replace(standing, archives=outcome.result["archives"])
    return Done(reached.counts, lambda applying: tenants.finish(applying.connection, tenant_id, reached))


TASKS = (erasing_task(EraseTenant, erase),)
