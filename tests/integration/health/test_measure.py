"""`persona.measure`: what is read, what is counted, what is told of; `personas.measure`: whom, and on which queue."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psutil
import pytest

from core import events
from core.events import PersonaUnmeasured
from db import persona_health
from db.connection import connect, tenant_transaction
from db.persona_health import Usage
from pipelines.health.measure import MeasurePersonas
from tests.integration.health.measuring import MEASURE_ALL, REGISTRY, Measuring
from tests.support.database import Database
from tests.support.docker_engine import FakeEngine, answer, recorded
from tests.support.tenants import new_tenant
from tests.support.waiting import eventually
from workers.testing import drain, run_task

SECOND = 10**9
QUEUED = "SELECT queue, payload ->> 'persona_id', tenant_id FROM queue.tasks_live WHERE task_type = 'persona.measure'"
CALL = "INSERT INTO assistants.run_steps (tenant_id, run_id, step_number, step_type) VALUES (%s, %s, 1, 'llm_call')"
WAITS = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid = %s"
CROSSED, CLEARED = "health.threshold_crossed", "health.threshold_cleared"


def later(stats: dict[str, Any], used: float, capacity: float) -> dict[str, Any]:
    """Return an engine's figures after so many more seconds of processor time, used and to use."""
    cpu = stats["cpu_stats"]
    usage = cpu["cpu_usage"] | {"total_usage": cpu["cpu_usage"]["total_usage"] + round(used * SECOND)}
    moved = cpu | {"cpu_usage": usage, "system_cpu_usage": cpu["system_cpu_usage"] + round(capacity * SECOND)}
    return stats | {"cpu_stats": moved}


# ------------------------------------------------------------------------------------------------ what is read


def test_a_container_is_measured_against_its_limits_and_since_its_last_measure(
    measuring: Measuring, engine: FakeEngine
) -> None:
    engine.has_container()
    persona = measuring.persona(container_id="ada")
    assert measuring.last(persona) == (None, 512, 47.72, 1.23, 0, None, 0)
    # of a minute on four processors, 45 s of the 90 s that one and a half have
    engine.answers["stats"] = answer(later(recorded("stats_v2"), 45, 240))
    assert measuring.last(persona)[:2] == (50.0, 512)


def test_a_container_that_started_anew_has_no_share_of_time_but_one_from_then_on(
    measuring: Measuring, engine: FakeEngine
) -> None:
    engine.has_container()
    persona = measuring.persona(container_id="ada")
    measuring.measure(persona)
    inspected = recorded("inspect")
    inspected["State"]["StartedAt"] = "2026-11-23T09:30:00Z"
    engine.answers["inspect"] = answer(inspected)
    engine.answers["stats"] = answer(later(recorded("stats_v2"), -80, 240))
    assert measuring.last(persona)[0] is None
    engine.answers["stats"] = answer(later(recorded("stats_v2"), -80 + 9, 480))
    assert measuring.last(persona)[0] == 10.0


def test_counters_that_wrap_give_null_and_neither_a_negative_nor_a_zero(
    measuring: Measuring, engine: FakeEngine
) -> None:
    engine.has_container()
    persona = measuring.persona(container_id="ada")
    measuring.measure(persona)
    engine.answers["stats"] = answer(later(recorded("stats_v2"), -1, 240))
    assert measuring.last(persona)[0] is None


def test_numbers_that_no_machine_has_are_null_beside_what_makes_sense(measuring: Measuring, engine: FakeEngine) -> None:
    engine.has_container()
    stats = recorded("stats_v2")
    stats["cpu_stats"]["cpu_usage"]["total_usage"] = 2**64 - 1
    stats["memory_stats"] = {"usage": 10**9, "limit": 2**63 - 4096}
    engine.answers["stats"] = answer(stats)
    persona = measuring.persona(container_id="ada")
    assert measuring.last(persona) == (None, 1000, None, 1.23, 0, None, 0)
    stats["memory_stats"]["usage"] = 2**64 - 1
    engine.answers["stats"] = answer(stats)
    assert measuring.last(persona)[1:4] == (None, None, 1.23)


