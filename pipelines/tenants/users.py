"""`user.erase`: a user goes with all that is theirs, with what the log of changes says of them, and from the archives.

The rows go in one transaction, whose cascades the database follows; then the archives, part by part. A hold that speaks
of any of it keeps the user, and the task fails. Who is gone already leaves the log and the archives all the same.
"""

from datetime import timedelta
from typing import Any, ClassVar
from uuid import UUID

from db import identity, standings
from db.forgetting import Subject
from pipelines.outcomes import Done, Fail, Outcome, Snooze
from pipelines.payload import Payload
from pipelines.retention.forgetting import erasing_task, forget
from pipelines.task import TaskContext
from pipelines.transaction import Transaction


class EraseUser(Payload):
    """Erase a user of a tenant, rows, notes and archives; what was decided about the user's agents is kept."""

    task_type: ClassVar[str] = "user.erase"

    tenant_id: UUID
    user_id: UUID


def erase(context: TaskContext, payload: EraseUser) -> Outcome:
    """Erase the rows, then a part of an archive at a time; fails where a hold keeps any of it."""
    with context.read() as transaction:
        standing: dict[str, Any] = standings.read(transaction.connection, context.task_id, "erasure")
        tenant_id = identity.tenant_of_user(transaction.connection, payload.user_id)
    if tenant_id not in (None, payload.tenant_id):
        return Fail(f"the user {payload.user_id} is not one of the tenant {payload.tenant_id}: see whose it is")
    if not standing:
        return Snooze(timedelta(0), lambda applying: _erase_rows(applying, context.task_id, payload))
    outcome = forget(context, Subject("user", payload.user_id))
    if isinstance(outcome, Done):
        return Done({**standing, **outcome.result})
    return outcome


def _erase_rows(transaction: Transaction, task_id: UUID, payload: EraseUser) -> None:
    emptied = identity.erase_user(transaction.connection, payload.tenant_id, payload.user_id)
    standings.note(transaction.connection, task_id, "erasure", {"notes": emptied})


TASKS = (erasing_task(EraseUser, erase),)
