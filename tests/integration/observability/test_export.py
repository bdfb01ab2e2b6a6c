"""Where spans go: a collector's address or nowhere, at no cost to the work."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from core.errors import SettingsError
from core.groups import ObserveSettings
from core.observe import configure
from core.spans import traces_url
from pipelines.enqueue import enqueue
from tests.support import tasks
from tests.support.database import Database
from tests.support.engine import Line

PROJECT = Path(__file__).resolve().parents[3]


def test_a_collector_that_is_gone_costs_spans_and_no_work(database: Database, line: Line, capsys: Any) -> None:
    end = configure(
        ObserveSettings(otlp_endpoint="http://127.0.0.1:9", log_format="json"), service="worker"
    )  # the discard port: nothing listens
    task_id = enqueue(database.connect("producer"), tasks.Noop())
    line.run_once()
    started = time.monotonic()
    end()
    assert time.monotonic() - started < 10
    assert line.task(task_id)["status"] == "done"
    capsys.readouterr()


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://collector:4318", "http://collector:4318/v1/traces"),
        ("https://collector/otlp/", "https://collector/otlp/v1/traces"),
        ("http://collector:4318/v1/traces", "http://collector:4318/v1/traces"),
    ],
)
def test_the_endpoint_is_a_collector_s_address(endpoint: str, url: str) -> None:
    assert traces_url(endpoint) == url


@pytest.mark.parametrize("endpoint", ["collector:4318", "grpc://collector:4317", "http://", ""])
def test_an_endpoint_that_is_no_address_is_refused(endpoint: str) -> None:
    with pytest.raises(SettingsError, match="GREENROOM_OBSERVE_OTLP_ENDPOINT"):
        configure(ObserveSettings(otlp_endpoint=endpoint), service="worker")


def test_without_an_endpoint_opentelemetry_is_not_imported() -> None:
    program = (
        "import sys, core.observe, core.settings, core.traces, pipelines.enqueue, db.queue\n"
        "end = core.observe.configure(core.settings.ObserveSettings(), service='relay')\n"
        "with core.traces.attempt_span('test.noop', None, 1, None, 0.0): pass\n"
        "end()\n"
        "print([m for m in sys.modules if m.partition('.')[0] in ('opentelemetry', 'prometheus_client')])"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"
