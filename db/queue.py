"""The queue's store: what is due, who may have it, and what comes back unbegun or lost (`sql/queue.sql`).

What a worker holds is `db/leases.py`; who takes part is `db/processes.py`.

A call runs in the connection's current transaction, or as a transaction of its own on an autocommit connection.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import starmap
from operator import attrgetter
from types import MappingProxyType
from typing import Any, NamedTuple
from uuid import UUID

from psycopg.types.json import Jsonb

from db.connection import Connection
from db.queries import Queries, Row

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


class Attempt(NamedTuple):
    """One task that a worker has started; `waited` is in seconds from due to start."""

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


class Claim(NamedTuple):
    """The relay's right to dispatch one task; `claim_number` is the fencing token.

    `batch_size` tasks like this one may travel together, `rank` is the place that its lane is claimed up to, `before`
    the slots that are taken by what was claimed before it. `attempt` is there if it was started with the claim.
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
    attempt: Attempt | None = None


class Lane(NamedTuple):
    """A tenant's tasks of one limit key in a queue; NO_TENANT and "" stand for those that have none."""

    tenant: UUID
    key: str


FIRST_LANE = Lane(NO_TENANT, "")
"""The lane that is first in the order in which lanes are gone through."""


class Reach(NamedTuple):
    """Where a claim begins and how far it goes: for each lane the rank to begin at, and at most `limit` tasks of all.

    `limit` is rounded up to the same for each lane. `served` has for tenants the number of the claim that served them
    last: who was served longest ago comes first.
    """

    from_ranks: Mapping[Lane, int]
    limit: int
    claim_seconds: float
    served: Mapping[UUID, int] = MappingProxyType({})


class DueLane(NamedTuple):
    """A lane with due tasks; whether a limit may hold all of them up, or those of some task types."""

    lane: Lane
    is_limited: bool
    has_limited_types: bool


class Look(NamedTuple):
    """The queues that have due tasks, and the seconds until the next deferred task is due; None where there is none."""

    queues: frozenset[str]
    due_in: float | None


class Starter(NamedTuple):
    """The worker that attempts are started for with their claim, if it is in the claimer's own process.

    `time_limits` has the seconds of each type, in the order of the capacity's.
    """

    worker_id: UUID
    lease_seconds: float
    time_limits: list[float]


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the live workers of a queue can take: free slots, and of each type the newest payload version they know.

    `batch_sizes` says how many tasks of each type travel in one message, `starter` whether their attempts are started.
    """

    queue: str
    free: float
    task_types: list[str]
    versions: list[int]
    batch_sizes: list[int]
    starter: Starter | None = None


@dataclass(frozen=True, slots=True)
class TaskEnd:
    """How a task ended: `status` is done, failed or cancelled; `result` is what its handler returned."""

    task_id: UUID
    status: str
    result: Any
    error: str | None


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
    pending_limit: timedelta | None = None


Claims = Sequence[tuple[UUID, int]]
"""Tasks as messages carry them and workers hold them: ids with claim numbers."""


def columns(pairs: Iterable[tuple[UUID, int]]) -> dict[str, str]:
    """Return claims as the values of a statement that is given `ids` and `claims`."""
    # As the text of arrays: psycopg looks at each element of a list, which takes four times as long.
    listed = list(pairs)
    ids, numbers = ",".join([i.hex for i, _ in listed]), ",".join([str(number) for _, number in listed])
    return {"ids": f"{{{ids}}}", "claims": f"{{{numbers}}}"}


def promote(connection: Connection, limit: int) -> int:
    """Let deferred tasks whose time has come enter the claim's index; return how many did."""
    return QUERIES.count(connection, "promote", {"limit": limit})


def look(connection: Connection) -> Look:
    """Return which queues have due tasks, and when the next deferred one will be due."""
    [(queues, due_in)] = QUERIES.run(connection, "look")
    return Look(frozenset(queues), None if due_in is None else max(due_in, 0.0))


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


