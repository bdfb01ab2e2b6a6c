"""The bench's quick form: it runs, says what it measured and how, and fails on a fall against plain psycopg."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from console.bench import engine
from tests.support.command import Inline

PROJECT = Path(__file__).resolve().parents[2]
TASKS = 10_000


@pytest.mark.alone
@pytest.mark.timeout(180)
def test_the_quick_form_holds_its_share_of_plain_psycopg(tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GREENROOM_", "PG"))}
    done = subprocess.run(
        [sys.executable, "-m", "console", "bench", "--quick", "--check", "--tasks", str(TASKS)],
        cwd=tmp_path,
        env=kept | {"PYTHONPATH": str(PROJECT), "GREENROOM_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    found = json.loads(done.stdout)
    assert found["parameters"] == {"tasks": TASKS, "rounds": 3, "threads": 4, "broker": "in-process"}
    assert found["machine"].keys() == {"cores", "processor", "python"}
    assert found["caveats"]
    assert len(found["tasks_per_second"]["rounds"]) == 3
    for latency in (found["idle_latency_ms"], found["plain_psycopg_idle_latency_ms"]):
        assert 0 < latency["p50"] <= latency["p95"] <= latency["max"]
    assert found["embedding"]["ratio"] > 0
    assert [floor["figure"] for floor in found["floors"]] == ["ratio_to_plain_psycopg"]


def figures(tasks_per_second: int, p95: float, ratio: float = 1.0) -> dict[str, Any]:
    return {
        "tasks_per_second": {"median": tasks_per_second},
        "idle_latency_ms": {"p95": p95},
        "ratio_to_plain_psycopg": ratio,
    }


def test_floors_are_met_or_not() -> None:
    at_the_floor = engine.floors(figures(5000, 20.0, engine.RATIO_TO_PLAIN), {"dtype": "bf16", "ratio": 2.5})
    assert [floor["met"] for floor in at_the_floor] == [True, True, True, True]
    below = engine.floors(figures(4999, 20.01, engine.RATIO_TO_PLAIN - 0.001), {"dtype": "bf16", "ratio": 2.49})
    assert [floor["met"] for floor in below] == [False, False, False, False]
    in_fp32 = engine.floors(figures(5000, 20.0), {"dtype": "fp32", "ratio": 1.0})
    assert [floor["figure"] for floor in in_fp32][1:] == ["tasks_per_second", "idle_latency_ms.p95"]


def test_a_fall_of_two_fifths_fails_the_quick_check() -> None:
    usual, fallen = engine.USUAL_RATIO_TO_PLAIN, engine.USUAL_RATIO_TO_PLAIN * 0.59
    for ratio, met in ((usual, True), (fallen, False)):
        [floor] = engine.floors(figures(1, 99.0, ratio), {"dtype": "fp32", "ratio": 1.0}, quick=True)
        assert floor["met"] is met


def test_a_missed_floor_fails_the_check_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = {"floors": engine.floors(figures(10, 5.0), {"dtype": "fp32", "ratio": 1.0})}
    monkeypatch.setattr(engine, "run_bench", lambda *_, **__: slow)
    greenroom = Inline(tmp_path)
    assert json.loads(greenroom.ok("bench")) == slow
    done = greenroom.run("bench", "--check")
    assert (done.returncode, json.loads(done.stdout)) == (1, slow)
    assert "tasks_per_second" in done.stderr
