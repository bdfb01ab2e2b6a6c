"""Relay and worker in one process: a claim starts the attempts, and what nobody begins waits again at no cost."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from core import events
from core.errors import UnavailableError
from db import leases, queue
from db.connection import Connection
from db.queries import Queries
from pipelines.enqueue import enqueue, enqueue_many
from pipelines.outcomes import Done
from pipelines.registry import Registry
from pipelines.task import Task
from pipelines.waiting import wait_for
from tests.support import tasks
from tests.support.database import Database
from tests.support.engine import Line, engine
from tests.support.tasks import Gate, Noop, Write
from tests.support.waiting import eventually
from workers.broker import InProcessBroker, messages_of
from workers.claiming import Claimer
from workers.handed import Handed

NOOP = Task(payload=Noop, run=lambda context, payload: Done())


class Clock:
    """A clock that stands still until it is put forward."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def handed(line: Line, clock: Clock) -> Handed:
    """What a relay hands to the line's worker, whose leases last for half a minute."""
    return Handed(line.process.id, 30.0, lambda: (), clock)


@pytest.fixture
def wanted(line: Line) -> queue.Capacity:
    """Room for what a claim starts."""
    return queue.Capacity("default", 1e9, ["test.noop"], [1], [100], queue.Starter(line.process.id, 30.0, [60.0]))


def started(line: Line, wanted: queue.Capacity) -> list[queue.Attempt]:
    """Claim all that is due and start it."""
    claims = queue.claim_first(line.relay, wanted, lanes=10, each=100, claim_seconds=30.0)
    return [claim.attempt for claim in claims if claim.attempt is not None]


def state(line: Line, task_id: UUID) -> tuple[Any, ...]:
    row = line.task(task_id)
    return row["status"], row["attempts"], row["is_due"], row["worker_id"]


def test_an_attempt_is_started_as_a_take_would_start_it(database: Database, line: Line, wanted: queue.Capacity) -> None:
    producer = database.connect("producer")
    ids = [enqueue(producer, Noop(n=n), limit_key="k") for n in (1, 2)]
    [here] = [attempt for attempt in started(line, wanted) if attempt.task_id == ids[0]]
    leases.untake(line.worker, [(ids[0], 1)], line.process.id)
    [taken] = line.take(line.claim(), time_limit=60)
    assert here._replace(claim_number=2, waited=0) == taken._replace(waited=0)
    query = """
        SELECT status, attempts, worker_id, lease_until - started_at, deadline_at - started_at, claimed_until IS NULL
        FROM queue.tasks_live
    """
    rows = database.rows(query)
    assert (
        rows[0] == rows[1] == ("in_progress", 1, line.process.id, timedelta(seconds=30), timedelta(seconds=60), False)
    )


def test_its_commit_waits_for_the_disk_though_a_relays_does_not(
    database: Database, line: Line, wanted: queue.Capacity
) -> None:
    enqueue(database.connect("producer"), Noop())
    assert line.relay.execute("SHOW synchronous_commit").fetchone() == ("off",)
    with line.relay.transaction():
        assert len(started(line, wanted)) == 1
        assert line.relay.execute("SHOW synchronous_commit").fetchone() == ("on",)
    assert line.relay.execute("SHOW synchronous_commit").fetchone() == ("off",)


def test_an_engine_takes_with_its_claim(database: Database, recorded: list[events.Event]) -> None:
    registry = Registry([NOOP])
    with engine(database, registry, InProcessBroker()):
        task_id = enqueue(database.connect("producer"), Noop())
        wait_for(database.connect("operator"), task_id, timeout=10)
    names = [event.query for event in recorded if isinstance(event, events.StoreCalled)]
    assert {"queue.start", "queue.start_first"} & set(names)
    assert "leases.take" not in names
    assert "queue.claim" not in names


def test_where_a_limit_stands_the_claim_alone_is_the_relays(database: Database, recorded: list[events.Event]) -> None:
    database.rows("INSERT INTO queue.limits (kind, name, concurrency) VALUES ('queue', 'default', 1)")
    registry = Registry([NOOP])
    with engine(database, registry, InProcessBroker()):
        for task_id in enqueue_many(database.connect("producer"), [Noop(n=n) for n in range(5)]):
            wait_for(database.connect("operator"), task_id, timeout=10)
    names = [event.query for event in recorded if isinstance(event, events.StoreCalled)]
    assert "leases.take" in names


