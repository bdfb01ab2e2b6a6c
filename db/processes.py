"""The store of the processes that take part: what each is, what it serves, and that it lives (`sql/processes.sql`)."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID, uuid4

from psycopg.types.json import Jsonb

from db.connection import Connection
from db.queries import Queries

QUERIES = Queries("processes")


@dataclass(frozen=True, slots=True)
class ProcessRow:
    """A process as it makes itself known: `slots` messages at a time, task types with their payload versions."""

    id: UUID
    kind: str
    host: str
    pid: int
    queues: list[str] = field(default_factory=list)
    task_types: dict[str, int] = field(default_factory=dict)
    slots: int = 0


def this_process(
    kind: str, *, queues: list[str] | None = None, task_types: dict[str, int] | None = None, slots: int = 0
) -> ProcessRow:
    """Return what this process makes known of itself, under a boot id that is new for each call."""
    return ProcessRow(uuid4(), kind, socket.gethostname(), os.getpid(), queues or [], task_types or {}, slots)


def beat(connection: Connection, process: ProcessRow, loops_late: dict[str, float] | None = None) -> None:
    """Say that a process lives and how many seconds its loops are late; makes it known at first, and when forgotten."""
    values = {name: getattr(process, name) for name in ProcessRow.__slots__}
    late = {name: round(seconds, 1) for name, seconds in (loops_late or {}).items()}
    known = {"task_types": Jsonb(process.task_types), "loops_late": Jsonb(late)}
    QUERIES.run(connection, "beat", values | known)


def offer(connection: Connection, process_id: UUID, batch_sizes: Mapping[str, int]) -> bool:
    """Say how many tasks of each type a worker takes in one message; return whether the worker is known."""
    values = {"id": process_id, "batch_sizes": Jsonb(dict(batch_sizes))}
    return QUERIES.count(connection, "offer", values) > 0


def stop_serving(connection: Connection, process_id: UUID) -> None:
    """Take no more work from now on."""
    QUERIES.run(connection, "stop_serving", {"id": process_id})


def unregister_process(connection: Connection, process_id: UUID) -> None:
    """Forget a process that ended in order."""
    QUERIES.run(connection, "unregister_process", {"id": process_id})


def forget_processes(connection: Connection, seconds: float) -> int:
    """Forget processes that have been silent for that long; return how many."""
    return QUERIES.count(connection, "forget_processes", {"seconds": seconds})


def mark_sleeping(connection: Connection, process_id: UUID, *, is_sleeping: bool, hears_notify: bool) -> bool:
    """Say whether a relay wants to be rung by whoever enqueues; return whether the relay is known."""
    values = {"id": process_id, "is_sleeping": is_sleeping, "hears_notify": hears_notify}
    return QUERIES.count(connection, "mark_sleeping", values) > 0
