"""Pending tasks without a sign of life: those whose type says for how long are cancelled, and no others."""

from collections.abc import Iterator
from datetime import timedelta
from typing import LiteralString
from uuid import UUID

import pytest
from psycopg import sql

from core import events
from db import stale, tasks
from db.connection import Connection, KeptConnection
from db.embedded import EmbeddedServer
from db.standings import FIRST
from pipelines.enqueue import enqueue_many
from pipelines.outcomes import Done
from pipelines.payload import Payload
from pipelines.publish import publish_types
from pipelines.registry import Registry
from pipelines.task import Task
from tests.support.database import Database, cloned
from workers import rescue
from workers.rescue import Caretaker
from workers.testing import drain

HOUR = timedelta(hours=1)


class Wanted(Payload):
    """What a user waits for, for an hour."""

    task_type = "test.wanted"


class Work(Payload):
    """What waits for as long as it takes."""

    task_type = "test.work"


TASKS = (
    Task(payload=Wanted, run=lambda context, payload: Done(), pending_limit=HOUR),
    Task(payload=Work, run=lambda context, payload: Done()),
)
AGE = """
UPDATE queue.tasks_live SET is_due = true, run_after = now() - %(due)s, updated_at = now() - %(alive)s WHERE id = %(id)s
"""
WRITE = "INSERT INTO queue.outbox_tasks (task_type, payload) VALUES (%s, '{}') RETURNING id"
ENDS = "SELECT id, last_error FROM queue.tasks_history WHERE status = 'cancelled' AND completed_at IS NOT NULL"
LONG = HOUR + timedelta(microseconds=1)


@pytest.fixture(scope="module")
def shared(server_without_fsync: EmbeddedServer, template_database: str) -> Iterator[Database]:
    with cloned(server_without_fsync, template_database) as database:
        publish_types(database.connect(), Registry(TASKS))
        yield database


@pytest.fixture
def relay(shared: Database) -> Iterator[Connection]:
    """A relay's transaction, in which the clock stands still; nothing is left of it."""
    connection = shared.connect("relay")
    with connection.transaction(force_rollback=True):
        yield connection


def aged(relay: Connection, due: timedelta, alive: timedelta | None = None, payload: Payload | None = None) -> UUID:
    """Write a task that was due so long ago, and that something happened to last so long ago."""
    [(task_id,)] = relay.execute(WRITE, ((payload or Wanted()).task_type,)).fetchall()
    relay.execute(AGE, {"id": task_id, "due": due, "alive": due if alive is None else alive})
    return UUID(str(task_id))


def cancelled(relay: Connection) -> dict[UUID, str]:
    """Look at all live tasks; return which have ended, and why."""
    looked = stale.cancel(relay, UUID(FIRST), 1000)
    ends = dict(relay.execute(ENDS).fetchall())
    assert looked.cancelled == len(ends)
    return ends


# ------------------------------------------------------------------------------------------------ at the edge


def test_a_task_is_cancelled_when_its_time_is_over_and_not_before(relay: Connection) -> None:
    young, old = aged(relay, HOUR), aged(relay, LONG)
    assert cancelled(relay) == {old: "pending for longer than 01:00:00 without a sign of life"}
    assert relay.execute("SELECT status FROM queue.tasks_live WHERE id = %s", (young,)).fetchall() == [("pending",)]


def test_what_happened_to_a_task_is_a_sign_of_life(relay: Connection) -> None:
    aged(relay, due=10 * HOUR, alive=HOUR)
    aged(relay, due=HOUR, alive=10 * HOUR)
    assert cancelled(relay) == {}


def test_a_backlog_of_another_type_is_never_touched(relay: Connection) -> None:
    for _ in range(3):
        aged(relay, timedelta(days=30), payload=Work())
    old = aged(relay, LONG)
    assert set(cancelled(relay)) == {old}


def test_held_and_paused_tasks_are_cancelled_too(relay: Connection) -> None:
    held, paused = aged(relay, LONG), aged(relay, LONG)
    relay.execute("UPDATE queue.tasks_live SET hold_reason = 'its tenant is suspended' WHERE id = %s", (held,))
    relay.execute("UPDATE queue.tasks_live SET queue = 'stopped' WHERE id = %s", (paused,))
    ends = cancelled(relay)
    assert set(ends) == {held, paused}
    assert ends[held].endswith("; held: its tenant is suspended")


