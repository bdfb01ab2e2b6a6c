"""The relay's services by hand: rounds, sleep and ring, LISTEN's self-test, capacity, rescue, care."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from core import events
from db import dependencies, leases, processes, queue
from db.beat import Beat
from db.connection import KeptConnection
from pipelines.batches import close_batch, open_batch
from pipelines.enqueue import enqueue, enqueue_many
from pipelines.registry import Registry
from pipelines.waiting import wait_for
from tests.support.database import Database
from tests.support.engine import Line, engine, fast_settings
from tests.support.months import HISTORY, LAST, MISSING
from tests.support.tasks import Noop, Report
from tests.support.waiting import eventually
from workers.broker import open_broker
from workers.processes import Addresses, RelayProcess
from workers.relay import Listener, Relay
from workers.rescue import Caretaker, Rescuer


@pytest.fixture
def relay(database: Database, line: Line, redis_url: str) -> Iterator[Relay]:
    """A relay whose workers are elsewhere: `line` says that it is one."""
    process = processes.ProcessRow(uuid4(), "relay", "test", 1)
    processes.beat(database.connect("relay"), process)
    broker = open_broker(redis_url, "test")
    relay = Relay(kept(database), broker, fast_settings().relay, process.id)
    yield relay
    relay.close()
    broker.close()


def kept(database: Database) -> KeptConnection:
    return KeptConnection(database.url("relay"), name="relay")


def rings(connection: psycopg.Connection[tuple[object, ...]], seconds: float = 0.3) -> int:
    return sum(1 for _ in connection.notifies(timeout=seconds))


def test_a_round_claims_and_publishes_and_the_next_comes_at_once(
    database: Database, relay: Relay, recorded: list[events.Event]
) -> None:
    enqueue_many(database.connect("producer"), [Noop(n=n) for n in range(250)])
    assert relay.run_once() == 0.0
    published = [event for event in recorded if isinstance(event, events.TasksPublished)]
    assert [(event.tasks, event.messages) for event in published] == [(250, 3)]
    assert database.value("SELECT count(*) FROM queue.tasks_live WHERE claimed_until IS NOT NULL") == 250


def test_with_nothing_to_do_it_says_that_it_sleeps_and_looks_once_more(database: Database, relay: Relay) -> None:
    assert relay.run_once() == 0.0, "what came before the flag was seen did not ring"
    assert database.value("SELECT is_sleeping FROM queue.processes WHERE kind = 'relay'") is True
    assert 0 < relay.run_once() <= 0.5


def test_it_wakes_for_the_next_deferred_task(database: Database, relay: Relay) -> None:
    enqueue(database.connect("producer"), Noop())
    database.rows("UPDATE queue.tasks_live SET is_due = false, run_after = clock_timestamp() + interval '20 ms'")
    relay.run_once()
    assert relay.run_once() <= 0.05


def test_deferred_tasks_are_let_in_while_workers_are_saturated(database: Database, line: Line, relay: Relay) -> None:
    while relay.run_once() == 0.0:
        pass  # it sleeps, and knows of nothing deferred
    enqueue_many(database.connect("producer"), [Report() for _ in range(20)])
    database.rows("UPDATE queue.processes SET slots = 1 WHERE kind = 'worker'")
    late = enqueue(database.connect("producer"), Noop(), run_after=datetime.now(UTC) + timedelta(seconds=0.5))
    for _ in range(3):
        relay.ring()
        relay.run_once()
    assert line.task(late)["is_due"] is False
    eventually(lambda: (relay.run_once() <= 0.5) and line.task(late)["is_due"], 5)


def test_a_relay_waits_for_room_while_workers_are_saturated_and_no_longer(
    database: Database, line: Line, relay: Relay
) -> None:
    assert not relay.wants_room()
    enqueue_many(database.connect("producer"), [Report() for _ in range(20)])
    database.rows("UPDATE queue.processes SET slots = 1 WHERE kind = 'worker'")
    while relay.run_once() == 0.0:
        pass
    assert relay.wants_room()
    database.rows("DELETE FROM queue.tasks_live")
    while relay.run_once() == 0.0:
        pass
    assert not relay.wants_room()


def test_a_deferred_task_that_somebody_holds_is_not_spun_upon(database: Database, line: Line, relay: Relay) -> None:
    task_id = enqueue(database.connect("producer"), Noop())
    database.rows("UPDATE queue.tasks_live SET is_due = false, run_after = now() - interval '1 s'")
    holder = database.connect()
    with holder.transaction():
        holder.execute("SELECT FROM queue.tasks_live WHERE id = %s FOR UPDATE", (task_id,))
        while relay.run_once() == 0.0:
            pass
        assert relay.run_once() >= 0.005
    eventually(lambda: relay.run_once() <= 0.5 and line.task(task_id)["claimed_until"], 5)


def test_a_relay_that_falls_asleep_looks_again_soon_and_then_less_and_less(database: Database, relay: Relay) -> None:
    """A producer that saw it awake did not ring, and may commit only now."""
    assert relay.run_once() == 0.0
    pauses = [relay.run_once() for _ in range(8)]
    assert pauses == sorted(pauses)
    assert pauses[0] <= 0.01
    assert pauses[-1] == fast_settings().relay.poll_seconds_deaf


def test_notify_rings_only_when_somebody_sleeps(database: Database, relay: Relay) -> None:
    ear = database.connect("relay")
    ear.execute(f'LISTEN "{queue.WAKE_CHANNEL}"')
    producer = database.connect("producer")
    enqueue(producer, Noop())
    assert rings(ear) == 0
    while relay.run_once() == 0.0:
        pass
    enqueue_many(producer, [Noop() for _ in range(50)])
    assert rings(ear) == 1, "one ring a statement"
    producer.execute("INSERT INTO queue.outbox_tasks (task_type, payload) VALUES ('test.noop', '{}')")
    assert rings(ear) == 1
    with producer.transaction(force_rollback=True):
        enqueue(producer, Noop())
    assert rings(ear) == 0


def test_it_claims_only_for_free_slots_of_live_workers(database: Database, line: Line, relay: Relay) -> None:
    enqueue_many(database.connect("producer"), [Report() for _ in range(20)])  # one a message
    database.rows("UPDATE queue.processes SET slots = 3 WHERE kind = 'worker'")
    claimed = "SELECT count(*) FROM queue.tasks_live WHERE claimed_until IS NOT NULL"
    relay.run_once()
    relay.run_once()
    assert database.value(claimed) == 6, "two messages for each slot"


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE queue.processes SET beat_at = now() - interval '1 h' WHERE kind = 'worker'",
        "UPDATE queue.processes SET queues = '{elsewhere}' WHERE kind = 'worker'",
        "UPDATE queue.processes SET task_types = jsonb_build_object('test.write', 1) WHERE kind = 'worker'",
        "UPDATE queue.processes SET slots = 0 WHERE kind = 'worker'",
        "DELETE FROM queue.processes WHERE kind = 'worker'",
        "INSERT INTO queue.queues (name, paused_at) VALUES ('default', now())",
    ],
    ids=["silent", "other queue", "other type", "no slots", "gone", "paused"],
)
def test_a_task_waits_at_no_cost_while_nobody_can_run_it(database: Database, relay: Relay, change: str) -> None:
    task_id = enqueue(database.connect("producer"), Noop())
    database.rows(change)
    for _ in range(3):
        relay.run_once()
    row = database.rows(
        "SELECT status, attempts, claim_number, hold_reason FROM queue.outbox_tasks WHERE id = %s", (task_id,)
    )
    assert row == [("pending", 0, 0, None)]


def test_a_process_is_known_as_long_as_it_beats_and_again_after_it_was_forgotten(database: Database) -> None:
    process = processes.ProcessRow(uuid4(), "relay", "test", 1)
    beat = Beat(kept(database), process, lambda: {"relay": 1.25}, timeout=21.0)
    assert beat.run_once() == 7.0
    [(first, late)] = database.rows("SELECT beat_at, loops_late FROM queue.processes")
    assert late == {"relay": 1.2}
    beat.run_once()
    assert database.value("SELECT beat_at FROM queue.processes") > first
    database.rows("DELETE FROM queue.processes")
    beat.run_once()
    assert database.rows("SELECT id, kind FROM queue.processes") == [(process.id, "relay")]
    beat.close()
    assert database.rows("SELECT id FROM queue.processes") == []


def test_a_relay_that_nobody_knows_does_not_sleep_for_nobody_rings_it(database: Database, relay: Relay) -> None:
    while relay.run_once() == 0.0:
        pass
    [known] = database.rows("DELETE FROM queue.processes WHERE kind = 'relay' RETURNING id")
    assert 0 < relay.run_once() < 0.1
    processes.beat(database.connect("relay"), processes.ProcessRow(known[0], "relay", "test", 1))

    def is_told() -> bool:
        assert relay.run_once() < 0.1
        return bool(database.value("SELECT is_sleeping FROM queue.processes WHERE kind = 'relay'"))

    assert eventually(is_told)


def test_a_relay_lives_while_the_broker_is_away(
    database: Database, registry: Registry, tmp_path: Path, recorded: list[events.Event]
) -> None:
    line = Line(database, registry)  # a worker that serves
    enqueue(database.connect("producer"), Noop())
    broker = open_broker(f"unix://{tmp_path}/nobody", "test")
    process = RelayProcess(fast_settings(), Addresses(database.url("relay")), broker)
    process.start()
    try:
        eventually(lambda: any(isinstance(e, events.LoopFailed) and e.loop == "relay" for e in recorded))
        query = "SELECT beat_at FROM queue.processes WHERE id = %s"
        [(before,)] = database.rows(query, (process.process.id,))
        [beat] = [loop for loop in process.loops if loop.service.name == "beat"]
        beat.wake()
        eventually(lambda: database.rows(query, (process.process.id,)) > [(before,)])
    finally:
        process.stop()
    assert database.rows(query, (process.process.id,)) == []
    line.close()


def test_a_newer_payload_waits_at_no_cost_for_a_worker_that_knows_it(database: Database, line: Line) -> None:
    task_id = enqueue(database.connect("producer"), Noop())
    database.rows("UPDATE queue.tasks_live SET payload_version = 2")
    assert line.claim() == []
    # Another worker of the queue knows it; the message may still come to the older one.
    newer = processes.ProcessRow(uuid4(), "worker", "test", 1, ["default"], {"test.noop": 2}, 1)
    processes.beat(line.worker, newer)
    assert line.run_once() == 1
    row = line.task(task_id)
    assert (row["status"], row["attempts"], row["snoozes"], row["is_due"]) == ("pending", 0, 0, False)
    assert line.attempts(task_id) == []


def test_the_listener_proves_that_it_hears(database: Database, recorded: list[events.Event]) -> None:
    woken: list[int] = []
    rescues: list[int] = []
    listener = Listener(kept(database), uuid4(), lambda: woken.append(1), {"rescue": lambda: rescues.append(1)})
    eventually(lambda: listener.run_once() == 0.0 and listener.hears())
    assert events.ListenChanged(True) in recorded
    woken.clear()
    database.rows(f"SELECT pg_notify('{queue.WAKE_CHANNEL}', '')")
    eventually(lambda: listener.run_once() == 0.0 and woken)
    assert rescues == []
    woken.clear()
    leases.QUERIES.run(database.connect("worker"), "ring_rescuers")
    eventually(lambda: listener.run_once() == 0.0 and rescues)
    assert woken == []
    listener.close()


def test_an_enqueue_wakes_the_relay_and_what_is_to_be_settled_the_settler(
    database: Database, line: Line, relay: Relay
) -> None:
    woken: list[str] = []
    wake_settler = {queue.SETTLE_NOTICE: lambda: woken.append("settler")}
    listener = Listener(kept(database), uuid4(), lambda: woken.append("relay"), wake_settler)
    eventually(lambda: listener.run_once() == 0.0 and listener.hears())

    def rung() -> set[str]:
        eventually(lambda: listener.run_once() == 0.0 and woken)
        heard = set(woken)
        woken.clear()
        return heard

    assert relay.run_once() == 0.0  # it says that it sleeps
    woken.clear()
    producer = database.connect("producer")
    batch = open_batch(producer, "b")
    enqueue(producer, Noop())
    assert rung() == {"relay"}
    assert close_batch(producer, batch)
    assert rung() == {"settler"}
    parent = enqueue(producer, Noop())
    assert rung() == {"relay"}
    enqueue(producer, Noop(), depends_on=[parent])
    eventually(lambda: listener.run_once() == 0.0 and {*woken} == {"relay", "settler"})
    woken.clear()
    dependencies.settle(line.relay, 100)  # from now on the parent's end leaves word
    assert line.run_once() == 2
    assert rung() == {"settler"}
    listener.close()


def test_what_a_worker_gives_up_rings_whoever_may_take_it(database: Database, line: Line, relay: Relay) -> None:
    woken: list[str] = []
    wake_rescuer = {queue.RESCUE_NOTICE: lambda: woken.append("rescuer")}
    listener = Listener(kept(database), uuid4(), lambda: woken.append("relay"), wake_rescuer)
    eventually(lambda: listener.run_once() == 0.0 and listener.hears())
    enqueue_many(database.connect("producer"), [Noop(), Noop()])
    first, _ = line.take(line.claim())
    while relay.run_once() == 0.0:
        pass  # it sleeps
    woken.clear()
    assert leases.end_leases(line.worker, [(first.task_id, first.claim_number)], line.process.id) == 1
    eventually(lambda: listener.run_once() == 0.0 and woken == ["rescuer"])
    assert leases.hand_back(line.worker, line.process.id) == 1
    eventually(lambda: listener.run_once() == 0.0 and woken == ["rescuer", "relay"])
    listener.close()


def test_the_engine_works_without_listen(
    database: Database, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As behind a pooler in transaction mode: LISTEN is accepted and nothing ever arrives."""
    monkeypatch.setattr(Listener, "_heard", lambda self, notice: None)
    with engine(database, registry, open_broker(None, "test")) as running:
        relay_id = running.relay.process.id
        producer, waiter = database.connect("producer"), database.connect()
        for _ in range(3):
            assert wait_for(waiter, enqueue(producer, Noop()), timeout=5).status == "done"
        assert database.value("SELECT hears_notify FROM queue.processes WHERE id = %s", (relay_id,)) is False


