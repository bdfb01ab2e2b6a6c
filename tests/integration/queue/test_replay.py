"""Replays by filter: a slice at a time, at a rate, once each, whatever is killed, stopped or fails again."""

import itertools
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from pydantic import ValidationError

from db import dependencies, replays, tasks
from db.tasks import TaskFilter
from pipelines import replay
from pipelines.enqueue import enqueue
from pipelines.registry import Registry
from pipelines.replay import ReplayTasks
from pipelines.waiting import wait_for
from tests.integration.queue.test_worker_process import worker
from tests.support.database import Database
from tests.support.engine import Engine, Line, engine, fast_settings, publish
from tests.support.rows import ended
from tests.support.tasks import TASKS, Noop, Raise
from tests.support.waiting import eventually, pass_time
from workers.broker import InProcessBroker, open_broker
from workers.processes import Addresses, RelayProcess

FAILED = TaskFilter(statuses=("failed",))
_BLOCKED = """
SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE NOT granted AND usename = 'greenroom_system' AND datname = current_database()
"""


@pytest.fixture
def registry() -> Registry:
    return Registry([*TASKS, *replay.TASKS])


def ago(seconds: float) -> datetime:
    return datetime.now(UTC) - timedelta(seconds=seconds)


def failed(database: Database, count: int, **others: Any) -> list[UUID]:
    return ended(database, ago(1), status="failed", count=count, **others)


def ask(database: Database, **asked: Any) -> UUID:
    """Ask for a replay, as an operator does."""
    return enqueue(database.connect("operator"), ReplayTasks(**asked))


def step(line: Line, replay_id: UUID) -> dict[str, Any]:
    """Let a replay do its next slice now, and what it revives run; return the replay's row."""
    tasks.retry_now(line.database.connect("operator"), replay_id)
    line.run_once()
    row = line.task(replay_id)
    line.run_once()
    return row


def to_its_end(line: Line, replay_id: UUID) -> Any:
    """Let a replay do its slices; return its result."""
    row = eventually(lambda: ended_row if (ended_row := step(line, replay_id))["completed_at"] else None, pause=0.0)
    assert row is not None
    assert row["status"] == "done", row["last_error"]
    return row["result"]


def revivals(database: Database) -> Counter[UUID]:
    """Return how often each task was replayed."""
    query = "SELECT resource_id::uuid FROM audit.audit_events WHERE event_type = 'task.replayed'"
    return Counter(row[0] for row in database.rows(query))


def left(database: Database) -> int:
    return int(database.value("SELECT count(*) FROM queue.tasks_history WHERE status = 'failed'"))


# ---------------------------------------------------------------------------------------------- step by step


def test_a_slice_at_a_time_until_none_is_left(database: Database, line: Line) -> None:
    ids = failed(database, 5)
    replay_id = ask(database, rate=2, count=5)
    told = []
    while (row := step(line, replay_id))["completed_at"] is None:
        told.append((left(database), row["progress_message"], row["attempts"]))
    assert told == [(3, "0 of 5 replayed", 0), (1, "2 of 5 replayed", 0), (0, "4 of 5 replayed", 0)]
    assert (row["status"], row["result"]) == ("done", {"replayed": 5, "skipped": 0})
    assert (row["progress"], row["progress_message"]) == (1, "5 of 5 replayed")
    assert revivals(database) == Counter(ids)
    who = "SELECT DISTINCT actor, metadata->>'replay_id' FROM audit.audit_events WHERE event_type = 'task.replayed'"
    assert database.rows(who) == [("greenroom_system", str(replay_id))]
    assert {line.task(task_id)["status"] for task_id in ids} == {"done"}


def test_what_fails_again_is_not_replayed_again(database: Database, line: Line) -> None:
    producer = database.connect("producer")
    ids = [enqueue(producer, Raise(kind="permanent")) for _ in range(4)]
    line.run_once()
    assert left(database) == 4
    assert to_its_end(line, ask(database, rate=1)) == {"replayed": 4, "skipped": 0}
    assert left(database) == 4, "each failed again"
    assert revivals(database) == Counter(ids)


def test_no_more_than_were_asked_for_oldest_first(database: Database, line: Line) -> None:
    older, _ = ended(database, ago(60), status="failed", count=2), failed(database, 3)
    assert to_its_end(line, ask(database, count=2, rate=100)) == {"replayed": 2, "skipped": 0}
    assert revivals(database) == Counter(older)


def test_nothing_to_replay_is_done_at_once(database: Database, line: Line) -> None:
    assert step(line, ask(database))["result"] == {"replayed": 0, "skipped": 0}


