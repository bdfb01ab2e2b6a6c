"""The settler as a loop of the relay: its pauses, whom it wakes, and a graph through the whole engine."""

from db import dependencies
from db.connection import KeptConnection
from pipelines.batches import close_batch, open_batch
from pipelines.enqueue import enqueue, enqueue_many
from pipelines.registry import Registry
from tests.support.database import Database
from tests.support.engine import Line, engine
from tests.support.tasks import Noop, Report
from tests.support.waiting import eventually
from workers.broker import open_broker
from workers.settler import Settler

PAUSE = 60.0


def settler(database: Database, woken: list[int]) -> Settler:
    made = Settler(KeptConnection(database.url("relay"), name="settler"), lambda: PAUSE, lambda: woken.append(1))
    database.at_end(made.close)
    return made


def test_it_sleeps_long_when_nothing_waits(database: Database, line: Line) -> None:
    assert settler(database, []).run_once() == PAUSE


def test_it_polls_while_tasks_wait_and_wakes_the_relay_when_one_may_start(database: Database, line: Line) -> None:
    producer, woken = database.connect("producer"), list[int]()
    parent = enqueue(producer, Noop())
    enqueue(producer, Noop(), depends_on=[parent])
    loop = settler(database, woken)
    assert loop.run_once() == 0.0, "there may be more"
    assert 0.0 < loop.run_once() < 1.0
    assert woken == [1], "its lock may have kept the parent from a claim"
    line.run_once()
    assert loop.run_once() == 0.0
    assert woken == [1, 1]
    while loop.run_once() == 0.0:
        pass
    line.run_once()


def test_a_callback_wakes_the_relay(database: Database, line: Line) -> None:
    producer, woken = database.connect("producer"), list[int]()
    close_batch(producer, open_batch(producer, "b", on_done=Report()))
    assert settler(database, woken).run_once() == 0.0
    assert woken == [1]


def test_a_graph_and_its_batch_run_through_the_engine(database: Database, registry: Registry) -> None:
    broker = open_broker(None, "test")
    with engine(database, registry, broker):
        producer = database.connect("producer")
        batch = open_batch(producer, "b", on_ended=Report(text="ended"))
        parents = enqueue_many(producer, [Noop(n=n) for n in range(50)], batch_id=batch)
        middle = enqueue(producer, Noop(n=50), depends_on=parents, batch_id=batch)
        enqueue_many(producer, [Noop(n=n) for n in range(50)], depends_on=[middle], batch_id=batch)
        close_batch(producer, batch)
        callback = "SELECT status FROM queue.outbox_tasks WHERE task_type = 'test.report'"
        eventually(lambda: database.rows(callback) == [("done",)], 20)
        found = dependencies.batch(database.connect("operator"), batch)
    broker.close()
    assert found is not None
    assert (found.added, found.done) == (101, 101)
    assert found.ended_at is not None
