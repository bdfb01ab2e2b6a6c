"""What operators read and do: tasks, queues and processes, as typed calls over `sql/tasks.sql`.

Reads are bounded. A deed is one transaction that guards the state it starts from and leaves its audit event behind.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from db import dependencies
from db.audit import Resource, record
from db.connection import Connection
from db.queries import Queries, Row
from db.queue import ring

QUERIES = Queries("tasks")
Status = Literal["pending", "in_progress", "done", "failed", "cancelled"]
Cancelling = Literal["cancelled", "requested"]


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """Which tasks a listing or a replay is about; what is None does not narrow it.

    `error` is a part of the last error, upper case or lower; `since` and `until` are about the end of ended tasks.
    """

    statuses: tuple[Status, ...] | None = None
    task_type: str | None = None
    queue: str | None = None
    tenant_id: UUID | None = None
    owner_id: UUID | None = None
    error: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    held: bool = False

    def values(self) -> dict[str, Any]:
        """Return the filter as parameters of a query."""
        named = {name: getattr(self, name) for name in TaskFilter.__slots__}
        return named | {"statuses": None if self.statuses is None else list(self.statuses)}


@dataclass(frozen=True, slots=True)
class TaskRow:
    """One task of a listing. `progress` is 0 to 1; `hold_reason` says why a held task is not claimed."""

    id: UUID
    task_type: str
    status: str
    queue: str
    priority: int
    attempts: int
    max_attempts: int
    run_after: datetime
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    progress: float | None
    progress_message: str | None
    hold_reason: str | None
    last_error: str | None
    tenant_id: UUID | None
    owner_kind: str | None
    owner_id: UUID | None


@dataclass(frozen=True, slots=True)
class TaskDetail(TaskRow):
    """Everything of one task; values of `secret_fields` in the payload are not to be shown."""

    payload: Any
    payload_version: int | None
    result: Any
    metadata: dict[str, Any]
    unique_key: str | None
    snoozes: int
    claim_number: int
    claimed_until: datetime | None
    lease_until: datetime | None
    deadline_at: datetime | None
    worker_id: UUID | None
    trace_context: str | None
    cancel_requested_at: datetime | None
    cancel_reason: str | None
    is_waiting: bool
    limit_key: str | None
    secret_fields: list[str] | None


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """An attempt that did not end its task as done, or whose handler logged something."""

    number: int
    outcome: str
    error: str | None
    traceback: str | None
    log: str | None
    claim_number: int
    worker_id: UUID | None
    started_at: datetime | None
    ended_at: datetime


@dataclass(frozen=True, slots=True)
class QueueRow:
    """A queue: its tasks by what they do, who serves it, and how long its oldest due task waits.

    `resume_at` is when its pause ends by itself, if it does.
    """

    name: str
    paused_at: datetime | None
    resume_at: datetime | None
    waiting: int
    running: int
    deferred: int
    held: int
    workers: int
    slots: int
    oldest_seconds: float


@dataclass(frozen=True, slots=True)
class LiveProcess:
    """A process as it last said of itself, `silent_seconds` ago."""

    id: UUID
    kind: str
    host: str
    pid: int
    queues: list[str]
    task_types: dict[str, int]
    slots: int
    is_sleeping: bool
    hears_notify: bool | None
    loops_late: dict[str, float]
    started_at: datetime
    beat_at: datetime
    silent_seconds: float

    def serves(self, queue: str, timeout: float) -> bool:
        """Return whether this is a worker of that queue that was heard of within `timeout` seconds."""
        return self.kind == "worker" and queue in self.queues and self.silent_seconds <= timeout


@dataclass(frozen=True, slots=True)
class Replayable:
    """A task that a replay would revive."""

    id: UUID
    task_type: str
    last_error: str | None


def list_tasks(connection: Connection, wanted: TaskFilter, *, limit: int, before: UUID | None = None) -> list[TaskRow]:
    """Return tasks, newest first; a next page goes on `before` the last id of this one."""
    values = wanted.values() | {"limit": limit, "before": before}
    return [TaskRow(*row) for row in QUERIES.run(connection, "list", values)]


def show(connection: Connection, task_id: UUID) -> TaskDetail | None:
    """Return a task whole, live or ended."""
    rows = QUERIES.run(connection, "show", {"id": task_id})
    return TaskDetail(*rows[0]) if rows else None


def attempts(connection: Connection, task_id: UUID) -> list[AttemptRow]:
    """Return a task's recorded attempts, oldest first; of many the last hundred."""
    return [AttemptRow(*row) for row in QUERIES.run(connection, "attempts_of", {"id": task_id})]


