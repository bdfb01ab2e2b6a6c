"""The kit for users' tests: what it finds, what it says when it does not, what it runs, and the example of its page."""

import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from core.errors import UsageError
from pipelines.enqueue import enqueue, enqueue_many
from pipelines.registry import Registry
from tests.support import tasks
from tests.support.database import Database
from tests.support.engine import publish
from tests.support.tasks import Noop, Report, Write
from workers.testing import assert_enqueued, drain, enqueued, run_task

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def published(database: Database, registry: Registry) -> Database:
    """A database that knows the task types of the tests."""
    publish(database, registry)
    return database


def test_what_was_enqueued_is_found_before_the_commit(published: Database) -> None:
    producer = published.connect("producer")
    with producer.transaction(force_rollback=True):
        ids = enqueue_many(producer, [Noop(n=1), Noop(n=2), Noop(n=2)], priority=7)
        found = assert_enqueued(producer, Noop, n=2, options={"priority": 7})
        assert [task.id for task in found] == ids[1:]
    assert enqueued(producer, Noop) == []


def test_a_session_of_sqlalchemy_sees_its_own(published: Database) -> None:
    engine = create_engine(published.owner_url.replace("postgresql://", "postgresql+psycopg://"))
    with Session(engine) as session:
        enqueue(session, Noop(n=5))
        assert assert_enqueued(session, Noop, n=5)[0].payload == Noop(n=5)
        assert assert_enqueued(session.connection(), Noop)
    engine.dispose()


def test_a_failure_lists_what_was_enqueued_instead(published: Database) -> None:
    producer = published.connect("producer")
    with pytest.raises(AssertionError, match=r"no task test\.noop was enqueued with n=3\n.*no tasks at all"):
        assert_enqueued(producer, Noop, n=3)
    enqueue(producer, Report(text="x"))
    with pytest.raises(AssertionError, match=r"enqueued were: 1 × test\.report"):
        assert_enqueued(producer, Noop)
    enqueue(producer, Noop(n=4), unique_key="k")
    with pytest.raises(AssertionError, match=r"(?s)priority=9.*1 of that type:\n  Noop\(n=4\) .*unique_key=k"):
        assert_enqueued(producer, Noop, n=4, options={"priority": 9})


def test_a_field_or_an_option_that_does_not_exist_is_a_wrong_call(published: Database) -> None:
    with pytest.raises(UsageError, match="no field 'm'; it has n"):
        assert_enqueued(published.connect(), Noop, m=1)
    with pytest.raises(UsageError, match="no option 'prio'; there are queue"):
        assert_enqueued(published.connect(), Noop, options={"prio": 1})


def test_draining_runs_what_is_due_and_leaves_what_is_not(effects: Database, registry: Registry) -> None:
    publish(effects, registry)
    producer = effects.connect("producer")
    enqueue_many(producer, [Write(n=1), Write(n=2)])
    enqueue(producer, Write(n=3), run_after=datetime.now(UTC) + timedelta(hours=1))
    drained = drain(effects, registry)
    assert drained.outcomes == {("test.write", "done"): 2}
    assert sorted(effects.rows("SELECT n FROM effects")) == [(1,), (2,)]
    assert effects.rows("SELECT id FROM queue.processes") == [], "nothing stays behind"
    assert drain(effects, registry).attempts == ()


def test_draining_has_a_bound_and_gives_back_what_it_did_not_run(published: Database, registry: Registry) -> None:
    enqueue_many(published.connect("producer"), [Noop() for _ in range(5)])
    with pytest.raises(AssertionError, match=r"0 attempts were run and more is due: 5 × test\.noop"):
        drain(published, registry, limit=4)
    assert len(drain(published, registry, limit=5).attempts) == 5


def test_one_handler_is_run_with_its_effects(effects: Database, registry: Registry) -> None:
    others = enqueue_first(effects, registry)
    run = run_task(effects, registry.get("test.write"), Write(n=7), registry=registry)
    assert (run.outcome, run.status, run.error) == ("done", "done", None)
    assert effects.rows("SELECT n FROM effects") == [(7,)]
    waiting = "SELECT claimed_until, attempts FROM queue.tasks_live WHERE id = %s"
    assert effects.rows(waiting, (others,)) == [(None, 0)], "no other task is touched"


def enqueue_first(database: Database, registry: Registry) -> object:
    publish(database, registry)
    return enqueue(database.connect("producer"), Noop())


def test_the_number_of_the_attempt_is_the_caller_s(database: Database) -> None:
    run = run_task(database, Registry(tasks.TASKS).get("test.report"), Report(text="x"), attempt=4)
    assert run.result == {"text": "x", "attempt": 4}


@pytest.mark.parametrize("attempt", [0, -1])
def test_an_attempt_that_is_none_and_a_payload_of_another_type_are_wrong_calls(
    database: Database, registry: Registry, attempt: int
) -> None:
    with pytest.raises(UsageError, match=r"payload of test\.noop and an attempt from 1 on"):
        run_task(database, registry.get("test.noop"), Noop(), attempt=attempt)
    with pytest.raises(UsageError, match=r"payload of test\.noop"):
        run_task(database, registry.get("test.noop"), Write(n=1))


def test_a_task_that_is_not_due_is_a_wrong_call(database: Database, registry: Registry) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    with pytest.raises(UsageError, match="not run: it is pending, and due later"):
        run_task(database, registry.get("test.noop"), Noop(), run_after=later)


def test_the_example_of_the_page_passes(tmp_path: Path) -> None:
    page = (PROJECT / "docs" / "testing.md").read_text(encoding="utf-8")
    for name, source in re.findall(r"```python\n# (\S+\.py)\n(.*?)```", page, re.DOTALL):
        (tmp_path / name).write_text(source, encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout


def test_nothing_imports_the_kit_at_run_time() -> None:
    program = "import sys, console.main, workers.processes; sys.exit('workers.testing' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=PROJECT, check=True, timeout=60)
