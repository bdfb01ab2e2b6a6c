"""Batches: callbacks come once, when they shall, whoever ends the members; nobody's finish waits for a counter."""

from uuid import UUID, uuid4

import psycopg
import pytest

from core.errors import InvalidOptionsError, InvalidPayloadError, UnknownTaskTypeError
from db import dependencies, tasks
from pipelines.batches import close_batch, open_batch
from pipelines.enqueue import enqueue, enqueue_many
from pipelines.payload import Payload
from tests.support.database import Database
from tests.support.engine import Line
from tests.support.tasks import Answer, Noop, Report, Strict

pytestmark = pytest.mark.usefixtures("line")
CALLBACKS: dict[str, Payload] = {
    "on_done": Report(text="all done"), "on_failed": Report(text="one failed"), "on_ended": Report(text="all ended"),
}  # fmt: skip


class Nobody(Payload):
    task_type = "test.nobody"


def go_on(line: Line) -> None:
    """Run and settle until nothing moves."""
    while line.run_once() or not dependencies.settle(line.relay, 100).is_idle:
        pass


def called(database: Database) -> set[str]:
    """Return the texts of the callbacks that were enqueued; each once."""
    rows = database.rows("SELECT payload->>'text' FROM queue.outbox_tasks WHERE task_type = 'test.report'")
    texts = [text for (text,) in rows]
    assert len(texts) == len(set(texts)), texts
    return set(texts)


def counts(line: Line, batch: UUID) -> tuple[int, int, int, int]:
    row = dependencies.batch(line.relay, batch)
    assert row is not None
    return row.added, row.done, row.failed, row.cancelled


def test_a_batch_that_is_done_calls_back_once_it_is_closed(database: Database, line: Line) -> None:
    producer = database.connect("producer")
    batch = open_batch(producer, "b", **CALLBACKS)  # type: ignore[arg-type]
    enqueue_many(producer, [Noop(n=n) for n in range(250)], batch_id=batch)
    go_on(line)
    assert counts(line, batch) == (250, 250, 0, 0)
    assert called(database) == set(), "it is open: more may come"
    enqueue(producer, Noop(), batch_id=batch)
    assert close_batch(producer, batch)
    assert not close_batch(producer, batch)
    go_on(line)
    assert called(database) == {"all done", "all ended"}
    row = dependencies.batch(line.relay, batch)
    assert row is not None
    assert row.ended_at is not None
    assert line.task(row.on_done_task_id)["metadata"]["batch_id"] == str(batch)  # type: ignore[arg-type]
    go_on(line)
    assert called(database) == {"all done", "all ended"}


def test_the_first_failure_calls_back_at_once(database: Database, effects: Database, line: Line) -> None:
    producer = database.connect("producer")
    batch = open_batch(producer, "b", **CALLBACKS)  # type: ignore[arg-type]
    enqueue_many(producer, [Answer(outcome="fail"), Answer(outcome="cancel"), Answer(outcome="done")], batch_id=batch)
    go_on(line)
    assert called(database) == {"one failed"}
    close_batch(producer, batch)
    go_on(line)
    assert called(database) == {"one failed", "all ended"}
    assert counts(line, batch) == (3, 1, 1, 1)


def test_a_member_that_an_operator_cancels_counts_as_not_done(database: Database, line: Line) -> None:
    producer = database.connect("producer")
    batch = open_batch(producer, "b", **CALLBACKS)  # type: ignore[arg-type]
    member = enqueue(producer, Noop(), batch_id=batch)
    found = dependencies.batch_of(line.relay, member)
    assert found is not None
    assert found.id == batch
    close_batch(producer, batch)
    tasks.cancel(database.connect("operator"), member, "no")
    go_on(line)
    assert called(database) == {"one failed", "all ended"}


def test_an_empty_batch_ends_when_it_is_closed(database: Database, line: Line) -> None:
    producer = database.connect("producer")
    close_batch(producer, open_batch(producer, "b", **CALLBACKS))  # type: ignore[arg-type]
    go_on(line)
    assert called(database) == {"all done", "all ended"}


