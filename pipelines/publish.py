"""Publish the registry to `queue.task_types`, so that producers in any language get defaults and checks."""

from typing import Any

from db import queue
from db.connection import Connection
from pipelines.payload import Payload
from pipelines.registry import AnyTask, Registry


def publish_types(connection: Connection, registry: Registry) -> int:
    """Write what changed, in one transaction; return how many task types did. A newer version is not taken back."""
    with connection.transaction():
        return sum(queue.publish_type(connection, _row_of(task)) for task in registry)


def _row_of(task: AnyTask) -> queue.TaskTypeRow:
    payload = task.payload
    return queue.TaskTypeRow(
        name=task.name,
        queue=task.queue,
        scope=task.scope,
        priority=task.priority,
        max_attempts=task.max_attempts,
        batch_size=task.most_together,
        time_limit=task.time_limit.total_seconds(),
        payload_version=payload.payload_version,
        payload_schema=_stored_schema(payload),
        secret_fields=[*payload.secret_fields, *payload.encrypted_fields],
        aliases=list(payload.aliases),
        limit_key=task.limit_key,
        pending_limit=task.pending_limit,
    )


def _stored_schema(payload: type[Payload]) -> dict[str, Any]:
    """Return the schema of what stands in Postgres: an encrypted field is not what the handler sees."""
    schema = payload.model_json_schema()
    if payload.encrypted_fields:
        from pipelines.keyring import STORED_SCHEMA  # few types need the library

        optional = {"anyOf": [STORED_SCHEMA, {"type": "null"}]}
        schema["properties"] |= dict.fromkeys(payload.encrypted_fields, optional)
    return schema
