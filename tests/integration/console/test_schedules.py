"""`greenroom schedules` beside a running `up`: what is added, edited and run by hand is done with no restart."""

import re
from typing import Any
from uuid import uuid4

import pytest

from tests.support.command import Inline
from tests.support.waiting import eventually

COUNT = '{"counters": ["people.mapper_configs.usage_count"]}'


@pytest.fixture
def name() -> str:
    return f"s-{uuid4()}"


def done(inline: Inline, name: str) -> list[dict[str, Any]]:
    """Return the fires of a schedule whose tasks are done."""
    fires: list[dict[str, Any]] = inline.json("schedules", "history", name)["fires"]
    return [fire for fire in fires if fire["status"] == "done"]


def test_a_schedule_is_run_by_hand_and_by_its_times_from_the_moment_that_they_are_edited(
    inline: Inline, name: str
) -> None:
    inline.ok("schedules", "add", name, "counters.reconcile", "--payload", COUNT, "--cron", "@yearly")
    end = inline.json("schedules", "run", name, "--wait")
    assert end["status"] == "done"
    [fire] = done(inline, name)
    assert (fire["task_id"], fire["is_manual"]) == (end["task_id"], True)
    assert 0 <= fire["seconds"] < 60
    assert re.search(rf"{end['task_id']} +done +[\d.e-]+ s +by hand", inline.ok("schedules", "history", name))
    inline.ok("schedules", "edit", name, "--every", "1s", "--overlap", "wait")
    eventually(lambda: not all(fire["is_manual"] for fire in done(inline, name)), 20)
    inline.ok("schedules", "remove", name)
    assert inline.run("schedules", "history", name).returncode == 1


def test_a_run_that_fails_while_it_is_waited_for_is_a_failure(inline: Inline, name: str) -> None:
    inline.ok("schedules", "add", name, "document.ingest", "--payload", '{"path": "../no.txt"}', "--cron", "@yearly")
    ended = inline.run("schedules", "run", name, "--wait")
    assert ended.returncode == 1
    assert "failed" in ended.stdout
    [fire] = inline.json("schedules", "history", name)["fires"]
    assert (fire["status"], fire["last_error"] in ended.stdout) == ("failed", True)
    assert "failed" in inline.ok("schedules", "history", name)
    inline.ok("schedules", "remove", name)
