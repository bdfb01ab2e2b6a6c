"""Personas' health: what is measured, how far measuring is, and its roll-up by hours. Over `sql/persona_health.sql`.

Invariant: a measure and how far it came are one transaction, so that nothing counts in two measures, nor in none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal, get_args
from uuid import UUID

from db.connection import Connection
from db.queries import Queries, in_utc

QUERIES = Queries("persona_health")
Metric = Literal[
    "cpu_percent",
    "memory_mb",
    "memory_percent",
    "disk_usage_gb",
    "llm_calls_count",
    "estimated_cost",
    "active_runs_count",
]
METRICS: tuple[Metric, ...] = get_args(Metric)


@dataclass(frozen=True, slots=True)
class Living:
    """A persona that is to be measured; `host` runs it, None where any worker may measure it."""

    id: UUID
    tenant_id: UUID
    host: str | None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a persona runs: a container, or a process by its number and start, or nowhere that anybody has told of."""

    container_id: str | None
    process_id: int | None
    process_started_at: datetime | None


@dataclass(frozen=True, slots=True)
class Counters:
    """Processor time since the start that `source` names, and what all of its host's processors had run, both in ns."""

    source: str
    used_ns: int
    capacity_ns: int


@dataclass(frozen=True, slots=True)
class State:
    """How far a persona's measuring is: the counters of the last measure, and what was over its threshold then."""

    counters: Counters | None
    crossed: tuple[Metric, ...]


@dataclass(frozen=True, slots=True)
class Usage:
    """What a persona uses: percent from 0 to 100, MB of 10^6 and GB of 10^9 bytes. None: it was not measured."""

    cpu_percent: Decimal | None = None
    memory_mb: int | None = None
    memory_percent: Decimal | None = None
    disk_usage_gb: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Activity:
    """What a persona did since its last measure, and its runs that go on; cost in USD, None where none was recorded."""

    llm_calls_count: int
    estimated_cost: Decimal | None
    active_runs_count: int


@dataclass(frozen=True, slots=True)
class Threshold:
    """A measure crosses it at `raise_at` and above, and is over it again below `clear_below`."""

    raise_at: Decimal
    clear_below: Decimal


@dataclass(frozen=True, slots=True)
class Shown:
    """A persona with its last measure, whose time is None where there is none, and what is over its threshold."""

    id: UUID
    name: str
    is_active: bool
    host: str | None
    measured_at: datetime | None
    cpu_percent: Decimal | None
    memory_mb: int | None
    memory_percent: Decimal | None
    disk_usage_gb: Decimal | None
    llm_calls_count: int | None
    estimated_cost: Decimal | None
    active_runs_count: int | None
    crossed: list[Metric]


@dataclass(frozen=True, slots=True)
class Hour:
    """What a persona's measures of an hour came to, as in ops.persona_health_hourly."""

    persona_id: UUID
    hour: datetime
    sample_count: int
    cpu_percent_avg: Decimal | None
    cpu_percent_max: Decimal | None
    cpu_percent_p95: Decimal | None
    memory_mb_avg: Decimal | None
    memory_mb_max: int | None
    memory_mb_p95: Decimal | None
    memory_percent_avg: Decimal | None
    memory_percent_max: Decimal | None
    memory_percent_p95: Decimal | None
    disk_usage_gb_avg: Decimal | None
    disk_usage_gb_max: Decimal | None
    disk_usage_gb_p95: Decimal | None
    llm_calls_sum: int
    estimated_cost_sum: Decimal | None
    active_runs_avg: Decimal
    active_runs_max: int
    active_runs_p95: Decimal


def to_measure(connection: Connection, after: UUID, most: int) -> list[Living]:
    """Return the next personas that live, in the order of their keys. As the system role, for all tenants."""
    return [Living(*row) for row in QUERIES.run(connection, "to_measure", {"after": after, "most": most})]


