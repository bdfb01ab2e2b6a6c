"""No payload stands in logs, metrics or traces (I7), whatever way a handler tells it."""

import json
import urllib.request
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest

from core.errors import PermanentError
from core.groups import ObserveSettings
from core.observe import configure
from pipelines.enqueue import enqueue
from pipelines.outcomes import Cancel, Done, Fail, Outcome, Retry
from pipelines.payload import Payload
from pipelines.registry import Registry
from pipelines.task import BatchItem, Task, TaskContext
from pipelines.waiting import wait_for_all
from tests.support.collector import Collector, producer_span
from tests.support.database import Database
from tests.support.engine import engine
from workers.broker import InProcessBroker

SECRET = "hunter2-Zebra-Quince"  # a text that nothing else holds
SHORT = "zq7x"  # too short for the scrubbing of errors


class Confide(Payload):
    """Holds a secret, and its handler tells it in every way there is."""

    task_type = "test.confide"
    secret_fields = ("secret",)
    secret: str
    short: str
    how: str


class ConfideTogether(Confide):
    """The same, as a batch."""

    task_type = "test.confide_together"


def _tell(payload: Confide) -> None:
    both = f"{payload.secret} and {payload.short}"
    match payload.how:
        case "plain":
            raise ValueError(both)
        case "representation":
            raise ValueError(repr({"payload": [both.upper(), both]}))
        case "bytes":
            raise ValueError(both.encode())
        case "cause":
            try:
                raise KeyError(both)
            except KeyError as error:
                raise PermanentError("see the cause") from error
        case _:
            pass


def _confide(context: TaskContext, payload: Confide) -> Outcome:
    _tell(payload)
    context.progress(0.5, payload.secret)
    both = f"{payload.secret} and {payload.short}"
    outcomes: dict[str, Outcome] = {"fail": Fail(both), "cancel": Cancel(both), "retry": Retry(both)}
    if payload.how in outcomes:
        return outcomes[payload.how]

    def apply(transaction: Any) -> None:
        if payload.how == "sql":
            transaction.execute("SELECT CAST(%s AS integer)", (both,))
        if payload.how == "constraint":
            transaction.execute("INSERT INTO public.effects (n, note) VALUES (-1, %s)", (both,))

    return Done({"secret": both}, apply=apply)


def _confide_together(jobs: Sequence[BatchItem[ConfideTogether]]) -> Sequence[Outcome]:
    for job in jobs:
        _tell(job.payload)
    return [Done(job.payload.secret) for job in jobs]


WAYS = ("plain", "representation", "bytes", "cause", "fail", "cancel", "retry", "sql", "constraint", "done")
CONFIDING = Registry(
    [
        Task(payload=Confide, run=_confide, max_attempts=1),
        Task(payload=ConfideTogether, run_batch=_confide_together, max_attempts=1, batch_size=10),
    ]
)


def enqueue_confidences(database: Database) -> list[UUID]:
    connection = database.connect("producer")
    with producer_span():
        return [
            enqueue(connection, kind(secret=SECRET, short=SHORT, how=how))
            for kind in (Confide, ConfideTogether)
            for how in WAYS
        ]


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_no_payload_stands_in_logs_metrics_or_spans(
    effects: Database, collector: Collector, free_port: int, log_format: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    effects.rows("ALTER TABLE public.effects ADD CHECK (n >= 0)")
    settings = ObserveSettings(
        log_format=log_format, log_level="debug", metrics_port=free_port, otlp_endpoint=collector.url
    )
    end = configure(settings, service="worker")
    with engine(effects, CONFIDING, InProcessBroker()):
        ids = enqueue_confidences(effects)
        # A row that fits its table and not its type: its attempt fails at the decoding.
        effects.rows(
            "INSERT INTO queue.outbox_tasks (task_type, payload, trace_context) VALUES (%s, %s, %s)",
            ("test.confide", json.dumps({"secret": SECRET, "short": 7, "how": SECRET}), SECRET),
        )
        ends = wait_for_all(effects.connect(), ids, timeout=30)
    with urllib.request.urlopen(f"http://127.0.0.1:{free_port}/metrics", timeout=5) as answer:
        metrics = answer.read().decode()
    end()
    written = capfd.readouterr()
    told = {"logs": written.err, "output": written.out, "metrics": metrics, "spans": repr(collector.bodies)}
    assert "attempt.ended" in told["logs"]
    assert "test.confide" in told["metrics"]
    assert len(collector.spans()) >= len(ids)
    assert {task.status for task in ends} == {"done", "failed", "cancelled"}
    found = [
        (where, text)
        for where, all_of_it in told.items()
        for text in (SECRET, SHORT)
        if text.lower() in all_of_it.lower()
    ]
    assert found == []
