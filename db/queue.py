"""The queue's store: each step of a task's life as one typed call over the named queries of `sql/queue.sql`.

A call runs in the connection's current transaction, or as a transaction of its own on an autocommit connection.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, NamedTuple
from uuid import UUID

from psycopg.types.json import Jsonb

from db.connection import Connection
from db.queries import Queries, transaction

QUERIES = Queries("queue")
WAKE_CHANNEL = "greenroom_wake"
RESCUE_NOTICE = "rescue"
"""What a notice on the wake channel says when it is for those who rescue."""
SETTLE_NOTICE = "settle"
"""What a notice on the wake channel says when it is for those who settle."""
NO_TENANT = UUID(int=0)
"""What stands for the tenant of tasks that have none, where the claim goes from tenant to tenant."""
FIRST_RANK = -(2**63)
"""A rank below all."""


class Claim(NamedTuple):
    """The relay's right to dispatch one task; `claim_number` is the fencing token.

    `batch_size` tasks like this one may travel together, `rank` is its place among its tenant's, `before` the slots
    that are taken by what was claimed before it.
    """

    task_id: UUID
    claim_number: int
    queue: str
    task_type: str
    tenant_id: UUID | None
    batch_size: int
    rank: int
    before: float
    limit_key: str | None = None


class Lane(NamedTuple):
    """A tenant's tasks of one limit key in a queue; NO_TENANT and "" stand for those that have none."""

    tenant: UUID
    key: str


FIRST_LANE = Lane(NO_TENANT, "")
"""The lane that is first in the order in which lanes are gone through."""


class DueLane(NamedTuple):
    """A lane with due tasks; whether a limit may hold all of them up, or those of some task types."""

    lane: Lane
    is_limited: bool
    has_limited_types: bool


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the live workers of a queue can take: free slots, and of each type the newest payload version they know.

    `batch_sizes` says how many tasks of each type travel in one message.
    """

    queue: str
    free: float
    task_types: list[str]
    versions: list[int]
    batch_sizes: list[int]


class Attempt(NamedTuple):
    """One task that a worker took; `waited` is in seconds from due to start."""

    task_id: UUID
    claim_number: int
    number: int
    max_attempts: int
    snoozes: int
    tenant_id: UUID | None
    payload_json: str
    payload_version: int
    trace_context: str | None
    waited: float
    limit_key: str | None = None


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


@dataclass(frozen=True, slots=True)
class TaskEnd:
    """How a task ended: `status` is done, failed or cancelled; `result` is what its handler returned."""

    task_id: UUID
    status: str
    result: Any
    error: str | None


class Order(NamedTuple):
    """An attempt that a worker is to interrupt: asked to end for `reason`, or lost to another (None)."""

    task_id: UUID
    claim_number: int
    reason: str | None


@dataclass(frozen=True, slots=True)
class TaskTypeRow:
    """What producers in any language are given for a task type; `time_limit` is in seconds."""

    name: str
    queue: str
    scope: str
    priority: int
    max_attempts: int
    batch_size: int
    time_limit: float
    payload_version: int
    payload_schema: dict[str, Any]
    secret_fields: list[str]
    aliases: list[str]
    limit_key: str | None = None


Claims = Sequence[tuple[UUID, int]]
"""Tasks as messages carry them and workers hold them: ids with claim numbers."""


def _columns(pairs: Iterable[tuple[UUID, int]]) -> dict[str, str]:
    # As the text of arrays: psycopg looks at each element of a list, which takes four times as long.
    listed = list(pairs)
    ids, numbers = ",".join([i.hex for i, _ in listed]), ",".join([str(number) for _, number in listed])
    return {"ids": f"{{{ids}}}", "claims": f"{{{numbers}}}"}


def _unless_all_none(values: list[Any]) -> list[Any] | None:
    return values if any(value is not None for value in values) else None


def promote(connection: Connection, limit: int) -> int:
    """Let deferred tasks whose time has come enter the claim's index; return how many did."""
    return QUERIES.count(connection, "promote", {"limit": limit})


def next_due(connection: Connection) -> float | None:
    """Return the seconds until the next deferred task is due, or None."""
    rows = QUERIES.run(connection, "next_due")
    return float(rows[0][0]) if rows else None


def capacity(connection: Connection, *, depth: float, process_timeout: float) -> list[Capacity]:
    """Return the free slots of each queue that live workers serve."""
    rows = QUERIES.run(connection, "capacity", {"depth": depth, "process_timeout": process_timeout})
    return [Capacity(*row) for row in rows]


