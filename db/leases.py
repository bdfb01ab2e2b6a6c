"""The store of attempts under lease: taken, renewed, and ended by their own worker (`sql/leases.sql`).

A call runs in the connection's current transaction, or as a transaction of its own on an autocommit connection. Each is
guarded by claim number and worker: for an attempt that is not the caller's any more it does nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from psycopg.types.json import Jsonb

from db import queue
from db.connection import Connection
from db.queries import Queries, transaction
from db.queue import Attempt, Claims, columns

QUERIES = Queries("leases")


class Ending(NamedTuple):
    """How a task ends for good: `status` is done, failed or cancelled."""

    attempt: Attempt
    status: str
    result: Any = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Rescheduling:
    """How an attempt ends that lets its task wait again, `delay` seconds; a snooze costs no attempt."""

    attempt: Attempt
    delay: float
    error: str | None = None
    snooze: bool = False


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """What is kept of an attempt that did not end as done, or that logged something; it ran for `seconds`."""

    attempt: Attempt
    outcome: str
    error: str | None
    seconds: float
    traceback: str | None = None
    log: str | None = None


class Order(NamedTuple):
    """An attempt that a worker is to interrupt: asked to end for `reason`, or lost to another (None)."""

    task_id: UUID
    claim_number: int
    reason: str | None


def _unless_all_none(values: list[Any]) -> list[Any] | None:
    return values if any(value is not None for value in values) else None


def take(
    connection: Connection, claims: Claims, *, worker_id: UUID, lease_seconds: float, time_limit: float
) -> list[Attempt]:
    """Start attempts by compare-and-set on (id, claim number); return those that are ours."""
    values = {
        **columns(claims),
        "worker_id": worker_id,
        "lease_seconds": lease_seconds,
        "time_limit": time_limit,
    }
    return list(map(Attempt._make, QUERIES.run(connection, "take", values)))


def untake(connection: Connection, claims: Claims, worker_id: UUID, *, delay: float = 0.0) -> int:
    """Give back attempts that this worker has not begun, at no cost, to be due in `delay` seconds; return how many."""
    with transaction(connection):
        QUERIES.run(connection, "wait_for_disk")
        given = QUERIES.count(connection, "untake", {**columns(claims), "worker_id": worker_id, "delay": delay})
        QUERIES.run(connection, "end_cancelled")
    return given


def give_back(connection: Connection, claims: Claims, worker_id: UUID, *, delay: float = 0.0) -> None:
    """Give back what this worker has not begun, started or only claimed, at no cost; wake relays that sleep."""
    untake(connection, claims, worker_id, delay=delay)
    queue.give_back(connection, claims, delay=delay)
    queue.ring(connection)


def running(connection: Connection, worker_id: UUID) -> list[tuple[UUID, int]]:
    """Return what a worker holds by what the database knows, but for leases that are over: those are the rescuer's."""
    return [(row[0], row[1]) for row in QUERIES.run(connection, "running", {"worker_id": worker_id})]


def end_leases(connection: Connection, claims: Claims, worker_id: UUID) -> int:
    """End the leases of attempts that this worker has given up, and say so; return how many there were."""
    ended = QUERIES.count(connection, "end_leases", {**columns(claims), "worker_id": worker_id})
    if ended:
        QUERIES.run(connection, "ring_rescuers")
    return ended


def finish(connection: Connection, endings: Sequence[Ending], worker_id: UUID) -> set[UUID]:
    """Move ended tasks to history; return the ids of those that were still ours."""
    values = {
        **columns((e.attempt.task_id, e.attempt.claim_number) for e in endings),
        "statuses": f"{{{','.join([e.status for e in endings])}}}",
        # unnest fills up what is shorter with NULLs
        "results": _unless_all_none([None if e.result is None else Jsonb(e.result) for e in endings]),
        "errors": _unless_all_none([e.error for e in endings]),
        "worker_id": worker_id,
    }
    return {row[0] for row in QUERIES.run(connection, "finish", values)}


