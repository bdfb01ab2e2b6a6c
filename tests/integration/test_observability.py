"""What a running engine tells: traces that reach from the producer to the run, and no payload in any of it (I7)."""

import json
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.sdk.trace import TracerProvider

from core import traces
from core.errors import PermanentError, SettingsError
from core.observe import configure
from core.settings import ObserveSettings
from core.spans import traces_url
from pipelines.enqueue import enqueue, enqueue_many
from pipelines.outcomes import Cancel, Done, Fail, Outcome, Retry
from pipelines.payload import Payload
from pipelines.registry import Registry
from pipelines.task import BatchItem, Task, TaskContext
from pipelines.waiting import wait_for_all
from tests.support import tasks
from tests.support.database import Database
from tests.support.engine import Line, engine
from workers.broker import InProcessBroker

PROJECT = Path(__file__).resolve().parents[2]
SECRET = "hunter2-Zebra-Quince"  # a text that nothing else holds
SHORT = "zq7x"  # too short for the scrubbing of errors


class Collector:
    """An OTLP/HTTP collector: keeps what is posted to /v1/traces."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path == "/v1/traces":
                    collector.bodies.append(body)
                self.send_response(200 if self.path == "/v1/traces" else 404)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def requests(self) -> list[ExportTraceServiceRequest]:
        return [ExportTraceServiceRequest.FromString(body) for body in self.bodies]

    def spans(self) -> list[Span]:
        found = [s for r in self.requests() for rs in r.resource_spans for ss in rs.scope_spans for s in ss.spans]
        return sorted(found, key=lambda span: span.start_time_unix_nano)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def traced(collector: Collector) -> Iterator[Callable[[], list[Span]]]:
    """Tracing is on; call it to end it and have all spans, by their start."""
    with ExitStack() as ends:
        ends.callback(traces.start(collector.url, "worker"))

        def flush() -> list[Span]:
            ends.close()
            return collector.spans()

        yield flush


@contextmanager
def producer_span(name: str = "checkout") -> Iterator[trace.SpanContext]:
    """A span of the producer's own, with an SDK of its own."""
    with TracerProvider().get_tracer("shop").start_as_current_span(name) as span:
        yield span.get_span_context()


def attributes(span: Span) -> dict[str, Any]:
    return {a.key: getattr(a.value, str(a.value.WhichOneof("value"))) for a in span.attributes}


# ---------------------------------------------------------------------------------------------------- traces


def test_a_run_s_parent_is_the_producer_s_span(
    database: Database, line: Line, collector: Collector, traced: Callable[[], list[Span]]
) -> None:
    with producer_span() as producer:
        task_id = enqueue(database.connect("producer"), tasks.Report(text="x"))
    before = time.time_ns()
    line.run_once()
    [span] = traced()
    assert span.name == "run test.report"
    assert span.parent_span_id == producer.span_id.to_bytes(8, "big")
    assert span.trace_id == producer.trace_id.to_bytes(16, "big")
    assert span.kind == Span.SPAN_KIND_CONSUMER
    assert attributes(span) == {
        "greenroom.task.id": str(task_id),
        "greenroom.task.type": "test.report",
        "greenroom.task.attempt": 1,
        "greenroom.task.outcome": "done",
    }
    assert span.status.code == Status.STATUS_CODE_UNSET
    assert before <= span.start_time_unix_nano <= span.end_time_unix_nano <= time.time_ns()
    [resource] = [r.resource for request in collector.requests() for r in request.resource_spans]
    assert {a.key: a.value.string_value for a in resource.attributes}["service.name"] == "greenroom-worker"


def test_the_trace_goes_on_to_what_a_run_enqueues(
    effects: Database, line: Line, traced: Callable[[], list[Span]]
) -> None:
    with producer_span() as producer:
        enqueue(effects.connect("producer"), tasks.Spawn(count=2))
    line.run_once()
    line.run_once()
    parent, *children = traced()
    assert [span.name for span in children] == ["run test.noop"] * 2
    assert {child.parent_span_id for child in children} == {parent.span_id}
    assert {span.trace_id for span in (parent, *children)} == {producer.trace_id.to_bytes(16, "big")}


