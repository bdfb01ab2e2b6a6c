"""What an operator sees of a task while it runs and after: watch, wait, logs, cancel."""

import itertools
import json
from collections.abc import Iterator

import pytest

from tests.support.command import Greenroom, Inline
from tests.support.home import quick_home
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def inline() -> Iterator[Inline]:
    """The command beside an `up` of its own that knows the tests' task types."""
    settings = {"GREENROOM_TASK_MODULES": "tests.support.stuck_tasks"}
    with quick_home() as home, Greenroom(home, settings).running("up") as running:
        eventually(lambda: "Greenroom is up." in running.said() or running.process.poll() is not None, 60)
        yield Inline(home, settings)
        assert running.stop() == 0, running.said()


def test_watch_tells_each_change_until_the_end(inline: Inline) -> None:
    task_id = inline.ok("enqueue", "stuck.steps").strip()
    lines = [json.loads(line) for line in inline.ok("tasks", "show", task_id, "--watch", "--json").splitlines()]
    assert {line["id"] for line in lines} == {task_id}
    assert lines[-1]["status"] == "done"
    told = [line["progress_message"] for line in lines if line["status"] == "in_progress" and line["progress"]]
    assert told == sorted(told)
    assert len(set(told)) >= 2, "progress was seen while it ran"
    assert all(before != after for before, after in itertools.pairwise(lines))


def test_watch_for_people_ends_with_the_task_and_its_status(inline: Inline) -> None:
    task_id = inline.ok("enqueue", "stuck.steps", "fails=true").strip()
    done = inline.run("tasks", "show", task_id, "--watch")
    assert done.returncode == 1
    assert "in_progress  attempt 1 of 5  [" in done.stdout
    assert "step 2" in done.stdout
    assert "failed  attempt 1 of 5  it was to fail" in done.stdout
    assert "payload" in done.stdout, "all of it follows"


def test_watch_of_what_has_ended_and_of_what_is_not_there(inline: Inline) -> None:
    task_id = json.loads(inline.ok("enqueue", "test.noop", "--wait", "--json"))["task_id"]
    assert len(inline.ok("tasks", "show", task_id, "--watch", "--json").splitlines()) == 1
    missing = inline.run("tasks", "show", "01900000-0000-7000-8000-000000000000", "--watch")
    assert missing.returncode == 1
    assert "no task has the id" in missing.stderr


def test_a_running_task_is_cancelled(inline: Inline) -> None:
    task_id = inline.ok("enqueue", "test.slow").strip()
    eventually(lambda: inline.json("tasks", "show", task_id)["status"] == "in_progress")
    assert inline.ok("tasks", "cancel", task_id, "--reason", "no") == f"{task_id}: runs, and is asked to end\n"
    done = inline.run("tasks", "show", task_id, "--watch", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout.splitlines()[-1])["status"] == "cancelled"
    assert "is cancelled already" in inline.run("tasks", "cancel", task_id).stderr


def test_what_a_handler_logged_is_shown(inline: Inline) -> None:
    fields = ("lines=2", "secret=correct-horse", "end=raise")
    task_id = inline.json("enqueue", "stuck.talk", *fields, "--run-after", "0")["id"]
    assert inline.run("tasks", "show", task_id, "--watch").returncode == 1
    shown = inline.ok("tasks", "show", task_id)
    _, _, log = shown.partition("log of attempt 1:\n")
    assert "INFO handlers.talk: line 1 of [payload]" in log
    assert "WARNING py.warnings: " in log
    assert "beware of [payload]" in log
    assert "could not use [payload] (KeyError at tests.support.stuck_tasks:" in log
    [attempt] = inline.json("tasks", "show", task_id)["attempt_records"]
    assert attempt["log"] in shown
    assert "correct-horse" not in attempt["log"]


def test_replay_waits_for_the_ends(inline: Inline) -> None:
    task_id = json.loads(inline.run("enqueue", "stuck.steps", "fails=true", "--wait", "--json").stdout)["task_id"]
    again = inline.run("tasks", "replay", task_id, "--wait", "--json")
    assert again.returncode == 1
    [end] = json.loads(again.stdout)["ends"]
    assert (end["task_id"], end["status"]) == (task_id, "failed")
    assert inline.json("tasks", "replay", task_id)["ends"] == []