def queues(connection: Connection, *, process_timeout: float) -> list[QueueRow]:
    """Return every queue that has tasks, workers, task types or a pause."""
    rows = QUERIES.run(connection, "queues", {"process_timeout": process_timeout})
    return [QueueRow(*row) for row in rows]


def processes(connection: Connection) -> list[LiveProcess]:
    """Return the processes that are registered, silent ones too."""
    return [LiveProcess(*row) for row in QUERIES.run(connection, "processes")]


def known_types(connection: Connection) -> dict[str, str]:
    """Return the published task types with their scope."""
    return {name: scope for name, scope in QUERIES.run(connection, "known_types")}


def scope_of(connection: Connection, task_type: str) -> str | None:
    """Return the scope of a published task type or alias, or None where nobody published it."""
    [(scope,)] = QUERIES.run(connection, "scope_of", {"task_type": task_type})
    found: str | None = scope
    return found


def replayable(connection: Connection, ids: Sequence[UUID]) -> list[Replayable]:
    """Return those of these tasks that failed or were cancelled, oldest first."""
    return [Replayable(*row) for row in QUERIES.run(connection, "replayable", {"ids": list(ids)})]


def retry_now(connection: Connection, task_id: UUID) -> bool:
    """Let a waiting task start at once; return False where it does not wait."""
    with connection.transaction():
        rows = QUERIES.run(connection, "retry_now", {"id": task_id})
        _tell(connection, rows, "task.retried", "made due at once")
    return bool(rows)


def replay(
    connection: Connection, ids: Sequence[UUID], *, until: datetime | None = None, replay_id: UUID | None = None
) -> list[UUID]:
    """Let failed and cancelled tasks live again with all their attempts before them; return their ids.

    With `until`, only those that had ended by then. `replay_id` is the task that does it, if one does, for the audit.
    """
    with connection.transaction():
        rows = QUERIES.run(connection, "replay", {"ids": list(ids), "until": until})
        dependencies.wait_again(connection, [row[0] for row in rows])
        metadata = None if replay_id is None else {"replay_id": str(replay_id)}
        _tell(connection, rows, "task.replayed", "replayed", metadata)
    return [row[0] for row in rows]


def cancel(connection: Connection, task_id: UUID, reason: str) -> Cancelling | None:
    """End a task that waits, ask for the end of one that runs; return which, or None where it has ended already.

    A worker that runs it hears of the request within a second. If its handler has computed its outcome by then, that
    stands.
    """
    with connection.transaction():
        status = QUERIES.run(connection, "lock_live", {"id": task_id})
        if not status:
            return None
        values = {"id": task_id, "reason": reason}
        if status == [("pending",)]:
            rows = QUERIES.run(connection, "cancel", values)
            _tell(connection, rows, "task.cancelled", "cancelled", {"reason": reason})
            return "cancelled"
        rows = QUERIES.run(connection, "request_cancel", values)
        _tell(connection, rows, "task.cancel_requested", "asked to end", {"reason": reason})
        return "requested"


def release(connection: Connection, task_id: UUID) -> tuple[bool, str | None]:
    """Judge a held task anew; return whether it was held, and why it still is (None: it waits for its turn now)."""
    with connection.transaction():
        rows = QUERIES.run(connection, "release", {"id": task_id})
        reason: str | None = rows[0][2] if rows else None
        _tell(connection, rows, "task.released", "held again" if reason else "released")
    return bool(rows), reason


def pause(connection: Connection, name: str, until: datetime | None = None) -> None:
    """Let no task of a queue be claimed any more, or not `until` then; what runs goes on."""
    deed = "paused" if until is None else f"paused until {until.isoformat(timespec='seconds')}"
    _steer(connection, "pause_queue", {"name": name, "until": until}, "queue.paused", deed)


def resume(connection: Connection, name: str) -> None:
    """Let a queue's tasks be claimed again."""
    _steer(connection, "resume_queue", {"name": name}, "queue.resumed", "resumed")


def _steer(connection: Connection, query: str, values: dict[str, Any], event_type: str, deed: str) -> None:
    with connection.transaction():
        QUERIES.run(connection, query, values)
        record(connection, event_type, f"queue {values['name']} {deed}", Resource("queue", values["name"]))
        ring(connection)


def _tell(
    connection: Connection, rows: Sequence[Row], event_type: str, deed: str, metadata: dict[str, Any] | None = None
) -> None:
    """Write the audit events of a deed, and wake a relay that sleeps; `rows` begin with task id and tenant id."""
    if not rows:
        return
    touched = [Resource("task", row[0], row[1]) for row in rows]
    record(connection, event_type, f"task {deed} by an operator", *touched, metadata=metadata)
    ring(connection)