def test_of_what_is_due_as_much_is_started_as_threads_are_idle(database: Database, line: Line) -> None:
    """Room is counted in messages: tasks of other types and tenants fill messages of their own."""
    operator = database.connect("operator")
    tenants = [
        database.value("INSERT INTO identity.tenants (name, slug) VALUES (%s, %s) RETURNING id", (n, n)) for n in "ab"
    ]
    for tenant in tenants:
        enqueue_many(operator, [Noop(n=n) for n in range(5)], tenant_id=tenant)
        enqueue_many(operator, [Write(n=n) for n in range(5)], tenant_id=tenant)
    starter = queue.Starter(line.process.id, 30.0, [60.0, 60.0])
    two = queue.Capacity("default", 2.0, [Noop.task_type, Write.task_type], [1, 1], [4, 4], starter)
    left = 20
    while claims := queue.claim_first(line.relay, two, lanes=10, each=100, claim_seconds=30.0):
        assert all(claim.attempt is not None for claim in claims)
        assert len(messages_of(claims)) <= 2
        left -= len(claims)
        assert database.value("SELECT count(*) FROM queue.tasks_live WHERE status = 'in_progress'") == 20 - left
    assert left == 0


def test_a_claim_goes_on_behind_the_first_that_stays(database: Database, line: Line) -> None:
    """What another type's message left behind is not passed over."""
    producer = database.connect("producer")
    for n in range(6):
        enqueue(producer, Noop(n=n) if n % 2 else Write(n=n))
    starter = queue.Starter(line.process.id, 30.0, [60.0, 60.0])
    one = queue.Capacity("default", 1.0, [Noop.task_type, Write.task_type], [1, 1], [3, 3], starter)
    claimer = Claimer(limit=100, claim_seconds=30.0, clock=lambda: 0.0)
    for _ in range(6):
        assert len({claim.task_type for claim in claimer.claim(line.relay, one).claims}) <= 1
    assert database.value("SELECT count(*) FROM queue.tasks_live WHERE status = 'pending'") == 0


def test_who_begins_it_has_it(line: Line, database: Database, handed: Handed, wanted: queue.Capacity) -> None:
    enqueue(database.connect("producer"), Noop())
    attempts = started(line, wanted)
    claims = [(a.task_id, a.claim_number) for a in attempts]
    assert handed.put(attempts)
    assert handed.known() == claims
    assert handed.collect(claims) == (attempts, [])
    assert handed.collect(claims) == ([], [])
    assert handed.known() == []


def test_what_was_held_up_for_long_is_not_begun(
    line: Line, database: Database, handed: Handed, wanted: queue.Capacity, clock: Clock
) -> None:
    """Its lease may be over, and another worker at it."""
    enqueue(database.connect("producer"), Noop())
    attempts = started(line, wanted)
    handed.put(attempts)
    clock.now += handed.fresh_seconds + 0.01
    assert handed.collect([(a.task_id, a.claim_number) for a in attempts]) == ([], attempts)


def test_what_no_thread_comes_for_waits_again(database: Database, line: Line, wanted: queue.Capacity) -> None:
    """Its thread is lost, or busy with the first of a message that is slower than was known."""
    task_id = enqueue(database.connect("producer"), Noop())
    claims = queue.claim_first(line.relay, wanted, lanes=10, each=100, claim_seconds=30.0)
    given_up, handed = line.executor.given_up, line.executor.handed
    handed.put([claim.attempt for claim in claims if claim.attempt is not None])
    given_up.run_once()
    assert state(line, task_id)[0] == "in_progress"
    handed.fresh_seconds = -1.0
    given_up.run_once()
    assert state(line, task_id) == ("pending", 0, True, None)
    assert handed.known() == []
    given_up.close()


