"""The bench's quick form: it runs, and says what it measured and how. Floors are judged on quiet machines alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
TASKS = 200


@pytest.mark.timeout(300)  # on a shared machine the model's part alone takes a minute
def test_the_quick_form_measures_everything(tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GREENROOM_", "PG"))}
    done = subprocess.run(
        [sys.executable, "-m", "console", "bench", "--quick", "--tasks", str(TASKS)],
        cwd=tmp_path,
        env=kept | {"PYTHONPATH": str(PROJECT), "GREENROOM_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["parameters"] == {"tasks": TASKS, "rounds": 1, "threads": 4, "broker": "in-process"}
    assert found["machine"].keys() == {"cores", "processor", "python"}
    assert found["caveats"]
    assert len(found["tasks_per_second"]["rounds"]) == 1
    for latency in (found["idle_latency_ms"], found["plain_psycopg_idle_latency_ms"]):
        assert 0 < latency["p50"] <= latency["p95"] <= latency["max"]
    assert found["ratio_to_plain_psycopg"] > 0
    assert found["embedding"]["ratio"] > 0
    assert {floor["figure"] for floor in found["floors"]} >= {"tasks_per_second", "idle_latency_ms.p95"}
    assert all(isinstance(floor["met"], bool) for floor in found["floors"])