def enqueue(connection: Connection, task_type: str, personas: Sequence[tuple[Living, str]]) -> None:
    """Enqueue a task of that type for each persona on its queue, unless one is live. Expects a transaction."""
    values = {
        "task_type": task_type,
        "persona_ids": [persona.id for persona, _ in personas],
        "tenants": [persona.tenant_id for persona, _ in personas],
        "queues": [queue for _, queue in personas],
    }
    QUERIES.run(connection, "enqueue", values)


def place(connection: Connection, persona_id: UUID) -> Place | None:
    """Return where a persona of the tenant runs; None where it lives no more."""
    rows = QUERIES.run(connection, "place", {"persona_id": persona_id})
    return Place(*rows[0]) if rows else None


def thresholds(connection: Connection, persona_id: UUID) -> dict[Metric, Threshold | None]:
    """Return what the tenant has set for a persona; None where a measure is never to be told of."""
    rows = QUERIES.run(connection, "thresholds", {"persona_id": persona_id})
    return {metric: None if at is None else Threshold(at, below) for metric, at, below in rows}


def lock(connection: Connection, persona_id: UUID) -> State | None:
    """Return how far a persona's measuring is, and keep others from it to the transaction's end; None if it is gone."""
    QUERIES.run(connection, "begin", {"persona_id": persona_id})
    rows = QUERIES.run(connection, "lock", {"persona_id": persona_id})
    if not rows:
        return None
    source, used, capacity, crossed = rows[0]
    return State(None if source is None else Counters(source, used, capacity), tuple(crossed))


def record(connection: Connection, persona_id: UUID, usage: Usage, counters: Counters | None) -> Activity:
    """Write a measure of now, and how far it came; return what is counted. Expects the transaction of `lock`."""
    source, used, capacity = (None, None, None) if counters is None else astuple(counters)
    values: Mapping[str, object] = {
        "persona_id": persona_id,
        "source": source,
        "cpu_used_ns": used,
        "cpu_capacity_ns": capacity,
        **{name: getattr(usage, name) for name in Usage.__slots__},
    }
    [row] = QUERIES.run(connection, "record", values)
    return Activity(*row)


def cross(connection: Connection, persona_id: UUID, crossed: Sequence[Metric]) -> None:
    """Keep which measures are over their threshold. Expects the transaction of `lock`."""
    QUERIES.run(connection, "cross", {"persona_id": persona_id, "crossed": list(crossed)})


def personas(connection: Connection, after: UUID, most: int) -> list[UUID]:
    """Return the next personas in the order of their keys. As the system role, for all tenants."""
    return [row[0] for row in QUERIES.run(connection, "personas", {"after": after, "most": most})]


def hours_due(
    connection: Connection, persona_ids: Sequence[UUID], since: datetime | None, most: int
) -> list[tuple[UUID, datetime]]:
    """Return hours that are over and are not rolled up from all their measures, in order.

    They are looked for from `since` on; without it, from a day before each persona's last hour that was rolled up.
    """
    values = {"persona_ids": list(persona_ids), "since": since, "most": most}
    return [(persona_id, hour) for persona_id, hour in QUERIES.run(connection, "hours_due", values)]


def roll_up(connection: Connection, hours: Sequence[tuple[UUID, datetime]]) -> int:
    """Write what the measures of hours come to; return how many were written. Twice changes nothing."""
    values = {"persona_ids": [persona_id for persona_id, _ in hours], "hours": [hour for _, hour in hours]}
    return QUERIES.count(connection, "roll_up", values)


def shown(connection: Connection, persona: str | None, most: int) -> list[Shown]:
    """Return the tenant's personas by name, or those of that id, name or external id. Expects a bound transaction."""
    return [Shown(*row) for row in QUERIES.run(connection, "shown", {"persona": persona, "most": most})]


def hours(connection: Connection, persona_ids: Sequence[UUID], since: datetime) -> list[Hour]:
    """Return the hours of personas from `since` on, in order; the last may go on. Expects a bound transaction."""
    rows = QUERIES.run(connection, "hours", {"persona_ids": list(persona_ids), "since": since})
    return [Hour(*in_utc(row)) for row in rows]