def test_the_rescuer_reports_and_wakes(database: Database, line: Line, recorded: list[events.Event]) -> None:
    woken: list[int] = []
    enqueue_many(database.connect("producer"), [Noop(), Noop()], max_attempts=1)
    claims = line.claim()
    line.take(claims[:1])
    database.rows("UPDATE queue.tasks_live SET claimed_until = now() WHERE claimed_until IS NOT NULL")
    leases.expire_leases(line.worker, line.process.id)
    rescuer = Rescuer(kept(database), 1.0, lambda: woken.append(1))
    assert rescuer.run_once() == 1.0
    assert [e for e in recorded if isinstance(e, events.TasksRescued)] == [events.TasksRescued(0, 1, 0, 1)]
    assert woken == [1]
    assert rescuer.run_once() == 10.0, "seldom, while nothing can be overdue"
    assert woken == [1], "nothing to rescue, nobody to wake"
    rescuer.close()


def test_a_look_that_takes_long_takes_a_twentieth_of_the_time(database: Database, line: Line) -> None:
    enqueue_many(database.connect("producer"), [Noop()])
    line.claim()
    for took, pause in ((0.01, 1.0), (0.25, 5.0), (60.0, 15.0)):
        rescuer = Rescuer(kept(database), 1.0, lambda: None, partial(next, iter((0.0, took))))
        assert rescuer.run_once() == pytest.approx(pause)
        rescuer.close()