def test_a_process_is_measured_where_there_is_no_container(measuring: Measuring) -> None:
    own = psutil.Process()
    started = datetime.fromtimestamp(own.create_time(), UTC)
    persona = measuring.persona(process_id=own.pid, process_started_at=started)
    measuring.measure(persona)
    cpu, memory, share, disk, *_ = measuring.last(persona)
    assert 0 < cpu <= 100
    assert memory == pytest.approx(own.memory_info().rss / 1e6, rel=0.2)
    assert 0 < share < 100
    assert disk is None


def test_a_persona_that_nobody_placed_gets_what_the_database_knows(
    measuring: Measuring, recorded: list[events.Event]
) -> None:
    persona = measuring.persona()
    run = measuring.factory.row("assistants.runs", persona_id=persona, status="running")
    measuring.call(run["id"])
    assert measuring.last(persona) == (None, None, None, None, 1, None, 1)
    assert [event for event in recorded if isinstance(event, PersonaUnmeasured)] == []


def test_what_cannot_be_read_is_null_with_a_reason_and_what_the_database_knows(
    measuring: Measuring, engine: FakeEngine, recorded: list[events.Event]
) -> None:
    engine.has_container()
    engine.answers["stats"] = answer({"message": "boom"}, 500)
    persona = measuring.persona(container_id="ada")
    measuring.call(measuring.factory.row("assistants.runs", persona_id=persona)["id"])
    run = measuring.measure(persona)
    assert (run.status, run.result) == ("done", {"unmeasured": "refused"})
    assert measuring.measures(persona) == [(None, None, None, None, 1, None, 0)]
    found = [event for event in recorded if isinstance(event, PersonaUnmeasured)]
    assert found == [PersonaUnmeasured(persona, "refused")]


def test_a_persona_that_lives_no_more_is_not_measured(measuring: Measuring) -> None:
    persona = measuring.persona(is_active=False)
    assert measuring.measure(persona).result == {"unmeasured": "it lives no more"}
    assert measuring.measures(persona) == []


def test_a_persona_that_goes_while_it_is_measured_leaves_nothing(measuring: Measuring) -> None:
    persona = measuring.persona()
    worker = measuring.database.connect("worker")
    with tenant_transaction(worker, measuring.factory.tenant_id):
        measuring.factory.owner.execute("DELETE FROM assistants.personas WHERE id = %s", (persona,))
        assert persona_health.lock(worker, persona) is None


# ------------------------------------------------------------------------------------------------ what is counted


def test_calls_and_costs_count_in_one_measure_each(measuring: Measuring) -> None:
    persona, other = measuring.persona(), measuring.persona()
    agent, run = measuring.agent(persona), measuring.factory.row("assistants.runs", persona_id=persona)["id"]
    for _ in range(3):
        measuring.call(run)
    measuring.factory.row("assistants.run_steps", run_id=run, step_type="error")
    measuring.cost(agent, 0.25)
    measuring.cost(agent, None)
    measuring.cost(measuring.agent(other), 7)
    assert measuring.last(persona)[4:] == (3, 0.25, 0)
    assert measuring.last(persona)[4:] == (0, None, 0)
    measuring.call(run)
    measuring.cost(agent, 0)
    assert measuring.last(persona)[4:] == (1, 0.0, 0)


def test_a_run_that_ended_since_has_its_calls_counted(measuring: Measuring) -> None:
    persona = measuring.persona()
    given = {"status": "completed", "completed_at": datetime.now(UTC)}
    measuring.call(measuring.factory.row("assistants.runs", persona_id=persona, **given)["id"])
    assert measuring.last(persona)[4:] == (1, None, 0)


def test_a_call_that_is_committed_after_a_measure_counts_in_the_next(shared: Database, measuring: Measuring) -> None:
    persona = measuring.persona()
    run = measuring.factory.row("assistants.runs", persona_id=persona)["id"]
    with connect(shared.owner_url, name="test late") as late, late.transaction():
        late.execute(CALL, (measuring.factory.tenant_id, run))
        assert measuring.last(persona)[4] == 0
    assert measuring.last(persona)[4] == 1
    assert measuring.last(persona)[4] == 0


