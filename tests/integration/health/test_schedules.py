"""The default schedules of health: their tasks, as they enqueue them, measure all personas and roll up their hours."""

from db.seed import seed
from pipelines.enqueue import enqueue
from pipelines.health import measure, rollup
from pipelines.registry import Registry
from tests.integration.health.measuring import Measuring
from tests.support.database import Database
from workers.testing import drain

REGISTRY = Registry([*measure.TASKS, *rollup.TASKS])
LIVING = """
SELECT count(*) FROM assistants.personas p JOIN identity.tenants t ON t.id = p.tenant_id
WHERE t.status = 'active' AND p.is_active AND p.host IS NULL
"""
MEASURED = "SELECT count(*) FROM ops.persona_health_metrics"
ROLLED_UP = "SELECT count(*), sum(sample_count) FROM ops.persona_health_hourly"
AN_HOUR_AGO = "UPDATE ops.persona_health_metrics SET measured_at = measured_at - interval '1 hour'"


def test_the_schedules_measure_every_persona_and_roll_up_its_hour(shared: Database, measuring: Measuring) -> None:
    seed(shared.connect(), None)
    living = shared.value(LIVING)
    assert living > 1
    by_name = {schedule.name: schedule for module in (measure, rollup) for schedule in module.SCHEDULES}
    assert {name: schedule.cron for name, schedule in by_name.items()} == {
        "personas-measure": "* * * * *", "health-rollup": "5 * * * *",
    }  # fmt: skip
    producer = measuring.database.connect("owner")
    enqueue(producer, by_name["personas-measure"].payload)
    drain(measuring.database, REGISTRY, resources=measuring.resources)
    assert shared.value(MEASURED) == living
    shared.rows(AN_HOUR_AGO)
    enqueue(producer, by_name["health-rollup"].payload)
    drain(measuring.database, REGISTRY, resources=measuring.resources)
    assert shared.rows(ROLLED_UP) == [(living, living)]
