"""The suite's own ground: clones are empty and apart, the engine runs, both brokers are there."""

import pytest

from pipelines.enqueue import enqueue
from pipelines.registry import Registry
from pipelines.waiting import wait_for
from tests.support.database import Database
from tests.support.engine import Line, engine
from tests.support.tasks import Report, Write
from workers.broker import AnyBroker


def test_each_test_has_an_empty_database(database: Database) -> None:
    assert database.value("SELECT count(*) FROM queue.outbox_tasks") == 0


def test_the_server_is_of_the_version_that_is_asked_for(database: Database, request: pytest.FixtureRequest) -> None:
    asked = request.config.getoption("postgres") or "18"
    assert database.value("SHOW server_version").split(".")[0] == asked


def test_the_engine_runs_a_task_over_each_broker(database: Database, registry: Registry, broker: AnyBroker) -> None:
    with engine(database, registry, broker):
        connection = database.connect("producer")
        task_id = enqueue(connection, Report(text="done"))
        end = wait_for(database.connect(), task_id, timeout=20)
    assert (end.status, end.result) == ("done", {"text": "done", "attempt": 1})


def test_the_line_runs_a_task_in_this_thread(effects: Database, line: Line) -> None:
    task_id = enqueue(effects.connect("producer"), Write(n=7))
    assert line.run_once() == 1
    assert line.task(task_id)["status"] == "done"
    assert effects.rows("SELECT n FROM effects") == [(7,)]