def reschedule(connection: Connection, items: Sequence[Rescheduling], worker_id: UUID) -> set[UUID]:
    """Let tasks wait again; return the ids of those that were still ours.

    Expects a transaction, in which `end_cancelled` follows: what was asked to end waits within it alone.
    """
    values = {
        **columns((i.attempt.task_id, i.attempt.claim_number) for i in items),
        "delays": [i.delay for i in items],
        "errors": [i.error for i in items],
        "snoozes": [int(i.snooze) for i in items],
        "worker_id": worker_id,
    }
    waiting = {row[0] for row in QUERIES.run(connection, "reschedule", values)}
    if waiting:
        queue.ring(connection)
    return waiting


def end_cancelled(connection: Connection) -> None:
    """End what waits again and was asked to end; expects the transaction that lets it wait."""
    QUERIES.run(connection, "end_cancelled")


def hold(connection: Connection, attempt: Attempt, worker_id: UUID) -> bool:
    """Keep an attempt this worker's until the transaction ends; return False where it is not any more.

    Expects a transaction.
    """
    values = {"id": attempt.task_id, "claim": attempt.claim_number, "worker_id": worker_id}
    return bool(QUERIES.run(connection, "hold", values))


def record_attempts(connection: Connection, records: Sequence[AttemptRecord], worker_id: UUID) -> None:
    """Keep attempts that did not end as done, or that logged something."""
    values = {
        **columns((r.attempt.task_id, r.attempt.claim_number) for r in records),
        "tenants": [r.attempt.tenant_id for r in records],
        "numbers": [r.attempt.number for r in records],
        "outcomes": [r.outcome for r in records],
        "errors": [r.error for r in records],
        "tracebacks": [r.traceback for r in records],
        "logs": [r.log for r in records],
        "workers": [worker_id for _ in records],
        "seconds": [r.seconds for r in records],
    }
    QUERIES.run(connection, "record_attempts", values)


def renew(connection: Connection, worker_id: UUID, lease_seconds: float) -> int:
    """Renew the leases of all that a process runs; return how many."""
    return QUERIES.count(connection, "renew", {"worker_id": worker_id, "lease_seconds": lease_seconds})


def expire_leases(connection: Connection, worker_id: UUID) -> int:
    """Let the leases of a process that is gone for certain run out now, and say so; return how many."""
    expired = QUERIES.count(connection, "expire_leases", {"worker_id": worker_id})
    if expired:
        QUERIES.run(connection, "ring_rescuers")
    return expired


def hand_back(connection: Connection, worker_id: UUID) -> int:
    """Give up all running attempts of a process that stops, without cost; return how many."""
    with transaction(connection):
        given = QUERIES.count(connection, "hand_back", {"worker_id": worker_id})
        QUERIES.run(connection, "end_cancelled")
        if given:
            queue.ring(connection)
    return given


def orders(connection: Connection, worker_id: UUID, running: Claims = ()) -> list[Order]:
    """Return which attempts of a process are to be interrupted; of `running` also those that are not its own now."""
    values = {**columns(running), "worker_id": worker_id}
    return [Order(*row) for row in QUERIES.run(connection, "orders", values)]


def next_deadline(connection: Connection, worker_id: UUID) -> float | None:
    """Return the seconds until the first attempt of a process has used its time up, or None where it runs none."""
    rows = QUERIES.run(connection, "next_deadline", {"worker_id": worker_id})
    return float(rows[0][0]) if rows else None


def report_progress(connection: Connection, attempt: Attempt, progress: float, message: str | None) -> bool:
    """Store a running attempt's progress (0 to 1); return whether the attempt is still ours."""
    values = {"id": attempt.task_id, "claim": attempt.claim_number, "progress": progress, "message": message}
    return bool(QUERIES.run(connection, "report_progress", values))
