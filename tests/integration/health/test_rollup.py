"""`health.rollup`: hours from all their measures, once, again where measures came late, on where it was killed."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from pydantic import ValidationError

from db import persona_health
from pipelines.health import rollup
from pipelines.health.rollup import RollUpHealth
from pipelines.registry import Registry
from tests.integration.health.measuring import Measuring
from workers.testing import TaskRun, drain, run_task

HOUR = timedelta(hours=1)
NOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
METRICS = "ops.persona_health_metrics"
WHOLE = """
SELECT sample_count, cpu_percent_avg::float, cpu_percent_max::float, cpu_percent_p95::float, memory_mb_avg::float,
    memory_mb_max, memory_mb_p95::float, llm_calls_sum, estimated_cost_sum::float, active_runs_avg::float,
    active_runs_max, active_runs_p95::float
FROM ops.persona_health_hourly WHERE persona_id = %s AND hour = %s
"""
REGISTRY = Registry(rollup.TASKS)
[ROLL_UP] = rollup.TASKS


def measured(measuring: Measuring, persona_id: UUID, hours_ago: float, **figures: Any) -> None:
    """Write a measure of so many hours before this hour."""
    measuring.factory.row(METRICS, persona_id=persona_id, measured_at=NOW - hours_ago * HOUR, **figures)


def hours(measuring: Measuring, persona_id: UUID) -> dict[int, int]:
    """Return by hours before this one how many measures were rolled up."""
    rows = measuring.database.rows(
        "SELECT hour, sample_count FROM ops.persona_health_hourly WHERE persona_id = %s", (persona_id,)
    )
    return {round((NOW - hour) / HOUR): count for hour, count in rows}


def roll_up(measuring: Measuring, since: datetime | None = None) -> TaskRun:
    run = run_task(measuring.database, ROLL_UP, RollUpHealth(since=since))
    assert run.error is None
    return run


@pytest.fixture
def persona(measuring: Measuring) -> UUID:
    return measuring.persona()


def test_an_hour_is_what_its_measures_come_to(measuring: Measuring, persona: UUID) -> None:
    for n in range(21):
        measured(measuring, persona, 1 - n / 100, cpu_percent=n * 5, memory_mb=n, active_runs_count=n % 2)
    measured(measuring, persona, 0.5, llm_calls_count=4, estimated_cost=0.5)
    measured(measuring, persona, 0.4, llm_calls_count=3, estimated_cost=None)
    roll_up(measuring)
    [row] = measuring.database.rows(WHOLE, (persona, NOW - HOUR))
    assert row == (23, 50.0, 100.0, 95.0, 10.0, 20, 19.0, 7, 0.5, pytest.approx(10 / 23, abs=0.01), 1, 1.0)


def test_a_percentile_lies_between_measures_where_none_is_there(measuring: Measuring, persona: UUID) -> None:
    for cpu in (10, 20):
        measured(measuring, persona, 0.5, cpu_percent=cpu)
    roll_up(measuring)
    [(_, _, _, p95, *_)] = measuring.database.rows(WHOLE, (persona, NOW - HOUR))
    assert p95 == 19.5


def test_gaps_stay_gaps_and_what_was_not_measured_stays_null(measuring: Measuring, persona: UUID) -> None:
    for ago in (5, 2.5, 2.25):
        measured(measuring, persona, ago, memory_mb=7)
    roll_up(measuring)
    assert hours(measuring, persona) == {5: 1, 3: 2}
    [row] = measuring.database.rows(WHOLE, (persona, NOW - 3 * HOUR))
    assert row[:5] == (2, None, None, None, 7.0)
    assert row[7:9] == (0, None)


def test_an_hour_that_goes_on_is_not_rolled_up(measuring: Measuring, persona: UUID) -> None:
    measured(measuring, persona, 0)
    measured(measuring, persona, 0.001)
    roll_up(measuring)
    assert hours(measuring, persona) == {1: 1}


def test_twice_changes_nothing_and_a_late_measure_redoes_its_hour(measuring: Measuring, persona: UUID) -> None:
    for ago in (20, 1):
        measured(measuring, persona, ago)
    roll_up(measuring)
    before = measuring.database.rows("SELECT id, updated_at FROM ops.persona_health_hourly ORDER BY id")
    roll_up(measuring)
    assert measuring.database.rows("SELECT id, updated_at FROM ops.persona_health_hourly ORDER BY id") == before
    measured(measuring, persona, 19.5)
    measured(measuring, persona, 10)
    roll_up(measuring)
    assert hours(measuring, persona) == {20: 2, 10: 1, 1: 1}


def test_measures_of_long_ago_are_rolled_up_from_a_time_that_is_given(measuring: Measuring, persona: UUID) -> None:
    measured(measuring, persona, 1)
    roll_up(measuring)
    measured(measuring, persona, 80)
    roll_up(measuring)
    assert hours(measuring, persona) == {1: 1}
    roll_up(measuring, NOW - 90 * HOUR)
    assert hours(measuring, persona) == {80: 1, 1: 1}


def test_what_retention_has_taken_leaves_the_hour_as_it_was(measuring: Measuring, persona: UUID) -> None:
    for ago in (1, 0.9, 0.8):
        measured(measuring, persona, ago, cpu_percent=50)
    roll_up(measuring)
    gone = "DELETE FROM ops.persona_health_metrics WHERE persona_id = %s AND measured_at < %s"
    measuring.database.rows(gone, (persona, NOW - 0.85 * HOUR))
    roll_up(measuring)
    persona_health.roll_up(measuring.database.connect("system"), [(persona, NOW - HOUR)])
    assert hours(measuring, persona) == {1: 3}


@pytest.mark.parametrize(("personas", "most"), [(2, 500), (200, 3), (1, 1)])
def test_it_goes_on_page_by_page_wherever_it_stopped(
    measuring: Measuring, monkeypatch: pytest.MonkeyPatch, personas: int, most: int
) -> None:
    monkeypatch.setattr(rollup, "_PERSONAS", personas)
    monkeypatch.setattr(rollup, "_HOURS", most)
    made = [measuring.persona() for _ in range(3)]
    for persona in made:
        for ago in range(1, 6):
            measured(measuring, persona, ago)
    first = roll_up(measuring)
    assert first.outcome == "snooze"
    # an attempt that was killed leaves what it had read: the hours themselves say what is left
    drain(measuring.database, REGISTRY)
    assert [hours(measuring, persona) for persona in made] == [dict.fromkeys(range(1, 6), 1)] * 3


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValidationError, match="timezone"):
        RollUpHealth.model_validate({"since": "2026-01-01T00:00:00"})