def test_a_task_whose_key_was_taken_is_skipped_and_counted(database: Database, line: Line) -> None:
    producer = database.connect("producer")
    first = enqueue(producer, Raise(kind="permanent"), unique_key="k")
    line.run_once()
    enqueue(producer, Noop(), unique_key="k", run_after=datetime.now(UTC) + timedelta(hours=1))
    other = failed(database, 1)
    replay_id = ask(database, count=2)
    assert to_its_end(line, replay_id) == {"replayed": 1, "skipped": 1}
    assert line.task(replay_id)["progress_message"] == "1 of 2 replayed, 1 skipped"
    assert revivals(database) == Counter(other)
    assert line.task(first)["status"] == "failed"


def test_two_replays_of_the_same_tasks_replay_each_once(database: Database, line: Line) -> None:
    ids = failed(database, 9)
    one, other = ask(database, rate=2), ask(database, rate=3)
    step(line, one)
    assert len(revivals(database)) == 5, "a slice of each"
    to_its_end(line, one)
    to_its_end(line, other)
    assert revivals(database) == Counter(ids)
    assert sum(line.task(each)["result"]["replayed"] for each in (one, other)) == 9


def test_parents_and_children_run_as_the_graph_was_meant(database: Database, line: Line) -> None:
    producer = database.connect("producer")
    parent = enqueue(producer, Noop())
    child = enqueue(producer, Noop(), depends_on=[parent])
    tasks.cancel(database.connect("operator"), parent, "not now")
    dependencies.settle(line.relay, 100)
    assert line.task(child)["status"] == "failed"
    assert to_its_end(line, ask(database, cancelled=True)) == {"replayed": 2, "skipped": 0}
    assert (line.task(parent)["status"], line.task(child)["status"]) == ("done", "pending")
    while not dependencies.settle(line.relay, 100).is_idle:
        line.run_once()
    assert line.task(child)["status"] == "done"


def test_a_replay_that_was_stopped_goes_on_by_its_id_and_by_no_filter(database: Database, line: Line) -> None:
    ids = failed(database, 5)
    replay_id = ask(database, rate=1)
    step(line, replay_id)
    step(line, replay_id)
    operator = database.connect("operator")
    assert tasks.cancel(operator, replay_id, "enough") == "cancelled"
    assert len(revivals(database)) == 2
    groups = replays.preview(operator, TaskFilter(statuses=("failed", "cancelled")))
    assert groups == [replays.Group("test.noop", "default", 3)]
    assert tasks.replay(operator, [replay_id]) == [replay_id]
    assert to_its_end(line, replay_id) == {"replayed": 5, "skipped": 0}
    assert {task_id: revivals(database)[task_id] for task_id in ids} == dict.fromkeys(ids, 1)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, 7),
        ({"cancelled": True}, 10),
        ({"of_type": "test.write"}, 2),
        ({"queue": "elsewhere"}, 1),
        ({"error": "SECRET"}, 7),
        ({"error": "%"}, 0),
        ({"since": ago(600)}, 5),
        ({"until": ago(600)}, 2),
        ({"of_type": "test.write", "since": ago(600)}, 0),
        ({"tenant_id": UUID(int=7)}, 0),
        ({"owner_id": UUID(int=7)}, 0),
    ],
)
def test_a_filter_names_the_same_tasks_in_preview_listing_and_replay(
    database: Database, line: Line, asked: dict[str, Any], expected: int
) -> None:
    ended(database, ago(3600), status="failed", task_type="test.write", count=2)
    ended(database, ago(1), count=3)
    ended(database, ago(1), status="cancelled", count=3)
    failed(database, 1, queue="elsewhere")
    failed(database, 4)
    wanted, operator = ReplayTasks(**asked).wanted(), database.connect("operator")
    assert sum(group.count for group in replays.preview(operator, wanted)) == expected
    assert len(tasks.list_tasks(operator, wanted, limit=100)) == expected
    replay_id = ask(database, **asked)
    assert step(line, replay_id)["completed_at"] is None or expected == 0
    assert len(revivals(database)) == expected


def test_a_replay_works_across_tenants_or_for_the_one_that_is_named(database: Database, line: Line) -> None:
    theirs = database.value("INSERT INTO identity.tenants (name, slug) VALUES ('B', 'b') RETURNING id")
    ours, [other] = failed(database, 2), failed(database, 1)
    database.rows("UPDATE queue.tasks_history SET tenant_id = %s WHERE id = %s", (theirs, other))
    assert to_its_end(line, ask(database, tenant_id=theirs)) == {"replayed": 1, "skipped": 0}
    assert revivals(database) == Counter([other])
    assert line.task(other)["tenant_id"] == theirs
    assert to_its_end(line, ask(database)) == {"replayed": 2, "skipped": 0}
    assert revivals(database) == Counter([other, *ours])


