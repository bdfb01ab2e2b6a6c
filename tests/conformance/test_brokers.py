"""One behaviour, two brokers: what holds in process holds over Redis."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import dramatiq
import pytest
from dramatiq.broker import Consumer

from core import events
from core.errors import UnavailableError
from db.connection import KeptConnection
from db.queue import Claim
from pipelines.enqueue import enqueue, enqueue_many
from pipelines.outcomes import Done
from pipelines.registry import Registry
from pipelines.resources import Resources
from pipelines.task import Task
from pipelines.waiting import wait_for, wait_for_all
from tests.support import tasks
from tests.support.database import Database
from tests.support.engine import Line, engine, fast_settings, publish
from tests.support.redis_server import contents, flush
from tests.support.tasks import Gate, Noop, Raise, Report, Spawn, Write, WriteMany
from tests.support.waiting import eventually
from workers.broker import AnyBroker, InProcessBroker, ShallowRedisBroker, messages_of, open_broker
from workers.broker import publish as send
from workers.processes import Addresses, WorkerProcess
from workers.relay import Relay

SECRET = "correct horse battery staple"


def message(queue: str = "default", tasks: int = 1) -> "dramatiq.Message[None]":
    claims = [Claim(uuid4(), 1, queue, "test.noop", None, 100, 0, 0.0) for _ in range(tasks)]
    [(made, _)] = messages_of(claims)
    return made


@pytest.fixture
def consumer(broker: AnyBroker) -> Iterator[Consumer]:
    broker.declare_queue("default")
    consumer = broker.consume("default", prefetch=2, timeout=50)
    yield consumer
    consumer.close()


def receive(consumer: Consumer) -> Any:
    return eventually(lambda: next(consumer), 5)


def test_a_message_arrives_once_with_ids_and_claim_numbers_only(broker: AnyBroker, consumer: Consumer) -> None:
    sent = message(tasks=2)
    send(broker, sent)
    got = receive(consumer)
    assert (got.actor_name, got.queue_name, got.args) == ("test.noop", "default", sent.args)
    assert got.kwargs == {}
    consumer.ack(got)
    assert next(consumer) is None


def test_an_idle_consumer_is_woken_by_a_message(broker: AnyBroker) -> None:
    broker.declare_queue("default")
    consumer = broker.consume("default", prefetch=2, timeout=20_000)
    threading.Timer(0.3, lambda: send(broker, message())).start()
    started = time.monotonic()
    got = receive(consumer)
    assert time.monotonic() - started < 10, "it slept on"
    consumer.ack(got)
    consumer.close()


def test_a_consumer_that_holds_all_it_may_goes_on_when_one_is_done(broker: AnyBroker) -> None:
    broker.declare_queue("default")
    consumer = broker.consume("default", prefetch=1, timeout=20_000)
    for _ in range(2):
        send(broker, message())
    first = next(consumer)
    assert first is not None
    threading.Timer(0.3, lambda: consumer.ack(first)).start()
    started = time.monotonic()
    second = receive(consumer)
    assert time.monotonic() - started < 10, "it waited for a message and not for room"
    consumer.ack(second)
    consumer.close()


def test_messages_arrive_in_order(broker: AnyBroker, consumer: Consumer) -> None:
    sent = [message() for _ in range(5)]
    for each in sent:
        send(broker, each)
    got = []
    for _ in sent:
        got.append(receive(consumer))
        consumer.ack(got[-1])
    assert [m.args for m in got] == [m.args for m in sent]


def test_queues_are_apart(broker: AnyBroker, consumer: Consumer) -> None:
    send(broker, message("elsewhere"))
    assert next(consumer) is None


def test_an_idle_consumer_returns_nothing_and_soon(broker: AnyBroker, consumer: Consumer) -> None:
    assert next(consumer) is None


def test_declaring_twice_is_fine(broker: AnyBroker) -> None:
    broker.declare_queue("default")
    broker.declare_queue("default")
    assert broker.get_declared_queues() == {"default"}


def test_no_middleware_and_no_delays_are_dramatiqs(broker: AnyBroker) -> None:
    assert broker.middleware == []
    assert broker.get_declared_delay_queues() == set()


# ---------------------------------------------------------------------------------------------- the engine on each


def test_every_kind_of_ending(effects: Database, registry: Registry, broker: AnyBroker) -> None:
    with engine(effects, registry, broker):
        producer = effects.connect("producer")
        ids = [
            enqueue(producer, Write(n=1)),
            enqueue(producer, Report()),
            enqueue(producer, Raise(kind="plain")),
            enqueue(producer, Raise(kind="permanent")),
            enqueue(producer, Spawn(count=4)),
        ]
        ends = wait_for_all(effects.connect(), ids, timeout=20)
        eventually(lambda: not effects.value("SELECT count(*) FROM queue.tasks_live"))
    assert [end.status for end in ends] == ["done", "done", "failed", "failed", "done"]
    assert effects.rows("SELECT n FROM effects ORDER BY n") == [(1,), (4,)]
    assert effects.value("SELECT attempts FROM queue.outbox_tasks WHERE id = %s", (ids[2],)) == 3
    assert effects.value("SELECT count(*) FROM queue.tasks_history WHERE task_type = 'test.noop'") == 4


def test_many_tasks_travel_together_and_each_effect_stands_once(
    effects: Database, registry: Registry, broker: AnyBroker
) -> None:
    with engine(effects, registry, broker):
        enqueue_many(effects.connect("producer"), [WriteMany(n=n) for n in range(1000)])
        eventually(lambda: not effects.value("SELECT count(*) FROM queue.tasks_live"), 30)
    assert effects.rows("SELECT count(*), count(DISTINCT n) FROM effects") == [(1000, 1000)]
    assert effects.rows("SELECT status, max(attempts) FROM queue.tasks_history GROUP BY 1") == [("done", 1)]


def test_nothing_of_a_payload_stands_in_the_message(
    database: Database, registry: Registry, broker: AnyBroker, redis_url: str
) -> None:
    """I7: the message of a task is looked at while it is under way, and all of Redis with it."""
    line = Line(database, registry)
    enqueue(database.connect("producer"), Report(text=SECRET), unique_key="key " + SECRET, metadata={"m": SECRET})
    [(sent, _)] = messages_of(line.claim())
    send(broker, sent)
    assert SECRET.encode() not in sent.encode()
    assert SECRET.encode() not in contents(redis_url)
    line.close()


def test_a_stop_gives_back_what_did_not_run_at_no_cost(
    effects: Database, registry: Registry, broker: AnyBroker
) -> None:
    tasks.gate.clear()
    settings = fast_settings(worker={"threads": 1, "grace_seconds": 10.0}, relay={"depth": 50.0})
    try:
        with engine(effects, registry, broker, settings=settings) as running:
            producer = effects.connect("producer")
            ids = [enqueue(producer, Gate(n=n)) for n in range(10)]
            assert tasks.entered.acquire(timeout=10)
            running.relay.stop()
            running.worker.executor.drain()
            tasks.gate.set()
            assert running.worker.stop()
    finally:
        tasks.gate.set()
    rows = effects.rows("SELECT status, attempts FROM queue.outbox_tasks WHERE id = ANY (%s)", (ids,))
    assert ("done", 1) in rows
    assert set(rows) <= {("done", 1), ("pending", 0)}
    done = sum(1 for status, _ in rows if status == "done")
    assert effects.value("SELECT count(*) FROM effects") == done
    # What was in this process's memory waits at once; what Redis holds is for others, or its claims run out.
    if isinstance(broker, InProcessBroker):
        assert effects.value("SELECT count(*) FROM queue.tasks_live WHERE claimed_until IS NOT NULL") == 0


def test_workers_of_one_queue_may_know_different_task_types(
    effects: Database, registry: Registry, broker: AnyBroker
) -> None:
    """A message that comes to the wrong one goes back at no cost, until it comes to the right one."""
    publish(effects, registry)
    stranger = Registry([Task(payload=Write, run=lambda context, payload: Done())])
    addresses = Addresses(effects.url("worker"), system_url=effects.url("system"))
    other = WorkerProcess(fast_settings(), addresses, open_broker_beside(broker), stranger, Resources())
    other.loops = []
    other.start()
    line = Line(effects, registry)
    try:
        task_id = enqueue(effects.connect("producer"), Noop())
        for sent, _ in messages_of(line.claim()):
            send(broker, sent)  # nobody but the stranger consumes
        eventually(lambda: line.task(task_id)["claimed_until"] is None)
    finally:
        other.stop()
    with engine(effects, registry, broker):
        end = wait_for(effects.connect(), task_id, timeout=30)
    assert end.status == "done"
    row = line.task(task_id)
    assert (row["attempts"], row["claim_number"] > 1) == (1, True)
    line.close()


def open_broker_beside(broker: AnyBroker) -> AnyBroker:
    """Return what another worker on the same messages would open."""
    if isinstance(broker, InProcessBroker):
        beside = InProcessBroker()
        beside.queues = broker.queues
        return beside
    return ShallowRedisBroker(client=broker.client, middleware=[], namespace=broker.namespace)  # type: ignore[no-untyped-call]  # dramatiq leaves it untyped


# ---------------------------------------------------------------------------------------------- a broker in trouble


def test_a_flushed_redis_loses_nothing(effects: Database, registry: Registry, redis_url: str) -> None:
    """Messages that vanish are claims that nobody takes: they are given back in time and cost no attempt."""
    broker = open_broker(redis_url, "test")
    publish(effects, registry)
    line = Line(effects, registry)
    ids = enqueue_many(effects.connect("producer"), [Write(n=n) for n in range(20)])
    for sent, _ in messages_of(line.claim(claim_seconds=0.1)):
        send(broker, sent)
    flush(redis_url)
    with engine(effects, registry, broker):
        ends = wait_for_all(effects.connect(), ids, timeout=20)
    assert {end.status for end in ends} == {"done"}
    assert effects.rows("SELECT count(*), count(DISTINCT n) FROM effects") == [(20, 20)]
    assert effects.value("SELECT max(attempts) FROM queue.outbox_tasks") == 1
    broker.close()
    line.close()


def test_a_redis_that_is_away_gives_the_claim_back(
    database: Database, registry: Registry, tmp_path: Path, recorded: list[events.Event]
) -> None:
    broker = open_broker(f"unix://{tmp_path}/nobody", "test")
    line = Line(database, registry)  # a worker that serves
    task_id = enqueue(database.connect("producer"), Noop())
    relay = Relay(KeptConnection(database.url("relay"), name="relay"), broker, fast_settings().relay, line.process.id)
    with pytest.raises(UnavailableError):
        relay.run_once()
    row = line.task(task_id)
    assert (row["status"], row["attempts"], row["claimed_until"]) == ("pending", 0, None)
    assert any(isinstance(event, events.PublishFailed) for event in recorded)
    relay.close()
    line.close()


def test_an_old_message_in_the_broker_does_nothing(effects: Database, registry: Registry, broker: AnyBroker) -> None:
    line = Line(effects, registry)
    task_id = enqueue(effects.connect("producer"), Write(n=1))
    stale = messages_of(line.claim(claim_seconds=-1))
    with engine(effects, registry, broker):
        for sent, _ in stale * 3:
            send(broker, sent)
        end = wait_for(effects.connect(), task_id, timeout=20)
    assert end.status == "done"
    assert effects.rows("SELECT n FROM effects") == [(1,)]
    assert line.task(task_id)["attempts"] == 1
    line.close()