def test_the_caretaker_makes_months_and_forgets_the_silent(database: Database) -> None:
    database.rows(
        "INSERT INTO queue.processes (id, kind, host, pid, beat_at)"
        " VALUES (gen_random_uuid(), 'worker', 'h', 1, now() - interval '1 day')"
    )
    database.rows(f"DROP TABLE {database.value(LAST, (HISTORY,))}")
    assert [relation for relation, _ in database.rows(MISSING)] == [HISTORY]
    caretaker = Caretaker(kept(database), 30.0)
    assert caretaker.run_once() > 0
    caretaker.close()
    assert database.rows(MISSING) == []
    assert database.value("SELECT count(*) FROM queue.processes") == 0


def test_a_partition_of_somebody_s_own_is_in_no_other_table_s_way(database: Database) -> None:
    """It begins after the month does and ends after it, so the month is missing and cannot be attached."""
    theirs, ours = "billing.usage_metrics", "queue.attempts"
    leaves = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent IN (%s::regclass, %s::regclass)"
    for (leaf,) in database.rows(leaves, (theirs, ours)):
        database.rows(f"DROP TABLE {leaf} CASCADE")
    [(begin, end)] = database.rows(
        "SELECT first + interval '1 day', first + interval '1 year' FROM date_trunc('month', now(), 'UTC') AS first"
    )
    database.rows(f"CREATE TABLE billing.year PARTITION OF {theirs} FOR VALUES FROM ('{begin}') TO ('{end}')")
    caretaker = Caretaker(kept(database), 30.0)
    with pytest.raises(psycopg.errors.InvalidObjectDefinition):
        caretaker.run_once()
    caretaker.close()
    assert len(database.rows(leaves, (ours, ours))) == 3


def test_a_chore_that_fails_keeps_the_caretaker_from_none_of_the_others(database: Database) -> None:
    """What is in the way of a table's months is told by the round that fails, and the rest of it is done."""
    database.rows(
        "INSERT INTO queue.processes (id, kind, host, pid, beat_at)"
        " VALUES (gen_random_uuid(), 'worker', 'h', 1, now() - interval '1 day')"
    )
    database.rows("ALTER FUNCTION ops.missing_months() RENAME TO no_months")
    caretaker = Caretaker(kept(database), 30.0)
    with pytest.raises(psycopg.errors.UndefinedFunction):
        caretaker.run_once()
    caretaker.close()
    assert database.value("SELECT count(*) FROM queue.processes") == 0
