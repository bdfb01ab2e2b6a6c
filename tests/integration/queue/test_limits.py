"""Limits (I5): concurrency and rates by queue, type, tenant and key hold exactly, leak nothing and starve nobody."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from core.errors import InvalidOptionsError, UsageError
from db import leases, limits, queue, tasks
from db.queue import Capacity, Claim
from pipelines.enqueue import enqueue, enqueue_fields, enqueue_many
from pipelines.registry import Registry
from tests.support.database import Database
from tests.support.engine import Line, claim_from, engine, fast_settings
from tests.support.tasks import Noop, Write
from tests.support.waiting import eventually
from workers import claiming
from workers.broker import InProcessBroker

DEFAULT_TENANT = UUID("00000000-0000-7000-8000-000000000001")
TYPES = ["test.noop", "test.write"]
WANTED = Capacity("default", 1e9, TYPES, [1, 1], [100, 10])
_SET = (
    "INSERT INTO queue.limits (kind, name, concurrency, rate, rate_seconds, burst)"
    " VALUES (%(kind)s, %(name)s, %(concurrency)s, %(rate)s, %(rate_seconds)s, %(burst)s)"
)


def limit(database: Database, kind: str, name: str, concurrency: int | None = None, **rate: float) -> None:
    """Set a limit as the owner."""
    given: dict[str, Any] = dict.fromkeys(("rate", "rate_seconds", "burst")) | rate
    database.rows(_SET, {"kind": kind, "name": name, "concurrency": concurrency} | given)


def keys_of(claims: Sequence[Claim]) -> Counter[str]:
    return Counter(claim.limit_key or "" for claim in claims)


@pytest.fixture
def producer(database: Database, line: Line) -> psycopg.Connection[Any]:
    """Who enqueues; the line has published the types."""
    return database.connect("producer")


@pytest.mark.parametrize(
    ("kind", "name"), [("queue", "default"), ("queue", "*"), ("task_type", "test.noop"), ("tenant", "*"), ("key", "k")]
)
def test_a_concurrency_is_reached_and_never_passed(
    database: Database, line: Line, producer: psycopg.Connection[Any], kind: str, name: str
) -> None:
    limit(database, kind, name, 3)
    enqueue_many(producer, [Noop(n=n) for n in range(10)], limit_key="k")

    first = line.claim()
    assert len(first) == 3
    assert line.claim() == []
    attempts = line.take(first)
    assert line.claim() == [], "what runs is occupied too"
    leases.finish(line.worker, [leases.Ending(attempts[0], "done")], line.process.id)
    assert len(line.claim()) == 1, "a slot is free when its task has ended, and not by any count"


def test_eight_relays_at_once_let_no_more_in(database: Database, producer: psycopg.Connection[Any]) -> None:
    limit(database, "queue", "default", 7)
    enqueue_many(producer, [Noop(n=n) for n in range(100)])
    relays = [database.connect("relay") for _ in range(8)]
    for _ in range(20):
        with ThreadPoolExecutor(8) as pool:
            claimed = [claim for found in pool.map(lambda relay: claim_from(relay, WANTED), relays) for claim in found]
        assert len(claimed) == 7
        assert queue.give_back(relays[0], [(c.task_id, c.claim_number) for c in claimed]) == 7


def test_the_limit_of_one_name_stands_in_place_of_that_of_all(
    database: Database, line: Line, producer: psycopg.Connection[Any]
) -> None:
    limit(database, "key", "*", 2)
    limit(database, "key", "b", 5)
    for key in ("a", "b", "c"):
        enqueue_many(producer, [Noop(n=n) for n in range(10)], limit_key=key)
    enqueue_many(producer, [Noop(n=n) for n in range(10)])
    assert keys_of(line.claim()) == {"a": 2, "b": 5, "c": 2, "": 10}


def test_the_narrowest_of_several_limits_holds(
    database: Database, line: Line, producer: psycopg.Connection[Any]
) -> None:
    limit(database, "queue", "default", 9)
    limit(database, "task_type", "test.write", 2)
    limit(database, "key", "k", 4)
    enqueue_many(producer, [Write(n=n) for n in range(10)])
    enqueue_many(producer, [Noop(n=n) for n in range(10)], limit_key="k")
    enqueue_many(producer, [Noop(n=n) for n in range(10)])
    claims: list[Claim] = []
    while found := line.claim():
        claims += found
    assert Counter((c.task_type, c.limit_key) for c in claims) == {
        ("test.write", None): 2,
        ("test.noop", "k"): 4,
        ("test.noop", None): 3,
    }


def test_tasks_behind_a_full_key_and_a_full_type_are_found(
    database: Database, line: Line, producer: psycopg.Connection[Any]
) -> None:
    limit(database, "key", "full", 1)
    limit(database, "task_type", "test.write", 1)
    enqueue_many(producer, [Noop(n=n) for n in range(3000)], limit_key="full", priority=50)
    enqueue_many(producer, [Write(n=n) for n in range(3000)], priority=50)
    behind = enqueue_many(producer, [Noop(n=n) for n in range(5)])
    claims: list[Claim] = []
    while found := line.claim(limit=100):
        claims += found
    assert Counter(c.task_type for c in claims) == {"test.noop": 6, "test.write": 1}
    assert set(behind) <= {c.task_id for c in claims}


def test_lanes_behind_many_full_ones_are_found_and_all_full_ones_are_waited_for(
    database: Database, line: Line, producer: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claiming, "_LANES", 3)
    limit(database, "key", "*", 1)
    limit(database, "key", "last", 5)
    for key in ("a", "b", "c", "d", "e", "f", "g", "last"):
        enqueue_many(producer, [Noop(n=n) for n in range(8)], limit_key=key)
    claimer = claiming.Claimer(limit=100, claim_seconds=30.0)
    found = [claimer.claim(line.relay, WANTED) for _ in range(20)]
    assert keys_of([claim for one in found for claim in one.claims]) == dict.fromkeys("abcdefg", 1) | {"last": 5}
    waits = [one.wait for one in found if not one.claims]
    assert 0.0 in waits, "those that were not looked at yet are looked at at once"
    assert any(wait is not None and 0 < wait <= 0.5 for wait in waits), "but no relay spins"


def test_tasks_under_a_small_limit_travel_alone(
    database: Database, line: Line, producer: psycopg.Connection[Any]
) -> None:
    limit(database, "task_type", "test.noop", 6)
    limit(database, "task_type", "test.write", 640)
    enqueue_many(producer, [Noop(n=n) for n in range(10)])
    enqueue_many(producer, [Write(n=n) for n in range(10)])
    assert Counter((c.task_type, c.batch_size) for c in line.claim()) == {("test.noop", 1): 6, ("test.write", 10): 10}


def test_a_rate_lets_its_burst_in_and_then_token_by_token(
    database: Database, line: Line, producer: psycopg.Connection[Any]
) -> None:
    limit(database, "queue", "default", rate=2, rate_seconds=3600, burst=5)
    enqueue_many(producer, [Noop(n=n) for n in range(20)])
    assert len(line.claim()) == 5
    assert line.claim() == []
    database.rows("UPDATE queue.limit_tokens SET refilled_at = refilled_at - interval '1 h'")
    assert len(line.claim()) == 2
    database.rows("UPDATE queue.limit_tokens SET refilled_at = refilled_at - interval '1 day'")
    assert len(line.claim()) == 5, "a bucket holds no more than its burst"


def test_a_bucket_of_a_clock_that_was_ahead_is_full_again(
    database: Database, line: Line, producer: psycopg.Connection[Any]
) -> None:
    limit(database, "queue", "default", rate=2, rate_seconds=3600, burst=5)
    enqueue_many(producer, [Noop(n=n) for n in range(20)])
    assert len(line.claim()) == 5
    database.rows("UPDATE queue.limit_tokens SET refilled_at = now() + interval '1 h'")
    assert len(line.claim()) == 5
    assert line.claim() == []


def test_each_tenant_has_a_bucket_of_its_own(database: Database, line: Line, producer: psycopg.Connection[Any]) -> None:
    other: UUID = database.value("INSERT INTO identity.tenants (name, slug) VALUES ('B', 'b') RETURNING id")
    limit(database, "tenant", "*", rate=1, rate_seconds=3600, burst=3)
    operator = database.connect("operator")
    enqueue_many(operator, [Noop(n=n) for n in range(10)])
    enqueue_many(operator, [Noop(n=n) for n in range(10)], tenant_id=other)
    claims = line.claim()
    assert sorted(Counter(c.tenant_id for c in claims).values()) == [3, 3]
    assert database.value("SELECT count(*) FROM queue.limit_tokens WHERE kind = 'tenant' AND tokens < 1") == 2


def test_a_relay_is_told_when_more_may_be_let_in(
    database: Database, line: Line, producer: psycopg.Connection[Any]
) -> None:
    limit(database, "queue", "default", rate=1, rate_seconds=60, burst=1)
    enqueue_many(producer, [Noop(n=n) for n in range(3)])
    [_] = line.claim()
    lanes = {queue.FIRST_LANE: queue.FIRST_RANK, queue.Lane(DEFAULT_TENANT, ""): queue.FIRST_RANK}
    admitted = limits.claim(line.relay, WANTED, queue.Reach(lanes, 10, 30.0))
    assert admitted.claims == []
    assert admitted.wait is not None
    assert 55 < admitted.wait <= 60
    assert not admitted.is_full


def test_a_pause_that_ends_by_itself_needs_nobody(database: Database, registry: Registry) -> None:
    settings = fast_settings(relay={"poll_seconds": 30.0, "poll_seconds_deaf": 30.0})
    with engine(database, registry, InProcessBroker(), settings=settings):
        until = datetime.now(UTC) + timedelta(seconds=1)
        tasks.pause(database.connect("operator"), "default", until)
        enqueue(database.connect("producer"), Noop())
        eventually(lambda: database.value("SELECT count(*) FROM queue.tasks_live") == 0, 10)
    started: datetime = database.value("SELECT started_at FROM queue.tasks_history")
    assert until <= started < until + timedelta(seconds=1)


def test_a_slot_that_is_free_is_used_at_once(database: Database, registry: Registry) -> None:
    limit(database, "queue", "default", 1)
    settings = fast_settings(relay={"poll_seconds": 30.0, "poll_seconds_deaf": 30.0})
    with engine(database, registry, InProcessBroker(), settings=settings):
        enqueue_many(database.connect("producer"), [Noop(n=n) for n in range(100)])
        eventually(lambda: database.value("SELECT count(*) FROM queue.tasks_live") == 0, 10)
    overlapping = """
        SELECT count(*) FROM queue.tasks_history a JOIN queue.tasks_history b ON a.id < b.id
            AND a.started_at < b.completed_at AND b.started_at < a.completed_at"""
    assert database.value(overlapping) == 0


def test_a_type_has_a_key_that_an_enqueue_may_change(
    database: Database, line: Line, producer: psycopg.Connection[Any]
) -> None:
    database.rows("UPDATE queue.task_types SET limit_key = 'usual' WHERE name = 'test.noop'")
    usual = enqueue(producer, Noop())
    other = enqueue(producer, Noop(), limit_key="other")
    replaced = enqueue(producer, Noop(), unique_key="u")
    fields = enqueue_fields(producer, "test.noop", {"n": 1}, limit_key="from sql")
    foreign = database.value(
        "INSERT INTO queue.outbox_tasks (task_type, payload) VALUES ('test.noop', '{}') RETURNING id"
    )
    found = {name: line.task(task)["limit_key"] for name, task in locals().items() if isinstance(task, UUID)}
    assert found == {
        "usual": "usual", "other": "other", "replaced": "usual", "fields": "from sql", "foreign": "usual"
    }  # fmt: skip


def test_a_key_is_kept_through_failure_and_replay(
    database: Database, line: Line, producer: psycopg.Connection[Any]
) -> None:
    task_id = enqueue(producer, Noop(), limit_key="k")
    operator = database.connect("operator")
    assert tasks.cancel(operator, task_id, "x") == "cancelled"
    assert line.task(task_id)["limit_key"] == "k"
    assert tasks.replay(operator, [task_id]) == [task_id]
    assert line.task(task_id)["limit_key"] == "k"
    line.run_once()
    assert (line.task(task_id)["status"], line.task(task_id)["limit_key"]) == ("done", "k")


def test_a_relay_that_freezes_with_the_limits_in_its_hands_is_cut_off(
    database: Database, line: Line, producer: psycopg.Connection[Any]
) -> None:
    limit(database, "queue", "default", 3)
    enqueue_many(producer, [Noop(n=n) for n in range(5)])
    frozen = database.connect("relay")
    frozen.execute("BEGIN")
    held = {"queue": "default", "task_types": TYPES, "tenants": [], "keys": []}
    assert limits.QUERIES.run(frozen, "hold", held)
    assert len(line.claim()) == 3, "the others wait for seconds, and not for as long as it is frozen"
    with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout):
        frozen.execute("SELECT 1")


def test_who_may_do_what_with_limits(database: Database) -> None:
    allowed = {
        (role, privilege): database.value(
            "SELECT has_table_privilege(%s, 'queue.limits', %s)", (f"greenroom_{role}", privilege)
        )
        for role in ("relay", "worker", "system", "producer", "operator", "reader")
        for privilege in ("SELECT", "INSERT", "UPDATE", "DELETE")
    }
    readers = {role for (role, privilege), may in allowed.items() if may and privilege == "SELECT"}
    writers = {(role, privilege) for (role, privilege), may in allowed.items() if may and privilege != "SELECT"}
    assert readers == {"relay", "worker", "system", "operator", "reader"}
    assert writers == {("operator", "INSERT"), ("operator", "UPDATE"), ("operator", "DELETE"), ("relay", "DELETE")}


def test_a_tenant_is_named_as_postgres_writes_its_id(database: Database, line: Line) -> None:
    operator = database.connect("operator")
    limits.set_limit(operator, limits.Limit("tenant", str(DEFAULT_TENANT), 1))
    with pytest.raises(UsageError, match="no tenant has the id"):
        limits.set_limit(operator, limits.Limit("tenant", str(DEFAULT_TENANT).upper().replace("-", ""), 1))
    assert [row.name for row in limits.limits(operator)] == [str(DEFAULT_TENANT)]


@pytest.mark.parametrize("key", ["", "x" * 201, "*", 7])
def test_a_key_that_cannot_be_is_refused(producer: psycopg.Connection[Any], key: Any) -> None:
    with pytest.raises(InvalidOptionsError, match="limit_key"):
        enqueue(producer, Noop(), limit_key=key)
