"""What a producer imports costs at most 150 ms and none of the heavy libraries."""

import json
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
LIMIT_SECONDS = 0.150
HEAVY = {
    "torch", "dramatiq", "sqlalchemy", "psycopg", "fastapi", "starlette", "flask", "redis", "alembic", "numpy",
    "transformers", "opentelemetry", "structlog", "typer",
}  # fmt: skip
PRODUCER = "import pipelines.enqueue, pipelines.documents.payloads"
PYDANTIC = "import pydantic, uuid, datetime\nclass M(pydantic.BaseModel):\n    n: int = pydantic.Field(1, ge=1)"
RELAY = "import workers.relay"
MEASURE = """
import json, sys, time
started = time.perf_counter()
{statement}
print(json.dumps([time.perf_counter() - started, sorted({{name.partition(".")[0] for name in sys.modules}})]))
"""


def imported(statement: str) -> tuple[float, set[str]]:
    """Run the import in a fresh interpreter; return its seconds and the packages that it loaded."""
    command = [sys.executable, "-c", MEASURE.format(statement=statement)]
    output = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    seconds, names = json.loads(output)
    return seconds, set(names)


def test_a_producers_imports_are_quick() -> None:
    """At most 150 ms; while neighbours keep the machine busy, at most half as much again as pydantic alone."""
    imported(PRODUCER)  # writes the byte code
    medians = []
    for _ in range(3):
        ours, alone = [], []
        for _ in range(5):
            ours.append(imported(PRODUCER)[0])
            alone.append(imported(PYDANTIC)[0])
        medians.append((statistics.median(ours), statistics.median(alone)))
        if medians[-1][0] <= LIMIT_SECONDS:
            return
    assert any(mine <= 1.5 * floor for mine, floor in medians), medians


@pytest.mark.parametrize("statement", [PRODUCER, "import pipelines.payload", "import core.errors"])
def test_a_producer_loads_nothing_heavy(statement: str) -> None:
    assert imported(statement)[1] & HEAVY == set()


def test_a_relay_loads_no_orm() -> None:
    assert imported(RELAY)[1] & {"sqlalchemy", "torch", "numpy", "alembic", "transformers"} == set()
