"""Unique keys: keep, replace, debounce, from Python and from SQL."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from core.errors import InvalidOptionsError
from db import dependencies
from pipelines.enqueue import enqueue
from tests.support.database import Database
from tests.support.engine import Line
from tests.support.tasks import Answer, Noop

pytestmark = pytest.mark.usefixtures("line")


def test_replace_gives_the_waiting_task_the_new_payload_and_options(database: Database, line: Line) -> None:
    producer = database.connect("producer")
    first = enqueue(producer, Noop(n=1), unique_key="k", priority=5)
    assert enqueue(producer, Noop(n=2), unique_key="k", unique_mode="replace", queue="other") == first
    row = line.task(first)
    assert (row["payload"], row["queue"], row["priority"]) == ({"n": 2}, "other", 0)
    assert database.value("SELECT count(*) FROM queue.tasks_live") == 1


def test_what_replaces_a_running_task_waits_behind_it_and_is_itself_replaced(database: Database, line: Line) -> None:
    producer = database.connect("producer")
    running = enqueue(producer, Noop(n=1), unique_key="k")
    attempts = line.take(line.claim())
    behind = enqueue(producer, Noop(n=2), unique_key="k", unique_mode="replace")
    assert behind != running
    assert enqueue(producer, Noop(n=3), unique_key="k", unique_mode="replace") == behind
    assert enqueue(producer, Noop(n=4), unique_key="k") in (running, behind), "keep keeps what lives"
    assert line.claim() == []
    assert line.task(behind)["payload"] == {"n": 3}
    line.database.rows("UPDATE queue.tasks_live SET lease_until = now() WHERE id = %s", (attempts[0].task_id,))
    from db import queue

    queue.rescue(line.relay, 10)  # the attempt is lost, the task waits again: the other stays behind it
    dependencies.settle(line.relay, 100)
    order: list[UUID] = []
    for _ in range(5):
        claims = line.claim()
        order += [c.task_id for c in claims]
        line.run(claims)
        while not dependencies.settle(line.relay, 100).is_idle:
            pass
    assert order == [running, behind]


@pytest.mark.parametrize("mode", ["keep", "replace"])
def test_a_failed_task_blocks_no_new_one(database: Database, line: Line, mode: Any) -> None:
    producer = database.connect("producer")
    first = enqueue(producer, Answer(outcome="fail"), unique_key="k")
    while line.run_once():
        pass
    assert enqueue(producer, Noop(), unique_key="k", unique_mode=mode) != first


def test_debounce_pushes_the_due_time_back_but_not_past_the_latest(database: Database, line: Line) -> None:
    producer = database.connect("producer")

    def again(n: int, seconds: float) -> UUID:
        return enqueue(
            producer, Noop(n=n), unique_key="k", unique_mode="debounce", debounce=timedelta(seconds=seconds),
            debounce_latest=timedelta(minutes=10),
        )  # fmt: skip

    first = again(1, 60)
    early = line.task(first)["run_after"]
    assert again(2, 300) == first
    row = line.task(first)
    assert row["run_after"] - early > timedelta(seconds=200)
    assert (row["payload"], row["is_due"]) == ({"n": 2}, False)
    assert again(3, 600) == first
    assert line.task(first)["run_after"] == row["created_at"] + timedelta(minutes=10)


def test_debounce_from_sql(database: Database, line: Line) -> None:
    options = '{"unique_key": "k", "unique_mode": "debounce", "debounce_seconds": 60}'
    query = f"SELECT queue.enqueue('test.noop', '{{}}', '{options}')"
    producer = database.connect("producer")
    [(first,)], [(second,)] = (producer.execute(query.encode()).fetchall() for _ in range(2))
    assert first == second
    assert line.task(first)["run_after"] > datetime.now(UTC)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"unique_key": "k" * 10_000}, "1 to 200 characters"),
        ({"unique_mode": "replace"}, "give one"),
        ({"unique_key": "k", "unique_mode": "best"}, "one of"),
        ({"unique_key": "k", "unique_mode": "debounce"}, "go together"),
        ({"unique_key": "k", "debounce": timedelta(1)}, "go together"),
        ({"unique_key": "k", "unique_mode": "debounce", "debounce": 5}, "timedelta"),
        ({"unique_key": "k", "unique_mode": "debounce", "debounce": timedelta(-1)}, "not negative"),
        ({"unique_key": "k", "unique_mode": "debounce", "debounce": timedelta(900)}, "a year"),
        (
            {"unique_key": "k", "unique_mode": "debounce", "debounce": timedelta(1), "debounce_latest": timedelta(0)},
            "at least",
        ),
        ({"unique_key": "k", "unique_mode": "replace", "debounce_latest": timedelta(1)}, "is for"),
        (
            {
                "unique_key": "k", "unique_mode": "debounce", "debounce": timedelta(1),
                "run_after": datetime(2030, 1, 1, tzinfo=UTC),
            },
            "leave run_after out",
        ),
    ],
    ids=str,
)  # fmt: skip
def test_contradictions_are_refused(database: Database, options: Any, says: str) -> None:
    with pytest.raises(InvalidOptionsError, match=says):
        enqueue(database.connect("producer"), Noop(), **options)


def test_a_key_of_10_kb_is_refused_from_sql_too(database: Database) -> None:
    query = "SELECT queue.enqueue('test.noop', '{}', jsonb_build_object('unique_key', repeat('k', 10000)))"
    with pytest.raises(psycopg.Error, match="1 to 200 characters, not 10000") as caught:
        database.connect("producer").execute(query)
    assert caught.value.sqlstate == "GR003"
