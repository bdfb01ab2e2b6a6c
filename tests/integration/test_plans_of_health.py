"""EXPLAIN guards: personas are measured, rolled up and shown among 60,000, two of whom have thousands of measures."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from db.embedded import EmbeddedServer
from tests.support.full import ANALYSED, FEW, Full, full, key
from tests.support.plans import Guard, Own, cases, faults

HOUR = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
OWN = {"persona_id": Own("personas")}
FIVE = {"persona_ids": Own("personas", 5)}
AFTER = {"after": key("personas", 30_000), "most": 200}
TASKS = {
    "task_type": "persona.measure", "queues": ["default"] * 5, "tenants": lambda whose: [whose.tenant] * 5,
}  # fmt: skip
USAGE = {"cpu_percent": 1, "memory_mb": 1, "memory_percent": 1, "disk_usage_gb": 1}
COUNTERS = {"source": "x", "cpu_used_ns": 1, "cpu_capacity_ns": 1}
METRICS, HOURLY = "persona_health_metrics_*persona_id_measured_at_idx*", "persona_health_hourly_persona_id_hour_key"
STATE = "persona_health_states_persona_id_key"
GUARDS = [
    Guard("system", "persona_health.to_measure", AFTER, ("personas_pkey",), 1000, 700),
    Guard("system", "persona_health.enqueue", FIVE | TASKS, (), 100, 1000),
    Guard("worker", "persona_health.place", OWN, ("personas_pkey",), 5, 20),
    Guard("worker", "persona_health.thresholds", OWN, ("health_thresholds_*",), 10, 50),
    Guard("worker", "persona_health.begin", OWN, ("personas_pkey",), 10, 50),
    Guard("worker", "persona_health.lock", OWN, (STATE,), 5, 20),
    Guard(
        "worker", "persona_health.record", OWN | USAGE | COUNTERS,
        (STATE, "runs_persona_id_completed_at_idx", "usage_metrics_agent_id_recorded_at_idx"), 100, 200,
        blind=False,
    ),
    Guard("worker", "persona_health.cross", OWN | {"crossed": ["cpu_percent"]}, (STATE,), 5, 50),
    Guard("system", "persona_health.personas", AFTER, ("personas_pkey",), 300, 300),
    # of one persona the measures of a day and three hours, and whether each hour was rolled up
    Guard("system", "persona_health.hours_due", FIVE | {"since": None, "most": 500}, (METRICS, HOURLY), 1000, 1500),
    Guard(
        "system", "persona_health.roll_up", FIVE | {"hours": [HOUR - timedelta(hours=2)] * 5},
        (METRICS, HOURLY), 300, 600,
    ),
    # all of the tenant's are put in their order
    Guard("operator", "persona_health.shown", {"persona": None, "most": 50}, ("personas_*",), 1000, 2500, (FEW,)),
    Guard(
        "operator", "persona_health.hours", FIVE | {"since": HOUR - timedelta(hours=23)},
        (METRICS, HOURLY), 500, 800, blind=False,
    ),
]  # fmt: skip


@pytest.fixture(scope="module")
def filled(server_without_fsync: EmbeddedServer, template_database: str) -> Iterator[Full]:
    """Personas with what they did, measures, hours and thresholds."""
    with full(server_without_fsync, template_database, "health") as database:
        yield database


@pytest.mark.parametrize(("state", "guard"), cases(GUARDS), ids=str)
def test_the_statement_keeps_to_its_index(filled: Full, state: str, guard: Guard) -> None:
    assert faults(filled, state, guard) == []


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        ("persona_health.record", "assistants.runs_persona_id_completed_at_idx"),
        ("persona_health.record", "billing.usage_metrics_agent_id_recorded_at_idx"),
    ],
)
def test_an_index_that_is_gone_is_missed(filled: Full, statement: str, index: str) -> None:
    [guard] = [guard for guard in GUARDS if guard.statement == statement]
    with filled.without(index):
        found = faults(filled, ANALYSED, guard)
    assert [fault for fault in found if f"it does not use {index.rpartition('.')[2]}" in fault] != [], found