def test_what_is_counted_is_counted_once_as_hours_pass(shared: Database, measuring: Measuring) -> None:
    """What is counted anew each time reaches back an hour or two; what has left that time was counted."""
    persona = measuring.persona()
    run = measuring.factory.row("assistants.runs", persona_id=persona)["id"]
    measuring.measure(persona)
    state = "UPDATE ops.persona_health_states SET counted_since = now() - %s WHERE persona_id = %s"
    shared.rows(state, (timedelta(hours=5), persona))
    for hours in (4.5, 1.5, 0.01):
        measuring.call(run, datetime.now(UTC) - timedelta(hours=hours))
    assert measuring.last(persona)[4] == 3
    assert measuring.last(persona)[4] == 0


def test_a_clock_that_was_a_day_ahead_leaves_no_day_without_calls(shared: Database, measuring: Measuring) -> None:
    persona = measuring.persona()
    run = measuring.factory.row("assistants.runs", persona_id=persona)["id"]
    measuring.call(run)
    measuring.measure(persona)
    ahead = "UPDATE ops.persona_health_states SET counted_since = now() + %s, calls_counted = 0 WHERE persona_id = %s"
    shared.rows(ahead, (timedelta(hours=23), persona))
    assert measuring.last(persona)[4] == 0
    measuring.call(run)
    assert measuring.last(persona)[4] == 1
    assert measuring.last(persona)[4] == 0


def test_small_costs_are_carried_until_they_fill_four_decimals(measuring: Measuring) -> None:
    persona = measuring.persona()
    agent = measuring.agent(persona)
    costs = []
    for _ in range(4):
        measuring.cost(agent, 0.00003)
        costs.append(measuring.last(persona)[5])
    assert costs == [0.0, 0.0, 0.0, 0.0001]


def test_measures_of_one_persona_at_once_count_nothing_twice(shared: Database, measuring: Measuring) -> None:
    persona = measuring.persona()
    measuring.measure(persona)
    measuring.call(measuring.factory.row("assistants.runs", persona_id=persona)["id"])

    first, second = (measuring.database.connect("worker") for _ in range(2))

    def measure() -> None:
        with tenant_transaction(second, measuring.factory.tenant_id):
            persona_health.lock(second, persona)
            persona_health.record(second, persona, Usage(), None)

    thread = threading.Thread(target=measure)
    with tenant_transaction(first, measuring.factory.tenant_id):
        persona_health.lock(first, persona)
        thread.start()
        eventually(lambda: shared.value(WAITS, (second.info.backend_pid,)) == 1, 10)
        persona_health.record(first, persona, Usage(), None)
    thread.join()
    assert [calls for *_, calls, _cost, _runs in measuring.measures(persona)] == [0, 1, 0]


# ------------------------------------------------------------------------------------------------ what is told of


def threshold(measuring: Measuring, raise_at: float | None, below: float | None, **given: Any) -> UUID:
    values = {"metric": "memory_mb", "raise_at": raise_at, "clear_below": below, **given}
    made: UUID = measuring.factory.row("ops.health_thresholds", **values)["id"]
    return made


def with_memory(engine: FakeEngine, megabytes: int) -> None:
    memory = {"usage": megabytes * 10**6, "limit": 1024 * 10**6, "stats": {}}
    engine.answers["stats"] = answer(recorded("stats_v2") | {"memory_stats": memory})


def test_a_crossing_is_told_of_once_up_and_once_down(measuring: Measuring, engine: FakeEngine) -> None:
    engine.has_container()
    persona = measuring.persona(container_id="ada")
    threshold(measuring, 500, 400)
    for megabytes in (499, 500, 600, 450):
        with_memory(engine, megabytes)
        measuring.measure(persona)
    engine.answers["stats"] = answer({"message": "boom"}, 500)
    measuring.measure(persona)
    for megabytes in (399, 450, 700):
        with_memory(engine, megabytes)
        measuring.measure(persona)
    kinds = [(CROSSED, "memory_mb", 500), (CLEARED, "memory_mb", 399), (CROSSED, "memory_mb", 700)]
    assert measuring.told(persona) == kinds


