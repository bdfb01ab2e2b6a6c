"""Rows as the engine would have left them, for tests that look at what relays make of them."""

from datetime import datetime
from typing import Any
from uuid import UUID

from tests.support.database import Database

_ENDED = """
INSERT INTO queue.outbox_tasks (task_type, payload, payload_version, tenant_id, queue, priority, max_attempts, status,
    attempts, created_at, run_after, started_at, completed_at, failed_at, last_error)
SELECT %(task_type)s, '{}', 1, identity.default_tenant_id(), %(queue)s, 0, 5, %(status)s, 1,
    %(at)s - interval '1 h', %(at)s - make_interval(secs => %(run)s + %(waited)s),
    %(at)s - make_interval(secs => %(run)s), %(at)s, CASE %(status)s WHEN 'failed' THEN %(at)s END,
    CASE %(status)s WHEN 'failed' THEN 'secret text' END
FROM generate_series(1, %(count)s) RETURNING id
"""
_WAITING = """
INSERT INTO queue.outbox_tasks (task_type, payload, payload_version, tenant_id, queue, priority, max_attempts,
    created_at, run_after, is_due, hold_reason)
SELECT 'test.noop', '{}', 1, identity.default_tenant_id(), %(queue)s, 0, 5, now() - interval '1 h',
    now() - make_interval(secs => %(seconds)s), %(seconds)s >= 0, %(hold_reason)s
FROM generate_series(1, %(count)s) RETURNING id
"""


def ended(
    database: Database,
    at: datetime,
    *,
    status: str = "done",
    queue: str = "default",
    task_type: str = "test.noop",
    run: float = 0.0,
    waited: float = 0.0,
    count: int = 1,
) -> list[UUID]:
    """Add tasks that ended at a moment, after so many seconds of waiting and of running; return their ids."""
    values: dict[str, Any] = {"at": at, "status": status, "queue": queue, "task_type": task_type}
    return [row[0] for row in database.rows(_ENDED, values | {"run": run, "waited": waited, "count": count})]


def waiting(
    database: Database, *, queue: str = "default", seconds: float = 0.0, count: int = 1, hold_reason: str | None = None
) -> list[UUID]:
    """Add tasks that have been due for so many seconds (less than none: deferred), or are held; return their ids."""
    values = {"queue": queue, "seconds": seconds, "count": count, "hold_reason": hold_reason}
    return [row[0] for row in database.rows(_WAITING, values)]
