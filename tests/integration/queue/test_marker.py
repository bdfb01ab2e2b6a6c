"""Markers: what a handler commits before an effect outside of Postgres, and only as long as its attempt is its own."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar
from uuid import uuid4

import psycopg
import pytest

from core import events
from core.backoff import Backoff
from core.errors import PermanentError
from db import queue
from pipelines.enqueue import enqueue, enqueue_many
from pipelines.outcomes import Done, Outcome, Retry
from pipelines.payload import Payload
from pipelines.registry import Registry
from pipelines.task import BatchItem, RetryPolicy, Task, TaskContext
from tests.support.database import Database
from workers.testing import drain
from workers.testing.line import Line

STEAL = "UPDATE queue.tasks_live SET claim_number = claim_number + 1"
LAPSE = "UPDATE queue.tasks_live SET lease_until = now() - interval '1 s'"
_NOTES = "SELECT note FROM public.effects ORDER BY n, note"
_AT_ONCE = RetryPolicy(Backoff(base=0.0, jitter=0.0))


class Mark(Payload):
    """Marks, and does `then`."""

    task_type: ClassVar[str] = "test.mark"
    then: str = ""
    n: int = 0


class MarkAll(Payload):
    """As Mark, for the system."""

    task_type: ClassVar[str] = "test.mark_all"
    n: int = 0


class MarkMany(Payload):
    """As Mark, many together."""

    task_type: ClassVar[str] = "test.mark_many"
    n: int


def write(context: TaskContext, n: int, note: str) -> None:
    with context.mark() as transaction:
        transaction.execute("INSERT INTO public.effects (n, note) VALUES (%s, %s)", (n, note))


def raise_within(context: TaskContext) -> None:
    with context.mark() as transaction:
        transaction.execute("INSERT INTO public.effects (n) VALUES (1)")
        raise PermanentError("no")


def read_around(context: TaskContext) -> None:
    with context.read():
        write(context, 1, "never")


def commit(context: TaskContext) -> None:
    with context.mark() as transaction:
        transaction.execute("INSERT INTO public.effects (n) VALUES (1)")
        transaction.connection.commit()


FAILING = {"raise within": raise_within, "read around": read_around, "commit": commit}


def look(context: TaskContext) -> Outcome:
    with context.mark() as transaction:
        rows = transaction.execute("SELECT DISTINCT tenant_id FROM knowledge.collections").fetchall()
    return Done([str(row[0]) for row in rows])


def mark_all(context: TaskContext, payload: MarkAll) -> Outcome:
    write(context, payload.n, "system")
    return Done()


def mark_many(items: Sequence[BatchItem[MarkMany]]) -> Sequence[Outcome | Exception]:
    for item in items:
        write(item.context, item.payload.n, str(item.context.task_id))
    return [Done() if item.payload.n else RuntimeError("no") for item in items]


def handler_of(database: Database) -> Registry:
    """Return task types whose handlers do in their database what their payloads say."""

    def mark(context: TaskContext, payload: Mark) -> Outcome:
        match payload.then:
            case "raise":
                write(context, context.attempt, f"attempt {context.attempt}")
                return Retry("again") if context.attempt == 1 else Done()
            case "look":
                return look(context)
            case "":
                write(context, payload.n, "marked")
            case named if named in FAILING:
                FAILING[named](context)
            case statement:
                database.rows(statement)
                write(context, 1, "never")
        return Done({"is_last": context.is_last_attempt})

    return Registry(
        [
            Task(payload=Mark, run=mark, retry=_AT_ONCE, max_attempts=2),
            Task(payload=MarkAll, run=mark_all, scope="system"),
            Task(payload=MarkMany, run_batch=mark_many, batch_size=10, max_attempts=1),
        ]
    )


@pytest.fixture
def marked(effects: Database) -> Iterator[Line]:
    line = Line(effects, handler_of(effects))
    yield line
    line.close()


def notes(database: Database) -> list[str]:
    return [row[0] for row in database.rows(_NOTES)]


def test_a_marker_stays_when_its_attempt_is_repeated(effects: Database) -> None:
    registry = handler_of(effects)
    enqueue_first(effects, registry, Mark(then="raise"))
    assert drain(effects, registry).outcomes == {("test.mark", "retry"): 1, ("test.mark", "done"): 1}
    assert notes(effects) == ["attempt 1", "attempt 2"]


def enqueue_first(database: Database, registry: Registry, payload: Payload) -> None:
    """Enqueue a task whose type is published."""
    line = Line(database, registry)
    enqueue(database.connect(), payload)
    line.close()


@pytest.mark.parametrize("then", ["raise within", "read around", "commit"])
def test_a_marker_that_fails_leaves_nothing(marked: Line, then: str) -> None:
    task_id = enqueue(marked.database.connect(), Mark(then=then))
    marked.run_once()
    assert notes(marked.database) == []
    assert marked.task(task_id)["status"] in {"failed", "pending"}


@pytest.mark.parametrize("how", [STEAL, LAPSE, LAPSE + ", worker_id = ops.uuid_v7()"])
def test_an_attempt_that_was_lost_marks_nothing(marked: Line, how: str, recorded: list[events.Event]) -> None:
    enqueue(marked.database.connect(), Mark(then=how))
    marked.run_once()
    assert notes(marked.database) == []
    assert [event for event in recorded if isinstance(event, events.AttemptRaised)] != []


@contextmanager
def held(line: Line, how: str) -> Iterator[psycopg.Connection]:
    """Hold the row of the one task that runs as a marker does."""
    with psycopg.connect(line.database.owner_url) as other:
        other.execute(how.encode())
        yield other


def test_who_rescues_waits_for_no_marker_and_finds_it_when_it_stands(marked: Line) -> None:
    enqueue(marked.database.connect(), Mark())
    [attempt] = marked.take(marked.claim())
    marked.database.rows(LAPSE)
    with held(marked, "SELECT FROM queue.tasks_live FOR UPDATE"):
        assert queue.rescue(marked.relay, 10) == (0, 0, 0)
    assert queue.rescue(marked.relay, 10) == (1, 0, 0)
    assert attempt.number == 1


def test_a_marker_is_bound_to_the_tenant(marked: Line) -> None:
    tenant = marked.database.value("SELECT identity.default_tenant_id()")
    other = marked.database.value("INSERT INTO identity.tenants (name, slug) VALUES ('T', 't') RETURNING id")
    for owner in (tenant, other):
        marked.database.rows(
            "INSERT INTO knowledge.collections (tenant_id, name, slug) VALUES (%s, 'C', %s)", (owner, str(uuid4()))
        )
    task_id = enqueue(marked.database.connect(), Mark(then="look"))
    marked.run_once()
    assert marked.task(task_id)["result"] == [str(tenant)]


def test_system_tasks_and_batches_mark_each_for_itself(marked: Line) -> None:
    connection = marked.database.connect()
    enqueue(connection, MarkAll())
    ids = enqueue_many(connection, [MarkMany(n=n) for n in range(3)])
    marked.run_once()
    assert sorted(notes(marked.database)) == sorted(["system", *map(str, ids)])
    assert [marked.task(each)["status"] for each in ids] == ["failed", "done", "done"]


def test_a_handler_knows_its_last_attempt(marked: Line) -> None:
    first = enqueue(marked.database.connect(), Mark(), max_attempts=1)
    second = enqueue(marked.database.connect(), Mark(), max_attempts=2)
    marked.run_once()
    assert [marked.task(each)["result"]["is_last"] for each in (first, second)] == [True, False]