def test_a_personas_threshold_goes_before_its_tenants_and_that_before_the_settings(
    measuring: Measuring, engine: FakeEngine
) -> None:
    engine.has_container()
    own, shared_by_all, never = (measuring.persona(container_id="ada") for _ in range(3))
    threshold(measuring, 600, 600)
    threshold(measuring, 500, 500, persona_id=own)
    threshold(measuring, None, None, persona_id=never)
    settings = measuring.settings.model_copy(update={"memory_percent": 40.0})
    by_settings = Measuring(measuring.database, measuring.factory, settings)
    for persona in (own, shared_by_all, never):
        by_settings.measure(persona)
    assert [metric for _, metric, _ in by_settings.told(own)] == ["memory_mb", "memory_percent"]
    assert [metric for _, metric, _ in by_settings.told(shared_by_all)] == ["memory_percent"]
    assert [metric for _, metric, _ in by_settings.told(never)] == ["memory_percent"]


def test_a_cost_is_over_once_nothing_more_is_spent(measuring: Measuring) -> None:
    persona = measuring.persona()
    agent = measuring.agent(persona)
    threshold(measuring, 1, 0.5, metric="estimated_cost")
    for cost in (None, 5, None, None, 7):
        measuring.cost(agent, cost)
        measuring.measure(persona)
    kinds = [(CROSSED, "estimated_cost", 5), (CLEARED, "estimated_cost", 0), (CROSSED, "estimated_cost", 7)]
    assert measuring.told(persona) == kinds


def test_a_threshold_that_is_taken_away_is_cleared(measuring: Measuring, engine: FakeEngine, shared: Database) -> None:
    engine.has_container()
    persona = measuring.persona(container_id="ada")
    row = threshold(measuring, 500, 500, persona_id=persona)
    measuring.measure(persona)
    shared.rows("DELETE FROM ops.health_thresholds WHERE id = %s", (row,))
    measuring.measure(persona)
    assert [kind for kind, *_ in measuring.told(persona)] == [CROSSED, CLEARED]


# ------------------------------------------------------------------------------------------------ whom, and where


def test_each_persona_that_lives_is_measured_on_the_queue_of_its_host(measuring: Measuring) -> None:
    persona, elsewhere = measuring.persona(), measuring.persona(host="alpha")
    measuring.persona(is_active=False)
    with new_tenant(measuring.database) as suspended:
        suspended.row("assistants.personas")
        suspend = "UPDATE identity.tenants SET status = 'suspended' WHERE id = %s"
        measuring.database.rows(suspend, (suspended.tenant_id,))
    for _ in range(2):  # what waits already is not enqueued again
        run = run_task(measuring.database, MEASURE_ALL, MeasurePersonas(), registry=REGISTRY)
        assert run.status == "done"
        assert run.result["personas"] >= 2
    ours = measuring.factory.tenant_id
    queued = {tuple(row) for row in measuring.database.rows(QUEUED) if row[2] == ours}
    assert queued == {("default", str(persona), ours), ("host-alpha", str(elsewhere), ours)}
    assert len([row for row in measuring.database.rows(QUEUED) if row[2] == ours]) == 2
    assert [row for row in measuring.database.rows(QUEUED) if row[2] == suspended.tenant_id] == []


def test_a_persona_that_moves_is_measured_on_its_new_host(measuring: Measuring) -> None:
    persona = measuring.persona(host="alpha")
    for host in ("beta", "beta", "gamma"):
        run_task(measuring.database, MEASURE_ALL, MeasurePersonas(), registry=REGISTRY)
        measuring.database.rows("UPDATE assistants.personas SET host = %s WHERE id = %s", (host, persona))
    run_task(measuring.database, MEASURE_ALL, MeasurePersonas(), registry=REGISTRY)
    assert [queue for queue, of, _ in measuring.database.rows(QUEUED) if of == str(persona)] == ["host-gamma"]


def test_many_personas_are_enqueued_page_by_page(measuring: Measuring, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.health.measure._PAGE", 2)
    made = {str(measuring.persona()) for _ in range(5)}
    run = run_task(measuring.database, MEASURE_ALL, MeasurePersonas(), registry=REGISTRY)
    assert run.outcome == "snooze"
    drained = drain(measuring.database, REGISTRY, resources=measuring.resources)
    assert drained.outcomes["personas.measure", "done"] == 1
    assert drained.outcomes["personas.measure", "snooze"] >= 2
    assert {persona for persona in made if measuring.measures(UUID(persona))} == made
