"""Personas that are measured by the tasks themselves, as workers run them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from core.groups import HealthSettings
from core.settings import load_settings
from pipelines.health import measure
from pipelines.health.measure import MeasurePersona
from pipelines.registry import Registry
from pipelines.resources import Resources
from tests.support.database import Database
from tests.support.factory import Factory
from workers.testing import TaskRun, run_task

[MEASURE_ALL, MEASURE] = measure.TASKS
REGISTRY = Registry(measure.TASKS)
_ROWS = """
SELECT cpu_percent::float, memory_mb, memory_percent::float, disk_usage_gb::float, llm_calls_count,
    estimated_cost::float, active_runs_count
FROM ops.persona_health_metrics WHERE persona_id = %s ORDER BY measured_at
"""
_EVENTS = """
SELECT event_type, metadata ->> 'metric', (metadata ->> 'value')::float FROM audit.audit_events
WHERE resource_type = 'persona' AND resource_id = %s ORDER BY created_at, metadata ->> 'metric'
"""
Measure = tuple[Any, ...]
"""CPU %, memory MB and %, disk GB, calls, cost, runs."""


@dataclass
class Measuring:
    """A tenant's personas, and what became of measuring them."""

    database: Database
    factory: Factory
    settings: HealthSettings

    def __post_init__(self) -> None:
        self.resources = Resources()
        measure.provide(self.resources, load_settings(_env_file=None, health=self.settings.model_dump()))

    def persona(self, **given: Any) -> UUID:
        """Make a persona."""
        made: UUID = self.factory.row("assistants.personas", **given)["id"]
        return made

    def agent(self, persona_id: UUID) -> UUID:
        """Make an agent of a persona."""
        made: UUID = self.factory.row("assistants.agents", persona_id=persona_id, name=f"a{uuid4()}")["id"]
        return made

    def measure(self, persona_id: UUID) -> TaskRun:
        """Run a task that measures a persona."""
        payload = MeasurePersona(persona_id=persona_id)
        return run_task(self.database, MEASURE, payload, resources=self.resources, tenant_id=self.factory.tenant_id)

    def measures(self, persona_id: UUID) -> list[Measure]:
        """Return a persona's measures, the oldest first."""
        return self.database.rows(_ROWS, (persona_id,))

    def last(self, persona_id: UUID) -> Measure:
        """Measure a persona; return the row."""
        run = self.measure(persona_id)
        assert (run.outcome, run.status) == ("done", "done"), run.error
        return self.measures(persona_id)[-1]

    def told(self, persona_id: UUID) -> list[tuple[Any, ...]]:
        """Return the audit's events of a persona: type, measure, value; those of one moment by their measures."""
        return self.database.rows(_EVENTS, (str(persona_id),))

    def call(self, run_id: UUID, at: datetime | None = None) -> None:
        """Note a call of a language model in a run."""
        given = {} if at is None else {"created_at": at}
        self.factory.row("assistants.run_steps", run_id=run_id, step_type="llm_call", **given)

    def cost(self, agent_id: UUID, cost: float | None) -> None:
        """Record the use of an agent."""
        self.factory.row("billing.usage_metrics", agent_id=agent_id, cost=cost, **_period(self.database))


def _period(database: Database) -> dict[str, Any]:
    [(start, end)] = database.rows("SELECT now(), now() + interval '1 min'")
    return {"period_start": start, "period_end": end}
