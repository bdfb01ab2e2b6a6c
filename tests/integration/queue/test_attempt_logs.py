"""Log lines of handlers are kept with their attempts; a task without any has no row for it."""

import logging
from collections.abc import Iterator

import pytest

from db import tasks
from pipelines.enqueue import enqueue
from pipelines.registry import Registry
from tests.support import stuck_tasks
from tests.support.database import Database
from tests.support.engine import Line
from tests.support.stuck_tasks import Talk
from tests.support.tasks import Noop
from workers.attemptlogs import AttemptLogs


@pytest.fixture
def talking(database: Database) -> Iterator[Line]:
    """A line whose handlers are listened to."""
    line = Line(database, Registry(stuck_tasks.TASKS))
    logs = AttemptLogs(line.executor.running)
    logs.start()
    logging.getLogger("handlers.talk").setLevel(logging.INFO)
    yield line
    logging.getLogger("handlers.talk").setLevel(logging.NOTSET)
    logs.close()
    line.close()


@pytest.mark.filterwarnings("ignore:beware")
def test_a_done_task_that_logged_has_its_lines(talking: Line) -> None:
    producer = talking.database.connect("producer")
    task_id, quiet = enqueue(producer, Talk(lines=2, secret="correct horse")), enqueue(producer, Noop())
    talking.run_once()
    assert talking.task(task_id)["status"] == talking.task(quiet)["status"] == "done"
    [attempt] = tasks.attempts(talking.database.connect("operator"), task_id)
    assert (attempt.number, attempt.outcome, attempt.error) == (1, "done", None)
    assert attempt.log is not None
    assert [line.partition(": ")[2] for line in attempt.log.splitlines()] == [
        "line 0 of [payload]",
        "line 1 of [payload]",
    ]
    assert tasks.attempts(talking.database.connect("operator"), quiet) == []


@pytest.mark.filterwarnings("ignore:beware")
def test_a_failed_attempt_has_its_lines_beside_its_error(talking: Line) -> None:
    task_id = enqueue(talking.database.connect("producer"), Talk(lines=1, secret="correct horse", end="raise"))
    talking.run_once()
    [attempt] = tasks.attempts(talking.database.connect("operator"), task_id)
    assert attempt.outcome == "fail"
    assert attempt.log is not None
    assert "could not use [payload] (KeyError at tests.support.stuck_tasks:" in attempt.log
    assert "correct horse" not in attempt.log + str(attempt.error) + str(attempt.traceback)
