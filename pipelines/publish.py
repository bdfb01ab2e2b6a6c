"""Publish the registry to `queue.task_types`, so that producers in any language get defaults and checks."""

from psycopg import Connection
from psycopg.types.json import Jsonb

from db.queue import QUERIES
from pipelines.registry import Registry


def publish_types(connection: Connection[tuple[object, ...]], registry: Registry) -> int:
    """Write what changed, in one transaction; return how many task types did. A newer version is not taken back."""
    changed = 0
    with connection.transaction():
        for task in registry:
            payload = task.payload
            values = {
                "name": task.name,
                "queue": task.queue,
                "scope": task.scope,
                "priority": task.priority,
                "max_attempts": task.max_attempts,
                "batch_size": task.batch_size,
                "time_limit": task.time_limit.total_seconds(),
                "payload_version": payload.payload_version,
                "payload_schema": Jsonb(payload.model_json_schema()),
                "secret_fields": list(payload.secret_fields),
                "aliases": list(payload.aliases),
            }
            changed += QUERIES.count(connection, "publish_task_type", values)
    return changed