def test_without_a_producer_s_span_a_run_starts_a_trace(
    database: Database, line: Line, traced: Callable[[], list[Span]]
) -> None:
    enqueue_many(database.connect("producer"), [tasks.Noop(n=1), tasks.Noop(n=2)])
    line.run_once()
    spans = traced()
    assert [span.parent_span_id for span in spans] == [b"", b""]
    assert len({span.trace_id for span in spans}) == 2


def test_a_foreign_trace_context_that_is_none_does_no_harm(
    database: Database, line: Line, traced: Callable[[], list[Span]]
) -> None:
    database.rows(
        "INSERT INTO queue.outbox_tasks (task_type, payload, trace_context) VALUES ('test.noop', '{}', 'not one')"
    )
    line.run_once()
    [span] = traced()
    assert span.parent_span_id == b""


def test_a_failed_attempt_s_span_is_an_error_without_its_text(
    database: Database, line: Line, traced: Callable[[], list[Span]]
) -> None:
    enqueue(database.connect("producer"), tasks.Raise(kind="plain", text=SECRET), max_attempts=2)
    line.run_once()
    line.run_once()
    first, second = traced()
    assert [attributes(span)["greenroom.task.attempt"] for span in (first, second)] == [1, 2]
    assert first.status.code == second.status.code == Status.STATUS_CODE_ERROR
    assert attributes(first)["error.type"] == "RuntimeError"
    assert attributes(first)["greenroom.raised_at"].startswith("tests.support.tasks:")
    assert first.status.message == ""
    assert not first.events


def test_each_task_of_a_batch_has_a_span(effects: Database, line: Line, traced: Callable[[], list[Span]]) -> None:
    parents = []
    for n in range(3):
        with producer_span() as producer:
            enqueue(effects.connect("producer"), tasks.WriteMany(n=n, bad=n == 1))
            parents.append(producer.span_id.to_bytes(8, "big"))
    line.run_once()
    spans = traced()
    assert {span.parent_span_id for span in spans} == set(parents)
    outcomes = {span.parent_span_id: attributes(span)["greenroom.task.outcome"] for span in spans}
    assert [outcomes[parent] for parent in parents] == ["done", "retry", "done"]


def test_a_lost_attempt_s_span_says_so(database: Database, traced: Callable[[], list[Span]]) -> None:
    own = Line(database, Registry([Task(payload=Steal, run=_steal)]))
    task_id = enqueue(database.connect("producer"), Steal(url=database.owner_url))
    own.run_once()
    own.close()
    [span] = [span for span in traced() if attributes(span)["greenroom.task.id"] == str(task_id)]
    assert attributes(span)["greenroom.task.outcome"] == "lost"
    assert span.status.code == Status.STATUS_CODE_ERROR


def test_a_handler_sees_its_span_and_may_add_to_it(database: Database, traced: Callable[[], list[Span]]) -> None:
    own = Line(database, Registry([Task(payload=Look, run=_look)]))
    task_id = enqueue(database.connect("producer"), Look())
    own.run_once()
    row = own.task(task_id)
    own.close()
    [span] = traced()
    assert row["result"] == {"span_id": span.span_id.hex()}
    assert attributes(span)["handler.said"] == "hello"


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


# ---------------------------------------------------------------------------------------------------- I7


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


class Look(Payload):
    """Returns the id of the span that its handler sees."""

    task_type = "test.look_at_span"


class Steal(Payload):
    """Loses its lease while it runs."""

    task_type = "test.steal"
    url: str


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


def _look(context: TaskContext, payload: Look) -> Outcome:
    span = trace.get_current_span()
    span.set_attribute("handler.said", "hello")
    return Done({"span_id": f"{span.get_span_context().span_id:016x}"})


def _steal(context: TaskContext, payload: Steal) -> Outcome:
    with psycopg.connect(payload.url, autocommit=True) as other:
        other.execute(
            "UPDATE queue.tasks_live SET claim_number = claim_number + 1 WHERE id = %s", (str(context.task_id),)
        )
    return Done()


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