def test_the_preview_counts_no_more_than_it_is_asked_to(database: Database) -> None:
    failed(database, 5)
    failed(database, 2, queue="elsewhere")
    operator = database.connect("operator")
    groups = [replays.Group("test.noop", "default", 5), replays.Group("test.noop", "elsewhere", 2)]
    assert replays.preview(operator, FAILED) == groups
    assert sum(group.count for group in replays.preview(operator, FAILED, 3)) == 3


def test_a_slice_is_planned_for_its_filter(database: Database) -> None:
    system = database.connect("system")
    with system.transaction():
        assert replays.following(system, FAILED, 5) == []
        assert system.execute("SHOW plan_cache_mode").fetchone() == ("force_custom_plan",)
    assert system.execute("SHOW plan_cache_mode").fetchone() == ("force_generic_plan",)


@pytest.mark.parametrize(
    "wrong", [{"rate": 0}, {"rate": -1}, {"rate": 1001}, {"rate": float("nan")}, {"count": 0}, {"since": "today"}]
)
def test_a_replay_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ReplayTasks(**wrong)


# ------------------------------------------------------------------------------------------- with real workers


@contextmanager
def running(database: Database, registry: Registry) -> Iterator[Engine]:
    with engine(database, registry, InProcessBroker(), heartbeat=True) as started:
        yield started


def test_the_rate_holds(database: Database, registry: Registry) -> None:
    ids = failed(database, 50)
    with running(database, registry):
        end = wait_for(database.connect(), ask(database, rate=20), timeout=30)
    assert end.result == {"replayed": 50, "skipped": 0}
    query = (
        "SELECT created_at, count(*) FROM audit.audit_events WHERE event_type = 'task.replayed' GROUP BY 1 ORDER BY 1"
    )
    slices = database.rows(query)
    assert [count for _, count in slices] == [20, 20, 10]
    gaps = [later[0] - earlier[0] for earlier, later in itertools.pairwise(slices)]
    assert min(gaps) >= timedelta(seconds=1)
    assert max(gaps) < timedelta(seconds=5), "nor does it dawdle"
    assert revivals(database) == Counter(ids)


def test_a_cancel_stops_it_within_two_seconds_and_what_was_replayed_stays(
    database: Database, registry: Registry
) -> None:
    failed(database, 200)
    with running(database, registry):
        replay_id = ask(database, rate=20)
        eventually(lambda: len(revivals(database)) >= 40)
        asked = time.monotonic()
        tasks.cancel(database.connect("operator"), replay_id, "enough")
        end = wait_for(database.connect(), replay_id, timeout=10)
        assert time.monotonic() - asked <= 2.0
        assert (end.status, end.error) == ("cancelled", "enough")
        stopped_at = len(revivals(database))
        pass_time(1.5)
        assert len(revivals(database)) == stopped_at < 200
        done = "SELECT count(*) FROM queue.tasks_history WHERE task_type = 'test.noop' AND status = 'done'"
        eventually(lambda: database.value(done) == stopped_at)
    assert left(database) == 200 - stopped_at


def test_a_worker_that_is_killed_within_a_slice_loses_and_doubles_nothing(
    database: Database, registry: Registry, redis_url: str
) -> None:
    ids = failed(database, 6)
    publish(database, registry)
    broker = open_broker(redis_url, "test")
    relay = RelayProcess(fast_settings(), Addresses(database.url("relay")), broker)
    relay.start()
    blocker = database.connect()
    with worker(database, redis_url) as process:
        replay_id = ask(database, rate=2)
        eventually(lambda: revivals(database), 20)
        with blocker.transaction():
            # A slice writes its attempt last: it is held up with all its effects before its commit.
            blocker.execute("LOCK TABLE queue.attempts IN SHARE ROW EXCLUSIVE MODE")
            eventually(lambda: database.value(_BLOCKED) == 1)
            assert len(revivals(database)) in {2, 4}
            process.kill()
            process.wait(10)
    with worker(database, redis_url):
        end = wait_for(database.connect(), replay_id, timeout=60)
    assert (end.status, end.result) == ("done", {"replayed": 6, "skipped": 0})
    assert revivals(database) == Counter(ids)
    query = "SELECT count(*) FROM queue.attempts WHERE task_id = %s AND outcome = 'lost'"
    assert database.value(query, (replay_id,)) == 1
    relay.stop()
    broker.close()
