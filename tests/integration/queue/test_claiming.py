"""The first claim after a rest: one step for whatever there is, and nothing that a look would have done otherwise."""

from itertools import count
from uuid import UUID

import pytest

from core import events
from db.connection import Connection
from db.queue import Capacity
from pipelines.enqueue import enqueue, enqueue_many
from tests.support.database import Database
from tests.support.engine import Line
from tests.support.tasks import Noop
from workers import claiming
from workers.claiming import Claimer

WANTED = Capacity("default", 1e9, ["test.noop"], [1], [100])


@pytest.fixture
def rested(line: Line) -> Claimer:
    """A claimer that has found nothing."""
    claimer = Claimer(limit=100, claim_seconds=30.0)
    assert claimer.claim(line.relay, WANTED).claims == []
    return claimer


@pytest.fixture
def operator(database: Database) -> Connection:
    """Who enqueues for any tenant."""
    return database.connect("operator")


def calls(recorded: list[events.Event]) -> list[str]:
    return [event.query for event in recorded if isinstance(event, events.StoreCalled)]


def test_what_comes_after_a_rest_is_claimed_in_one_step(
    database: Database, line: Line, rested: Claimer, operator: Connection, recorded: list[events.Event]
) -> None:
    other: UUID = database.value("INSERT INTO identity.tenants (name, slug) VALUES ('B', 'b') RETURNING id")
    ids = {
        enqueue(operator, Noop()),
        enqueue(operator, Noop(), tenant_id=other),
        enqueue(operator, Noop(), limit_key="k"),
    }
    recorded.clear()
    claims, is_all, wait = rested.claim(line.relay, WANTED)
    assert {claim.task_id for claim in claims} == ids
    assert (is_all, wait) == (True, None)
    assert calls(recorded) == ["queue.claim_first"]


def test_when_more_has_come_it_looks_how_much(
    line: Line, rested: Claimer, operator: Connection, recorded: list[events.Event]
) -> None:
    ids = set(enqueue_many(operator, [Noop(n=n) for n in range(50)]))
    recorded.clear()
    found = [rested.claim(line.relay, WANTED) for _ in range(3)]
    assert [len(claims) for claims, *_ in found] == [8, 42, 0]
    assert [is_all for _, is_all, _ in found] == [False, True, True]
    assert {claim.task_id for claims, *_ in found for claim in claims} == ids
    assert calls(recorded)[:3] == ["queue.claim_first", "queue.due_lanes", "queue.claim"]


def test_a_limit_that_is_set_during_the_rest_holds_at_once(
    database: Database, line: Line, rested: Claimer, operator: Connection
) -> None:
    database.rows("INSERT INTO queue.limits (kind, name, concurrency) VALUES ('queue', 'default', 2)")
    enqueue_many(operator, [Noop(n=n) for n in range(5)])
    assert len(rested.claim(line.relay, WANTED).claims) == 2


def test_lanes_of_what_nobody_may_run_do_not_hide_those_behind(
    database: Database, line: Line, operator: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claiming, "_LANES", 3)
    for key in "abcdefg":
        enqueue(operator, Noop(), limit_key=key)
    database.rows("UPDATE queue.tasks_live SET payload_version = 9")
    wanted = enqueue(operator, Noop(), limit_key="z")
    claimer = Claimer(limit=100, claim_seconds=30.0)
    found = [claimer.claim(line.relay, WANTED) for _ in range(3)]
    assert [claim.task_id for claims, *_ in found for claim in claims] == [wanted]
    assert [wait for claims, _, wait in found if not claims] == [0.0, 0.0], "the next are looked at at once"


def test_what_does_not_fit_is_left(line: Line, rested: Claimer, operator: Connection) -> None:
    enqueue_many(operator, [Noop(n=n) for n in range(5)])
    small = Capacity("default", 1.0, ["test.noop"], [1], [2])
    assert len(rested.claim(line.relay, small).claims) == 2
    assert len(rested.claim(line.relay, WANTED).claims) == 3


def test_a_paused_queue_is_left_alone(database: Database, line: Line, rested: Claimer, operator: Connection) -> None:
    enqueue(operator, Noop())
    database.rows("INSERT INTO queue.queues (name, paused_at) VALUES ('default', now())")
    assert rested.claim(line.relay, WANTED).claims == []


def test_where_a_look_is_dear_the_lanes_that_are_known_are_gone_on_with(
    line: Line, operator: Connection, recorded: list[events.Event]
) -> None:
    """As under an old transaction, when each look walks over all that was claimed since."""
    ticks = count(step=0.02)
    claimer = Claimer(limit=100, claim_seconds=30.0, clock=lambda: next(ticks))
    enqueue(operator, Noop())
    assert len(claimer.claim(line.relay, WANTED).claims) == 1
    recorded.clear()
    enqueue(operator, Noop())
    assert len(claimer.claim(line.relay, WANTED).claims) == 1
    assert calls(recorded) == ["queue.claim"]
    enqueue(operator, Noop(), limit_key="new")
    assert len(claimer.claim(line.relay, WANTED).claims) == 1, "a lane that is not known costs a look"
