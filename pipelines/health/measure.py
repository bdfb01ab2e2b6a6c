"""`personas.measure` enqueues a measure of each persona that lives, `persona.measure` makes one.

A persona is measured on the queue of the host that runs it. What it uses is read with no transaction open; what it did
is counted in the transaction that writes the measure and ends the task. Whatever cannot be read, a measure is written,
with nulls in its place.
"""

from dataclasses import asdict, dataclass
from datetime import timedelta
from decimal import Decimal
from typing import ClassVar
from uuid import UUID

from core import events
from core.settings import Settings
from db import audit, persona_health, standings
from db.persona_health import METRICS, Place
from pipelines.health import processes
from pipelines.health.containers import ContainerEngine
from pipelines.health.readings import Reading, Reason, usage_of
from pipelines.health.thresholds import Crossing, Thresholds, crossed_after, crossings, defaults
from pipelines.outcomes import Done, Outcome, Snooze
from pipelines.payload import Payload
from pipelines.registry import AnyTask
from pipelines.resources import Resources
from pipelines.schedule import Schedule
from pipelines.task import UNCOUNTED, Task, TaskContext
from pipelines.transaction import Transaction

DEFAULT_QUEUE = "default"
_PAGE = 1000
_NOTHING = Reading()


class MeasurePersonas(Payload):
    """Measure every persona that lives, of all tenants."""

    task_type: ClassVar[str] = "personas.measure"


class MeasurePersona(Payload):
    """Measure one persona."""

    task_type: ClassVar[str] = "persona.measure"

    persona_id: UUID


@dataclass(frozen=True, slots=True)
class DefaultThresholds:
    """The thresholds of personas for which their tenant has set none."""

    by_metric: Thresholds


def host_queue(host: str | None) -> str:
    """Return the queue that workers on a host serve (`greenroom worker --queues default,host-NAME`)."""
    return DEFAULT_QUEUE if host is None else f"host-{host}"


def measure_all(context: TaskContext, payload: MeasurePersonas) -> Outcome:
    """Enqueue the measures of the next personas; done behind the last one."""
    with context.read() as transaction:
        standing = standings.read(transaction.connection, context.task_id, "measuring")
        after, count = UUID(standing.get("after", standings.FIRST)), standing.get("personas", 0)
        found = persona_health.to_measure(transaction.connection, after, _PAGE)

    def apply(transaction: Transaction) -> None:
        listed = [(persona, host_queue(persona.host)) for persona in found]
        persona_health.enqueue(transaction.connection, MeasurePersona.task_type, listed)
        if len(found) == _PAGE:
            reached = {"after": str(found[-1].id), "personas": count + len(found)}
            standings.note(transaction.connection, context.task_id, "measuring", reached)

    if len(found) == _PAGE:
        return Snooze(timedelta(0), apply)
    return Done({"personas": count + len(found)}, apply)


def measure(context: TaskContext, payload: MeasurePersona) -> Outcome:
    """Read what a persona uses, and write its measure."""
    persona_id = payload.persona_id
    with context.read() as transaction:
        place = persona_health.place(transaction.connection, persona_id)
        own = persona_health.thresholds(transaction.connection, persona_id)
    if place is None:
        return Done({"unmeasured": "it lives no more"})
    read = _read(context.resources, place)
    reason = read if isinstance(read, str) else None
    if reason is not None:
        events.emit(events.PersonaUnmeasured(persona_id, reason))
    reading = read if isinstance(read, Reading) else _NOTHING
    thresholds = {**context.resources.get(DefaultThresholds).by_metric, **own}
    return Done(
        {} if reason is None else {"unmeasured": reason},
        lambda transaction: _record(transaction, persona_id, reading, thresholds),
    )


def _read(resources: Resources, place: Place) -> Reading | Reason:
    if place.container_id:
        return resources.get(ContainerEngine).read(place.container_id)
    if place.process_id is not None and place.process_started_at is not None:
        return processes.read(place.process_id, place.process_started_at)
    return _NOTHING


def _record(transaction: Transaction, persona_id: UUID, reading: Reading, thresholds: Thresholds) -> None:
    state = persona_health.lock(transaction.connection, persona_id)
    if state is None:  # it went while it was measured
        return
    usage = usage_of(reading, state.counters)
    activity = persona_health.record(transaction.connection, persona_id, usage, reading.counters)
    values = asdict(usage) | asdict(activity)
    if values["estimated_cost"] is None and "estimated_cost" in state.crossed:
        values["estimated_cost"] = Decimal()  # nothing was spent since
    changes = crossings({metric: values[metric] for metric in METRICS}, thresholds, state.crossed)
    if changes:
        persona_health.cross(transaction.connection, persona_id, crossed_after(state.crossed, changes))
    for change in changes:
        _tell(transaction, persona_id, change)


def _tell(transaction: Transaction, persona_id: UUID, change: Crossing) -> None:
    """Write the audit's event: a crossing is told of once, whatever the measures after it say."""
    limit = change.threshold
    said = f"{change.metric} is {change.value}" if limit else f"{change.metric} has no threshold any more"
    audit.record(
        transaction.connection,
        "health.threshold_crossed" if change.is_up else "health.threshold_cleared",
        said,
        audit.Resource("persona", persona_id, transaction.tenant_id),
        category="system",
        metadata={
            "metric": change.metric,
            "value": None if change.value is None else float(change.value),
            "raise_at": float(limit.raise_at) if limit else None,
            "clear_below": float(limit.clear_below) if limit else None,
        },
    )


def provide(resources: Resources, settings: Settings) -> None:
    """Say how the engine and the thresholds of this process are made."""
    health = settings.health
    resources.provide(ContainerEngine, lambda: ContainerEngine(health.docker_url, health.docker_seconds))
    resources.provide(DefaultThresholds, lambda: DefaultThresholds(defaults(health)))


TASKS: tuple[AnyTask, ...] = (
    Task(payload=MeasurePersonas, run=measure_all, scope="system", batch_size=1, max_snoozes=UNCOUNTED),
    Task(payload=MeasurePersona, run=measure, queue=DEFAULT_QUEUE, time_limit=timedelta(seconds=15), max_attempts=3),
)
SCHEDULES = (
    Schedule(
        name="personas-measure",
        payload=MeasurePersonas(),
        cron="* * * * *",
        missed="skip",
        overlap="skip",
        design="000",
        description="Measures what each persona uses and does.",
    ),
)