def test_the_rest_of_a_message_that_cannot_go_on_waits_again(
    database: Database, line: Line, wanted: queue.Capacity, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> None:
        raise RuntimeError("what no step expects")

    monkeypatch.setattr(line.executor, "_work_off", fail)
    enqueue_many(database.connect("producer"), [Noop(n=n) for n in range(5)])
    claims = queue.claim_first(line.relay, wanted, lanes=10, each=100, claim_seconds=30.0)
    line.executor.handed.put([claim.attempt for claim in claims if claim.attempt is not None])
    with pytest.raises(RuntimeError):
        line.run(claims)
    line.executor.given_up.run_once()
    states = database.rows("SELECT status, attempts FROM queue.tasks_live ORDER BY status")
    assert states == [("in_progress", 1), *[("pending", 0)] * 4], "one was begun, whose lease is over now"
    line.executor.given_up.close()


def test_a_message_that_was_held_up_costs_nothing(database: Database, line: Line, wanted: queue.Capacity) -> None:
    task_id = enqueue(database.connect("producer"), Noop())
    claims = queue.claim_first(line.relay, wanted, lanes=10, each=100, claim_seconds=30.0)
    line.executor.handed.put([claim.attempt for claim in claims if claim.attempt is not None])
    line.executor.handed.fresh_seconds = -1.0
    line.run(claims)
    assert state(line, task_id) == ("pending", 0, True, None)
    assert line.attempts(task_id) == []
    assert line.run_once() == 1
    assert state(line, task_id)[:2] == ("done", 1)


def test_a_message_whose_attempts_were_given_back_runs_nothing(
    database: Database, line: Line, wanted: queue.Capacity
) -> None:
    task_id = enqueue(database.connect("producer"), Noop())
    claims = queue.claim_first(line.relay, wanted, lanes=10, each=100, claim_seconds=30.0)
    line.executor.handed.put([claim.attempt for claim in claims if claim.attempt is not None])
    line.executor.give_back([(task_id, claims[0].claim_number)])
    line.run(claims)
    assert state(line, task_id)[:2] == ("pending", 0)
    assert line.run_once() == 1
    assert state(line, task_id)[:2] == ("done", 1)


def test_a_worker_that_stops_is_handed_nothing_more(
    line: Line, database: Database, handed: Handed, wanted: queue.Capacity
) -> None:
    enqueue_many(database.connect("producer"), [Noop(n=n) for n in range(3)])
    attempts = started(line, wanted)
    assert handed.put(attempts[:2])
    assert sorted(handed.close()) == sorted((a.task_id, a.claim_number) for a in attempts[:2])
    assert not handed.put(attempts[2:])
    assert handed.known() == []


def test_what_is_claimed_while_the_worker_stops_waits_again(database: Database, recorded: list[events.Event]) -> None:
    with engine(database, Registry([NOOP]), InProcessBroker()) as running:
        running.worker.executor.handed.close()
        task_id = enqueue(database.connect("producer"), Noop())
        eventually(
            lambda: [e for e in recorded if isinstance(e, events.StoreCalled) and e.query == "leases.untake"], 10
        )
    assert database.rows("SELECT id, status, attempts FROM queue.outbox_tasks") == [(task_id, "pending", 0)]


class LostAnswers:
    """A database whose answer to the next claim is lost, after its commit."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lost = 0
        run = Queries.run

        def lose(self_: Queries, connection: Connection, name: str, values: Any = None) -> Any:
            rows = run(self_, connection, name, values)
            if name.startswith("start") and rows and not self.lost:
                self.lost += len(rows)
                raise UnavailableError("the answer was lost")
            return rows

        monkeypatch.setattr(Queries, "run", lose)


def test_a_claim_whose_answer_was_lost_leaves_nothing_behind(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its attempts are started, and the heartbeat of a worker that knows nothing of them would keep them for ever."""
    losing = LostAnswers(monkeypatch)
    registry = Registry([NOOP])
    with engine(database, registry, InProcessBroker()):
        [task_id] = enqueue_many(database.connect("producer"), [Noop()])
        wait_for(database.connect("operator"), task_id, timeout=10)
    assert losing.lost == 1
    assert database.rows("SELECT attempts, claim_number FROM queue.outbox_tasks") == [(1, 2)]


def test_what_was_begun_is_no_stray(effects: Database, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    while tasks.entered.acquire(blocking=False):
        pass  # of another test's tasks
    tasks.gate.clear()
    with engine(effects, registry, InProcessBroker()):
        running = enqueue(effects.connect("producer"), Gate())
        assert tasks.entered.acquire(timeout=10)
        losing = LostAnswers(monkeypatch)
        lost = enqueue(effects.connect("producer"), Noop())
        wait_for(effects.connect("operator"), lost, timeout=10)
        tasks.gate.set()
        wait_for(effects.connect("operator"), running, timeout=10)
    assert losing.lost == 1
    query = "SELECT task_type, attempts, claim_number FROM queue.outbox_tasks ORDER BY task_type"
    assert effects.rows(query) == [("test.gate", 1, 1), ("test.noop", 1, 2)]
