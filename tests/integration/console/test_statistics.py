"""`greenroom statistics` over a database with a past, and what `doctor` says of alerts."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from console import runtime
from console.main import run
from db import alerts, statistics
from tests.support.database import Database
from tests.support.rows import ended, waiting

Call = Callable[..., str]


@pytest.fixture
def call(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Call]:
    """Runs a command that reads the test's database; returns what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GREENROOM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GREENROOM_DATABASE_URL", database.url("operator"))

    def call(*arguments: str) -> str:
        runtime.settings.cache_clear()
        run(arguments)
        return capsys.readouterr().out

    yield call
    runtime.settings.cache_clear()


@pytest.fixture
def counted(database: Database) -> None:
    """Two queues with a past of three minutes."""
    closed = database.value("SELECT date_trunc('minute', clock_timestamp(), 'UTC')")
    for ago in (1, 2, 3):
        ended(database, closed - timedelta(minutes=ago), count=ago, run=2.0, waited=1.0)
    ended(database, closed - timedelta(minutes=1), status="failed", queue="mail")
    waiting(database, queue="mail", seconds=400, count=2)
    relay = database.connect("relay")
    database.rows("UPDATE queue.chores SET reached_at = %s WHERE name = 'statistics'", (closed - timedelta(minutes=3),))
    while statistics.roll_up(relay):
        pass


@pytest.mark.usefixtures("counted")
def test_statistics_are_shown_with_bars_and_as_json(call: Call) -> None:
    shown = call("statistics")
    assert "test.noop" in shown
    assert "█" in shown
    assert "2 s" in shown
    found = json.loads(call("statistics", "--json"))
    assert sum(row["done"] for row in found["minutes"]) == 6
    assert [row["waiting"] for row in found["queues"] if row["queue"] == "mail"] == [2]
    mail = json.loads(call("statistics", "--queue", "mail", "--type", "test.noop", "--minutes", "5", "--json"))
    assert [(row["failed"], row["done"]) for row in mail["minutes"]] == [(1, 0)]


def test_without_a_past_it_says_so(call: Call) -> None:
    shown = call("statistics", "--minutes", "7")
    assert "nothing ended in the last 7 closed minutes" in shown
    assert "no relay has looked" in shown


@pytest.mark.usefixtures("counted")
def test_doctor_shows_what_is_raised(call: Call, database: Database) -> None:
    thresholds = alerts.Thresholds(failures=1, window=600, stalled=3600, late=60, process_timeout=30, calm=60)
    alerts.look(database.connect("relay"), thresholds, pause=0.0, keep_days=30)
    checks = json.loads(call("doctor", "--json"))["checks"]
    [found] = [check for check in checks if check["name"].startswith("alert ")]
    assert (found["name"], found["level"]) == ("alert final_failures", "warning")
    assert "failed 1" in found["detail"]
    assert "task_type test.noop" in found["detail"]
