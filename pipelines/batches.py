"""Batches: tasks that belong together, and the tasks enqueued when all are done, one failed, or all have ended.

    batch = open_batch(connection, "import of May", on_done=Publish(month=5), on_failed=Alarm(month=5))
    enqueue_many(connection, payloads, batch_id=batch)
    close_batch(connection, batch)

Each call writes in the caller's transaction. docs/dependencies.md says when a callback comes.
"""

import json
from typing import Any
from uuid import UUID

from core.errors import InvalidOptionsError
from pipelines.enqueue import call
from pipelines.payload import Payload

_OPEN = ("SELECT queue.open_batch({0}, CAST({1} AS jsonb), CAST({2} AS uuid))", ("name", "callbacks", "tenant"))
_CLOSE = ("SELECT queue.close_batch(CAST({0} AS uuid))", ("batch",))


def open_batch(
    connection: Any,
    name: str,
    *,
    on_done: Payload | None = None,
    on_failed: Payload | None = None,
    on_ended: Payload | None = None,
    tenant_id: UUID | None = None,
) -> UUID:
    """Open a batch and return its id, for the option `batch_id` of an enqueue.

    A callback is enqueued once: `on_done` when the batch is closed and all its tasks are done, `on_failed` as soon as
    the first has failed or was cancelled, `on_ended` when it is closed and all have ended. Raises as `enqueue` does.
    """
    if not 1 <= len(name) <= 200:
        raise InvalidOptionsError("a batch's name must be text of 1 to 200 characters")
    given = {"on_done": on_done, "on_failed": on_failed, "on_ended": on_ended}
    if sealed := [event for event, payload in given.items() if payload is not None and payload.encrypted_fields]:
        raise InvalidOptionsError(f"{sealed[0]} has encrypted fields: a callback's payload is kept as it is")
    callbacks = {
        event: {"task_type": payload.task_type, "payload": payload.model_dump(mode="json")}
        for event, payload in given.items()
        if payload is not None
    }
    values = {"name": name, "callbacks": json.dumps(callbacks), "tenant": None if tenant_id is None else str(tenant_id)}
    return UUID(str(call(connection, *_OPEN, values)))


def close_batch(connection: Any, batch_id: UUID) -> bool:
    """Let a batch take no more tasks, so that it can end; return False where it was closed before.

    Waits for transactions that are adding to it. Raises InvalidOptionsError where there is none of that id.
    """
    return bool(call(connection, *_CLOSE, {"batch": str(batch_id)}))