def test_closing_waits_for_who_is_adding_and_adding_to_a_closed_batch_is_refused(
    database: Database, line: Line
) -> None:
    producer = database.connect("producer")
    batch = open_batch(producer, "b", **CALLBACKS)  # type: ignore[arg-type]
    with psycopg.connect(database.url("producer")) as adding:
        enqueue(adding, Noop(), batch_id=batch)
        producer.execute("SET lock_timeout = '50ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            close_batch(producer, batch)
    with psycopg.connect(database.url("producer")) as closing:
        close_batch(closing, batch)
        assert dependencies.settle(line.relay, 100).settled == 0, "whoever settles does not wait for it"
    with pytest.raises(InvalidOptionsError, match="is closed"):
        enqueue(producer, Noop(), batch_id=batch)
    go_on(line)
    assert counts(line, batch) == (1, 1, 0, 0)
    assert called(database) == {"all done", "all ended"}


def test_it_does_not_end_before_all_that_was_added_is_counted(database: Database, line: Line) -> None:
    producer = database.connect("producer")
    batch = open_batch(producer, "b", **CALLBACKS)  # type: ignore[arg-type]
    first = enqueue(producer, Noop(), batch_id=batch)
    line.run(line.claim())
    enqueue(producer, Noop(), batch_id=batch)
    close_batch(producer, batch)
    database.rows("UPDATE queue.settlements SET id = DEFAULT WHERE added > 0 AND task_id IS DISTINCT FROM %s", (first,))
    dependencies.settle(line.relay, 2)
    assert called(database) == set()
    go_on(line)
    assert called(database) == {"all done", "all ended"}


def test_a_rolled_back_batch_leaves_nothing(database: Database) -> None:
    with psycopg.connect(database.url("producer")) as producer:
        batch = open_batch(producer, "b")
        enqueue(producer, Noop(), batch_id=batch)
        producer.rollback()
    assert database.value("SELECT count(*) FROM queue.batches") == 0
    assert database.value("SELECT count(*) FROM queue.settlements") == 0


@pytest.mark.parametrize("name", ["", "n" * 201])
def test_a_name_has_bounds(database: Database, name: str) -> None:
    with pytest.raises(InvalidOptionsError, match="1 to 200"):
        open_batch(database.connect("producer"), name)


def test_wrong_callbacks_and_ids_are_refused(database: Database, line: Line) -> None:
    producer = database.connect("producer")
    with pytest.raises(UnknownTaskTypeError, match=r"test\.nobody"):
        open_batch(producer, "b", on_done=Nobody())
    with pytest.raises(InvalidPayloadError):
        open_batch(producer, "b", on_done=Strict.model_construct(word="", amount=1, ref=uuid4()))
    with pytest.raises(InvalidOptionsError, match="no batch"):
        close_batch(producer, uuid4())
    with pytest.raises(psycopg.Error, match="unknown callback"):
        producer.execute("SELECT queue.open_batch('b', '{\"on_tuesday\": {}}')")


def test_a_batch_that_is_being_closed_holds_up_no_other(database: Database, line: Line) -> None:
    producer, slow = database.connect("producer"), database.connect("producer")
    busy = open_batch(producer, "busy")
    enqueue_many(producer, [Noop(n=n) for n in range(5)], batch_id=busy)
    while line.run_once():
        pass
    other = open_batch(producer, "other", **CALLBACKS)  # type: ignore[arg-type]
    close_batch(producer, other)
    with slow.transaction():
        assert close_batch(slow, busy)
        while not dependencies.settle(line.relay, 2).is_idle:
            pass
        assert called(database) == {"all done", "all ended"}
        assert counts(line, busy) == (0, 0, 0, 0)
    go_on(line)
    assert counts(line, busy) == (5, 5, 0, 0)


def test_nobody_calls_back_with_what_they_may_not_enqueue(database: Database) -> None:
    roll = '{"on_ended": {"task_type": "test.roll", "payload": {}}}'
    with pytest.raises(psycopg.Error, match="not bound to the tenant"):
        database.connect("producer").execute("SELECT queue.open_batch('x', %s)", (roll,))
    database.connect("operator").execute("SELECT queue.open_batch('x', %s)", (roll,))


def test_another_tenants_batch_is_not_there(database: Database, line: Line) -> None:
    tenant = database.value("INSERT INTO identity.tenants (name, slug) VALUES ('B', 'b') RETURNING id")
    theirs = open_batch(database.connect(), "b", tenant_id=tenant)
    with pytest.raises(InvalidOptionsError, match="no batch"):
        enqueue(database.connect("producer"), Noop(), batch_id=theirs)
    with pytest.raises(InvalidOptionsError):
        close_batch(database.connect("producer"), theirs)
    with pytest.raises(InvalidOptionsError):
        open_batch(database.connect("producer"), "b", tenant_id=tenant)
