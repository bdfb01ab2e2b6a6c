"""A provider that refuses (429, 503) pauses its key: one task finds out, the others wait, and none loses an attempt."""

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any

import pytest

from core import events
from core.errors import RateLimitedError
from db import limits, queue
from db.connection import Connection
from pipelines.enqueue import enqueue, enqueue_many
from pipelines.outcomes import Done, Outcome
from pipelines.payload import Payload
from pipelines.registry import Registry
from pipelines.task import BatchItem, Task, TaskContext
from tests.support.database import Database
from tests.support.engine import Line
from tests.support.waiting import eventually

calls: list[int] = []
provider: list[Callable[[], None]] = []


class Ask(Payload):
    """Asks the provider."""

    task_type = "test.ask"
    n: int = 0


class AskMany(Payload):
    """Asks the provider for many at once."""

    task_type = "test.ask_many"
    n: int = 0


def _ask(context: TaskContext, payload: Ask) -> Outcome:
    calls.append(payload.n)
    provider[0]()
    return Done()


def _ask_many(items: Sequence[BatchItem[AskMany]]) -> Sequence[Outcome]:
    calls.append(len(items))
    provider[0]()
    return [Done() for _ in items]


TASKS: Sequence[Task[Any]] = (
    Task(payload=Ask, run=_ask, batch_size=20, limit_key="openai", max_snoozes=2),
    Task(payload=AskMany, run_batch=_ask_many, batch_size=20, limit_key="openai"),
)


def refuse(seconds: float | None = 60.0, key: str = "openai") -> Callable[[], None]:
    def raise_it() -> None:
        raise RateLimitedError(key, "429", retry_after=None if seconds is None else timedelta(seconds=seconds))

    return raise_it


@pytest.fixture
def line(database: Database) -> Iterator[Line]:
    """A line whose tasks ask a provider that refuses for a minute."""
    calls.clear()
    provider[:] = [refuse()]
    line = Line(database, Registry(TASKS))
    yield line
    line.close()


@pytest.fixture
def producer(database: Database, line: Line) -> Connection:
    return database.connect("producer")


def warm_up(line: Line, producer: Connection, payloads: Sequence[Payload]) -> None:
    """Let tasks pass, so that the worker has measured how many of them it may take at once."""
    provider[0] = lambda: None
    enqueue_many(producer, payloads)
    line.run_once()
    calls.clear()
    provider[0] = refuse()


def paused_for(database: Database, key: str = "openai") -> float:
    query = "SELECT extract(epoch FROM paused_until - now())::float8 FROM queue.limits WHERE kind = 'key' AND name = %s"
    found: float = database.value(query, (key,))
    return found


def let_pass(database: Database) -> None:
    """Let all pauses and snoozes be over."""
    database.rows("UPDATE queue.limits SET paused_until = now() - interval '1 s'")
    database.rows("UPDATE queue.tasks_live SET run_after = now() - interval '1 s' WHERE NOT is_due")


def test_the_first_that_is_refused_pauses_all_of_its_key(
    database: Database, line: Line, producer: Connection, recorded: list[events.Event]
) -> None:
    warm_up(line, producer, [Ask(n=n) for n in range(200)])
    tasks = enqueue_many(producer, [Ask(n=n) for n in range(50)])
    other = enqueue(producer, Ask(n=99), limit_key="another")
    line.run([claim for claim in line.claim() if claim.limit_key == "openai"])
    assert len(calls) == 1, "neither its neighbours in the message nor the next messages are tried"
    assert 55 < paused_for(database) <= 60
    rows = [line.task(task) for task in tasks]
    assert {(row["status"], row["attempts"], row["claimed_until"]) for row in rows} == {("pending", 0, None)}
    [refused] = [row for row in rows if row["snoozes"]]
    assert "RateLimitedError: 429" in refused["last_error"]
    assert [event.key for event in recorded if isinstance(event, events.KeyPaused)] == ["openai"]
    assert line.claim() == []
    provider[0] = lambda: None
    let_pass(database)
    database.rows("UPDATE queue.tasks_live SET claimed_until = NULL")
    while line.run_once():
        pass
    assert {line.task(task)["status"] for task in [*tasks, other]} == {"done"}
    assert {line.task(task)["attempts"] for task in tasks} == {1}


def test_what_was_started_with_it_goes_back_at_no_cost(database: Database, line: Line, producer: Connection) -> None:
    tasks = enqueue_many(producer, [Ask(n=n) for n in range(5)])
    wanted = queue.Capacity("default", 1.0, [Ask.task_type], [1], [20], queue.Starter(line.process.id, 30.0, [60.0]))
    claims = queue.claim_first(line.relay, wanted, lanes=10, each=100, claim_seconds=30.0)
    line.executor.handed.put([claim.attempt for claim in claims if claim.attempt is not None])
    line.run(claims)
    assert (len(claims), len(calls)) == (5, 1)
    rows = [line.task(task) for task in tasks]
    assert {(row["status"], row["attempts"], row["claimed_until"]) for row in rows} == {("pending", 0, None)}
    assert sum(row["snoozes"] for row in rows) == 1


def test_others_go_on(line: Line, producer: Connection) -> None:
    enqueue(producer, Ask())
    line.run_once()
    provider[0] = lambda: None
    other = enqueue(producer, Ask(), limit_key="another")
    none = enqueue(producer, Ask(), limit_key="a third")
    line.run_once()
    assert {line.task(task)["status"] for task in (other, none)} == {"done"}