def due_lanes(connection: Connection, wanted: Capacity, *, first: Lane = FIRST_LANE, limit: int) -> list[DueLane]:
    """Return the lanes that have due tasks in a queue, from `first` on; none while the queue is paused."""
    values = {
        "queue": wanted.queue,
        "task_types": wanted.task_types,
        "first_tenant": first.tenant,
        "first_key": first.key,
        "limit": limit,
    }
    return [DueLane(Lane(row[0], row[1]), row[2], row[3]) for row in QUERIES.run(connection, "due_lanes", values)]


def claim(
    connection: Connection, wanted: Capacity, from_ranks: Mapping[Lane, int], *, limit: int, claim_seconds: float
) -> list[Claim]:
    """Claim due tasks of a queue, fairly among the tenants of the given lanes; each raises its task's claim number.

    `from_ranks` has for each lane the rank to begin at. Returns at most `limit` claims (rounded up to the same for
    each lane), in the order in which they shall run: the first of every tenant, then the second. Asks no limit.
    """
    values = claim_values(wanted, from_ranks, claim_seconds) | {"each": -(-limit // len(from_ranks))}
    return in_order(map(Claim._make, QUERIES.run(connection, "claim", values)))


def claim_first(
    connection: Connection, wanted: Capacity, *, lanes: int, each: int, claim_seconds: float
) -> list[Claim]:
    """Claim the first due tasks of a queue, at most `each` of each of its first `lanes` lanes, without a look before.

    Returns none where none is due, and none while any limit stands.
    """
    values = claim_values(wanted, {}, claim_seconds) | {
        "first_tenant": FIRST_LANE.tenant,
        "first_key": FIRST_LANE.key,
        "first_rank": FIRST_RANK,
        "limit": lanes,
        "each": each,
    }
    return in_order(map(Claim._make, QUERIES.run(connection, "claim_first", values)))


def claim_values(wanted: Capacity, from_ranks: Mapping[Lane, int], claim_seconds: float) -> dict[str, Any]:
    """Return what a claim's statement is told of the queue's workers and of the lanes to claim from."""
    return {
        "queue": wanted.queue,
        "task_types": wanted.task_types,
        "versions": wanted.versions,
        "batch_sizes": wanted.batch_sizes,
        "free": wanted.free,
        "tenants": [lane.tenant for lane in from_ranks],
        "keys": [lane.key for lane in from_ranks],
        "from_ranks": list(from_ranks.values()),
        "claim_seconds": claim_seconds,
    }


def in_order(claims: Iterable[Claim]) -> list[Claim]:
    """Return claims in the order in which they shall run."""
    return sorted(claims, key=attrgetter("before"))


def give_back(connection: Connection, claims: Claims, *, delay: float = 0.0) -> int:
    """Give claims back without cost, to be claimed again after `delay` seconds; return how many were still ours."""
    return QUERIES.count(connection, "give_back", {**_columns(claims), "delay": delay})


def take(
    connection: Connection, claims: Claims, *, worker_id: UUID, lease_seconds: float, time_limit: float
) -> list[Attempt]:
    """Start attempts by compare-and-set on (id, claim number); return those that are ours."""
    values = {
        **_columns(claims),
        "worker_id": worker_id,
        "lease_seconds": lease_seconds,
        "time_limit": time_limit,
    }
    return list(map(Attempt._make, QUERIES.run(connection, "take", values)))


def untake(connection: Connection, claims: Claims, worker_id: UUID, *, delay: float = 0.0) -> int:
    """Give back attempts that this worker has not begun, at no cost, to be due in `delay` seconds; return how many."""
    with transaction(connection):
        given = QUERIES.count(connection, "untake", {**_columns(claims), "worker_id": worker_id, "delay": delay})
        QUERIES.run(connection, "end_cancelled")
    return given


def end_leases(connection: Connection, claims: Claims, worker_id: UUID) -> int:
    """End the leases of attempts that this worker has given up; return how many there were."""
    return QUERIES.count(connection, "end_leases", {**_columns(claims), "worker_id": worker_id})


def hold_attempts(connection: Connection, attempts: Sequence[Attempt], worker_id: UUID) -> set[UUID]:
    """Lock the attempts that are still ours until the end of the transaction; return their ids."""
    pairs = _columns((a.task_id, a.claim_number) for a in attempts)
    return {row[0] for row in QUERIES.run(connection, "hold_attempts", {**pairs, "worker_id": worker_id})}


def finish(connection: Connection, endings: Sequence[Ending], worker_id: UUID) -> set[UUID]:
    """Move ended tasks to history; return the ids of those that were still ours."""
    values = {
        **_columns((e.attempt.task_id, e.attempt.claim_number) for e in endings),
        "statuses": f"{{{','.join([e.status for e in endings])}}}",
        # unnest fills up what is shorter with NULLs
        "results": _unless_all_none([None if e.result is None else Jsonb(e.result) for e in endings]),
        "errors": _unless_all_none([e.error for e in endings]),
        "worker_id": worker_id,
    }
    return {row[0] for row in QUERIES.run(connection, "finish", values)}


def reschedule(connection: Connection, items: Sequence[Rescheduling], worker_id: UUID) -> set[UUID]:
    """Let tasks wait again, or end as cancelled if they were asked to; return the ids of those that were still ours.

    Expects a transaction: what was asked to end waits within it alone.
    """
    values = {
        **_columns((i.attempt.task_id, i.attempt.claim_number) for i in items),
        "delays": [i.delay for i in items],
        "errors": [i.error for i in items],
        "snoozes": [int(i.snooze) for i in items],
        "worker_id": worker_id,
    }
    waiting = {row[0]: row[1] for row in QUERIES.run(connection, "reschedule", values)}
    if any(waiting.values()):
        QUERIES.run(connection, "end_cancelled")
    if waiting:
        ring(connection)
    return set(waiting)


def ring(connection: Connection) -> None:
    """Wake the relays that sleep at the end of the transaction: something is due, or will be earlier than they know."""
    QUERIES.run(connection, "ring")


def record_attempts(connection: Connection, records: Sequence[AttemptRecord], worker_id: UUID) -> None:
    """Keep attempts that did not end as done, or that logged something."""
    values = {
        **_columns((r.attempt.task_id, r.attempt.claim_number) for r in records),
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
    return given


def orders(connection: Connection, worker_id: UUID, running: Claims = ()) -> list[Order]:
    """Return which attempts of a process are to be interrupted; of `running` also those that are not its own now."""
    values = {**_columns(running), "worker_id": worker_id}
    return [Order(*row) for row in QUERIES.run(connection, "orders", values)]


def next_deadline(connection: Connection, worker_id: UUID) -> float | None:
    """Return the seconds until the first attempt of a process has used its time up, or None where it runs none."""
    rows = QUERIES.run(connection, "next_deadline", {"worker_id": worker_id})
    return float(rows[0][0]) if rows else None


def is_occupied(connection: Connection) -> bool:
    """Return whether any task is claimed or runs."""
    [(found,)] = QUERIES.run(connection, "is_occupied")
    return bool(found)


def rescue(connection: Connection, limit: int) -> tuple[int, int]:
    """Give tasks whose lease ran out another attempt, or fail them; return (retried, failed)."""
    [(retried, failed)] = QUERIES.run(connection, "rescue", {"limit": limit})
    return retried, failed


def reclaim(connection: Connection, limit: int) -> int:
    """Take back claims that no worker took in time; return how many."""
    return QUERIES.count(connection, "reclaim", {"limit": limit})


def report_progress(connection: Connection, attempt: Attempt, progress: float, message: str | None) -> bool:
    """Store a running attempt's progress (0 to 1); return whether the attempt is still ours."""
    values = {"id": attempt.task_id, "claim": attempt.claim_number, "progress": progress, "message": message}
    return bool(QUERIES.run(connection, "report_progress", values))


def ended(connection: Connection, task_ids: Sequence[UUID]) -> list[TaskEnd]:
    """Return the ends of those of the tasks that have ended, in no particular order."""
    return [TaskEnd(*row) for row in QUERIES.run(connection, "ended", {"ids": list(task_ids)})]


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


def publish_type(connection: Connection, row: TaskTypeRow) -> bool:
    """Keep what a task type defaults to; return whether that changed anything. A newer version is not taken back."""
    values = {name: getattr(row, name) for name in TaskTypeRow.__slots__}
    schema = Jsonb(row.payload_schema)
    return QUERIES.count(connection, "publish_task_type", {**values, "payload_schema": schema}) > 0


def release_active(connection: Connection) -> int:
    """Release tasks that are held for a tenant which is active again; return how many."""
    return QUERIES.count(connection, "release_active")


def create_months(connection: Connection) -> int:
    """Take care that history has partitions for this month and the next two; return how many were made."""
    [(made,)] = QUERIES.run(connection, "create_months")
    return int(made)
