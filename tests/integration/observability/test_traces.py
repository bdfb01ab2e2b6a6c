"""Traces reach from the producer to the run, and on to what the run enqueues."""

import time
from collections.abc import Callable

import psycopg
from opentelemetry import trace
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from pipelines.enqueue import enqueue, enqueue_many
from pipelines.outcomes import Done, Outcome
from pipelines.payload import Payload
from pipelines.registry import Registry
from pipelines.task import Task, TaskContext
from tests.support import tasks
from tests.support.collector import Collector, attributes, producer_span
from tests.support.database import Database
from tests.support.engine import Line


class Look(Payload):
    """Returns the id of the span that its handler sees."""

    task_type = "test.look_at_span"


class Steal(Payload):
    """Loses its lease while it runs."""

    task_type = "test.steal"
    url: str


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
    enqueue(database.connect("producer"), tasks.Raise(kind="plain", text="the reason"), max_attempts=2)
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