@pytest.mark.parametrize(
    "change",
    [
        "claimed_until = now() + interval '1 min', batch_size = 1",
        "status = 'in_progress', attempts = 1, worker_id = gen_random_uuid(), started_at = now(), lease_until = now(), "
        "deadline_at = now(), claimed_until = now(), batch_size = 1",
        "is_waiting = true, is_due = false",
    ],
    ids=["claimed", "running", "waiting for another"],
)
def test_what_somebody_has_or_what_waits_for_others_stays(relay: Connection, change: LiteralString) -> None:
    task_id = aged(relay, LONG)
    query = sql.SQL("UPDATE queue.tasks_live SET {} WHERE id = %s").format(sql.SQL(change))
    relay.execute(query, (task_id,))
    assert cancelled(relay) == {}


def test_a_task_that_another_transaction_holds_is_left_for_later(shared: Database) -> None:
    relay, operator = shared.connect("relay"), shared.connect("operator")
    task_id = aged(relay, LONG)
    with operator.transaction():
        operator.execute("SELECT FROM queue.tasks_live WHERE id = %s FOR UPDATE", (task_id,))
        assert stale.cancel(relay, UUID(FIRST), 1000) == (task_id, 1, 0)
    assert stale.cancel(relay, UUID(FIRST), 1000) == (task_id, 1, 1)


# ------------------------------------------------------------------------------------------------ by the relay


@pytest.fixture
def caretaker(database: Database) -> Iterator[Caretaker]:
    care = Caretaker(KeptConnection(database.url("relay"), name="caretaker"), 30.0)
    yield care
    care.close()


def test_the_relay_looks_at_page_after_page_and_goes_on_there(
    database: Database, caretaker: Caretaker, recorded: list[events.Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_types(database.connect(), Registry(TASKS))
    monkeypatch.setattr(rescue, "_STALE_PAGE", 2)
    monkeypatch.setattr(rescue, "_STALE_PAGES", 2)
    relay = database.connect("relay")
    enqueue_many(database.connect("producer"), [Work()] * 3)
    olds = {aged(relay, LONG) for _ in range(4)}
    for _ in range(2):
        caretaker.run_once()
    assert {row[0] for row in database.rows(ENDS)} == olds
    caught = aged(relay, LONG)
    caretaker.run_once()  # from the first again
    assert caught in {row[0] for row in database.rows(ENDS)}
    told = [event for event in recorded if isinstance(event, events.StaleTasksCancelled)]
    assert told == [events.StaleTasksCancelled(count) for count in (1, 3, 1)]


def test_no_task_is_looked_at_where_no_type_asks_for_it(
    database: Database, caretaker: Caretaker, recorded: list[events.Event]
) -> None:
    publish_types(database.connect(), Registry(TASKS[1:]))
    caretaker.run_once()
    called = {event.query for event in recorded if isinstance(event, events.StoreCalled)}
    assert "stale.is_any" in called
    assert "stale.cancel" not in called


def test_a_type_says_for_how_long_and_says_it_no_more(database: Database) -> None:
    limit = "SELECT pending_limit FROM queue.task_types WHERE name = 'test.wanted'"
    publish_types(database.connect(), Registry(TASKS))
    assert database.value(limit) == HOUR
    publish_types(database.connect(), Registry([Task(payload=Wanted, run=TASKS[0].run)]))
    assert database.value(limit) is None


def test_a_cancelled_task_can_be_replayed(database: Database) -> None:
    publish_types(database.connect(), Registry(TASKS))
    relay = database.connect("relay")
    task_id = aged(relay, LONG)
    stale.cancel(relay, UUID(FIRST), 1000)
    tasks.replay(database.connect("operator"), [task_id])
    assert stale.cancel(relay, UUID(FIRST), 1000).cancelled == 0
    drain(database, Registry(TASKS))
    assert database.value("SELECT status FROM queue.outbox_tasks WHERE id = %s", (task_id,)) == "done"