def claim(connection: Connection, wanted: Capacity, reach: Reach) -> list[Claim]:
    """Claim due tasks of a queue, fairly among the tenants of the given lanes; each raises its task's claim number.

    Returns them in the order in which they shall run: the first of every tenant, and of those who was served longest
    ago, then the second. Asks no limit. For a capacity with a starter it starts their attempts, too.
    """
    values = claim_values(wanted, reach) | {"each": -(-reach.limit // len(reach.from_ranks))}
    return _claim(connection, wanted, ("claim", "start"), values)


def claim_first(
    connection: Connection, wanted: Capacity, *, lanes: int, each: int, claim_seconds: float
) -> list[Claim]:
    """Claim the first due tasks of a queue, at most `each` of each of its first `lanes` lanes, without a look before.

    Returns none where none is due, and none while any limit stands. Starts attempts as `claim` does.
    """
    values = claim_values(wanted, Reach({}, lanes, claim_seconds)) | {
        "first_tenant": FIRST_LANE.tenant,
        "first_key": FIRST_LANE.key,
        "first_rank": FIRST_RANK,
        "each": each,
    }
    return _claim(connection, wanted, ("claim_first", "start_first"), values)


def claim_values(wanted: Capacity, reach: Reach) -> dict[str, Any]:
    """Return what a claim's statement is told of the queue's workers and of the lanes to claim from."""
    return {
        "queue": wanted.queue,
        "task_types": wanted.task_types,
        "versions": wanted.versions,
        "batch_sizes": wanted.batch_sizes,
        "free": wanted.free,
        "tenants": [lane.tenant for lane in reach.from_ranks],
        "keys": [lane.key for lane in reach.from_ranks],
        "from_ranks": list(reach.from_ranks.values()),
        "served": [reach.served.get(lane.tenant, 0) for lane in reach.from_ranks],
        "limit": reach.limit,
        "claim_seconds": reach.claim_seconds,
    }


def in_order(claims: Iterable[Claim]) -> list[Claim]:
    """Return claims in the order in which they shall run."""
    return sorted(claims, key=attrgetter("before"))


def _claim(connection: Connection, wanted: Capacity, queries: tuple[str, str], values: dict[str, Any]) -> list[Claim]:
    """Run the first of two queries, or the second where attempts are to be started."""
    only_claim, start = queries
    if wanted.starter is None:
        return in_order(starmap(Claim, QUERIES.run(connection, only_claim, values)))
    rows = QUERIES.run(connection, start, values | wanted.starter._asdict())
    return in_order(map(_started, rows))


def _started(row: Row) -> Claim:
    """Return a row of `started` as a claim with its attempt."""
    attempt = Attempt._make((row[0], row[1], *row[9:12], row[4], *row[12:16], row[8]))
    return Claim._make((*row[:9], attempt))


def give_back(connection: Connection, claims: Claims, *, delay: float = 0.0) -> int:
    """Give claims back without cost, to be claimed again after `delay` seconds; return how many were still ours."""
    return QUERIES.count(connection, "give_back", {**columns(claims), "delay": delay})


def ring(connection: Connection) -> None:
    """Wake the relays that sleep at the end of the transaction: something is due, or will be earlier than they know."""
    QUERIES.run(connection, "ring")


def is_occupied(connection: Connection) -> bool:
    """Return whether any task is claimed or runs."""
    [(found,)] = QUERIES.run(connection, "is_occupied")
    return bool(found)


def rescue(connection: Connection, limit: int) -> tuple[int, int, int]:
    """Give tasks whose lease ran out another attempt, or end them; return how many are (retried, failed, cancelled)."""
    [(retried, failed, cancelled)] = QUERIES.run(connection, "rescue", {"limit": limit})
    return retried, failed, cancelled


def reclaim(connection: Connection, limit: int) -> int:
    """Take back claims that no worker took in time; return how many."""
    return QUERIES.count(connection, "reclaim", {"limit": limit})


def ended(connection: Connection, task_ids: Sequence[UUID]) -> list[TaskEnd]:
    """Return the ends of those of the tasks that have ended, in no particular order."""
    return [TaskEnd(*row) for row in QUERIES.run(connection, "ended", {"ids": list(task_ids)})]


def publish_type(connection: Connection, row: TaskTypeRow) -> bool:
    """Keep what a task type defaults to; return whether that changed anything. A newer version is not taken back."""
    values = {name: getattr(row, name) for name in TaskTypeRow.__slots__}
    schema = Jsonb(row.payload_schema)
    return QUERIES.count(connection, "publish_task_type", {**values, "payload_schema": schema}) > 0


def release_active(connection: Connection) -> int:
    """Release tasks that are held for a tenant which is active again; return how many."""
    return QUERIES.count(connection, "release_active")