def test_a_batch_that_is_refused_is_not_tried_one_by_one(database: Database, line: Line, producer: Connection) -> None:
    warm_up(line, producer, [AskMany(n=n) for n in range(200)])
    tasks = enqueue_many(producer, [AskMany(n=n) for n in range(20)])
    line.run_once()
    assert len(calls) == 1
    assert calls[0] > 1
    assert sum(line.task(task)["snoozes"] for task in tasks) == calls[0]
    assert {line.task(task)["attempts"] for task in tasks} == {0}
    assert paused_for(database) > 55


def test_the_tasks_of_other_keys_that_came_in_its_batch_are_done(
    database: Database, line: Line, producer: Connection
) -> None:
    warm_up(line, producer, [AskMany(n=n) for n in range(200)])
    refused = enqueue_many(producer, [AskMany(n=n) for n in range(5)])
    others = enqueue_many(producer, [AskMany(n=n) for n in range(5)], limit_key="another")
    answers: Iterator[Callable[[], None]] = iter([refuse(), lambda: None])
    provider[0] = lambda: next(answers)()
    line.run(line.claim())
    assert calls == [10, 5], "they were called together first"
    assert {(line.task(task)["status"], line.task(task)["snoozes"]) for task in refused} == {("pending", 1)}
    assert {(line.task(task)["status"], line.task(task)["attempts"]) for task in others} == {("done", 1)}


def test_a_refusal_by_a_key_that_no_task_of_the_batch_has_is_for_all_of_it(
    database: Database, line: Line, producer: Connection
) -> None:
    warm_up(line, producer, [AskMany(n=n) for n in range(200)])
    tasks = enqueue_many(producer, [AskMany(n=n) for n in range(5)])
    provider[0] = refuse(key="elsewhere")
    line.run(line.claim())
    assert calls == [5]
    assert {(line.task(task)["status"], line.task(task)["snoozes"]) for task in tasks} == {("pending", 1)}
    assert paused_for(database, "elsewhere") > 55


def test_what_is_on_its_way_is_taken_back(database: Database, line: Line, producer: Connection) -> None:
    enqueue_many(producer, [Ask(n=n) for n in range(3)])
    claims = line.claim()
    limits.pause_key(database.connect("worker"), "openai", 60.0)
    assert line.take(claims) == []
    assert line.claim() == []


def test_a_relay_that_knows_the_lanes_already_heeds_the_pause(
    database: Database, line: Line, producer: Connection
) -> None:
    enqueue_many(producer, [Ask(n=n) for n in range(3)])
    wanted = queue.Capacity("default", 10.0, ["test.ask"], [1], [1])
    [lane] = [due.lane for due in queue.due_lanes(line.relay, wanted, limit=10)]
    limits.pause_key(database.connect("worker"), "openai", 60.0)
    assert queue.claim(line.relay, wanted, queue.Reach({lane: queue.FIRST_RANK}, 10, 30.0)) == []


@pytest.mark.parametrize(("asked", "kept"), [(None, 30.0), (86_400.0, 3600.0), (-5.0, 0.0)])
def test_a_pause_is_bounded(
    database: Database, line: Line, producer: Connection, asked: float | None, kept: float
) -> None:
    provider[0] = refuse(asked)
    enqueue(producer, Ask())
    line.run_once()
    assert paused_for(database) == pytest.approx(kept, abs=5)


def test_a_shorter_pause_does_not_shorten_a_longer_one(database: Database, line: Line) -> None:
    worker = database.connect("worker")
    for seconds in (100.0, 10.0):
        limits.pause_key(worker, "openai", seconds)
    assert 95 < paused_for(database) <= 100


def test_a_pause_leaves_the_limits_of_its_key_alone(database: Database, line: Line, producer: Connection) -> None:
    operator = database.connect("operator")
    limits.set_limit(operator, limits.Limit("key", "openai", 2))
    enqueue_many(producer, [Ask(n=n) for n in range(5)])
    line.run_once()
    let_pass(database)
    [row] = limits.limits(operator)
    assert (row.concurrency, row.paused_until) == (2, None)
    assert len(line.claim()) == 2


def test_a_pause_ends_by_itself(database: Database, line: Line, producer: Connection) -> None:
    limits.pause_key(database.connect("worker"), "openai", 0.5)
    provider[0] = lambda: None
    task = enqueue(producer, Ask())
    eventually(lambda: line.run_once() and line.task(task)["status"] == "done", 5)


def test_a_task_that_is_refused_time_and_again_fails_in_the_end(
    database: Database, line: Line, producer: Connection
) -> None:
    task = enqueue(producer, Ask())
    for _ in range(3):
        line.run_once()
        let_pass(database)
    row = line.task(task)
    assert (row["status"], len(calls)) == ("failed", 3)
    assert "snoozed more than 2 times" in row["last_error"]


def test_a_pause_that_is_long_over_is_forgotten(database: Database, line: Line) -> None:
    limits.pause_key(database.connect("worker"), "openai", 1.0)
    limits.forget(line.relay)
    assert database.value("SELECT count(*) FROM queue.limits") == 1
    database.rows("UPDATE queue.limits SET paused_until = now() - interval '2 h'")
    limits.forget(line.relay)
    assert database.value("SELECT count(*) FROM queue.limits") == 0


@pytest.mark.parametrize("key", ["", "*", "k" * 201])
def test_a_key_that_cannot_be_is_refused_where_it_is_raised(key: str) -> None:
    with pytest.raises(ValueError, match="1 to 200 characters"):
        RateLimitedError(key)
