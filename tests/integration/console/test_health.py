"""`greenroom health` over personas with a past: bars, gaps, last values, what is over its threshold."""

import json
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

from db import persona_health
from tests.support.command import Inline
from tests.support.database import Database
from tests.support.factory import Factory

METRICS = "ops.persona_health_metrics"
MONTHS = "SELECT ops.create_months_of('ops.persona_health_metrics', %s, %s)"
DEFAULT_TENANT = UUID("00000000-0000-7000-8000-000000000001")


@pytest.fixture
def greenroom(database: Database, tmp_path: Path) -> Inline:
    """The command, as the operator of the test's database."""
    return Inline(tmp_path / "home", {"GREENROOM_DATABASE_URL": database.url("operator")})


@pytest.fixture
def ada(database: Database) -> UUID:
    """A persona that was measured for four hours but for one, the last one not rolled up, and is over a threshold."""
    factory = Factory(database.connect(), DEFAULT_TENANT)
    persona: UUID = factory.row("assistants.personas", name="Ada", host="alpha")["id"]
    this = database.value("SELECT date_trunc('hour', now(), 'UTC')")
    database.connect("system").execute(MONTHS, (this - timedelta(hours=3), this))
    for ago, cpu, calls in ((3, 0, 10), (2, 50, 20), (0, 100, 1000)):
        figures = {"cpu_percent": cpu, "memory_mb": 512, "memory_percent": 50, "disk_usage_gb": 1.5}
        counted = {"llm_calls_count": calls, "estimated_cost": 0.5, "active_runs_count": 2}
        at = this - timedelta(hours=ago)
        factory.row(METRICS, persona_id=persona, measured_at=at, **figures, **counted)
    system = database.connect("system")
    persona_health.roll_up(system, persona_health.hours_due(system, [persona], None, 100))
    factory.row(
        "ops.persona_health_states", persona_id=persona, counted_since=this, measured_at=this, crossed=["cpu_percent"]
    )
    return persona


def test_personas_are_shown_with_bars_gaps_and_what_is_over(greenroom: Inline, database: Database, ada: UUID) -> None:
    Factory(database.connect(), DEFAULT_TENANT).row("assistants.personas", name="Aaron", is_active=False)
    shown = greenroom.run("health", "--hours", "4").stdout
    first, second = [line for line in shown.splitlines() if "Ada" in line or "Aaron" in line]
    assert "▲ Ada" in first
    assert "▲ 100 %" in first
    assert "▁▅·█" in first
    assert "512.0 MB, 50 %" in first
    assert "1.50 GB" in first
    assert "1,030" in first
    assert "$1.50" in first
    assert "Aaron (inactive)" in second
    assert "never" in second
    assert "····" in second
    assert "▲" not in second


def test_one_persona_is_shown_measure_by_measure(greenroom: Inline, ada: UUID) -> None:
    for name in ("Ada", str(ada)):
        shown = greenroom.run("health", name, "--hours", "4").stdout
        assert "alpha" in shown
        lines = {line.split()[0]: line for line in shown.splitlines() if line.strip()}
        assert lines["CPU"].split()[1:] == ["▲", "100", "%", "50", "%", "100", "%", "100", "%", "▁▅·█"]
        assert lines["calls"].split()[1:] == ["1,000", "1,030", "▁▁·█"]
        assert "$1.50" in lines["cost"]


def test_programs_read_json(greenroom: Inline, ada: UUID) -> None:
    shown = greenroom.run("health", "--hours", "4", "--json").stdout
    [persona] = json.loads(shown)["personas"]
    assert (persona["id"], persona["cpu_percent"], persona["crossed"]) == (str(ada), 100.0, ["cpu_percent"])
    assert [(hour["sample_count"], hour["cpu_percent_avg"]) for hour in persona["hours"]] == [(1, 0), (1, 50), (1, 100)]


def test_a_long_past_is_folded_and_what_lies_before_it_left_out(greenroom: Inline, ada: UUID) -> None:
    assert "█" in greenroom.run("health", "--hours", "2400").stdout
    shown = greenroom.run("health", "Ada", "--hours", "1").stdout
    assert "measures  1" in shown


def test_no_personas_and_an_unknown_one_are_said(greenroom: Inline) -> None:
    assert "no personas" in greenroom.run("health").stdout
    refused = greenroom.run("health", "Eve")
    assert refused.returncode == 1
    assert "no persona is called 'Eve'" in refused.stderr


def test_more_personas_than_are_shown_are_told_of(greenroom: Inline, database: Database, ada: UUID) -> None:
    Factory(database.connect(), DEFAULT_TENANT).row("assistants.personas")
    run = greenroom.run("health", "--limit", "1")
    assert "Ada" in run.stdout
    assert "--limit" in run.stderr
