"""Looking after thousands of things: what a task notes of itself stays small, and too much that fails ends it."""

import json
from dataclasses import asdict
from typing import Any, cast

from db.maintenance import Ended
from pipelines.care import rounds
from pipelines.outcomes import Fail, Snooze
from pipelines.task import TaskContext

NAMES = [f"audit.{'a_table_of_a_long_name_' * 2}{n:05}" for n in range(5000)]
CONTEXT = cast(TaskContext, cast(Any, object()))


def tried(names: list[str], outcome: Any) -> rounds._Standing:
    """Return where a task stands that has tried these."""
    standing = rounds._Standing()
    for name in names:
        standing = standing.behind(name, Ended(outcome, "somebody has it"))
    return standing


def test_what_is_noted_does_not_grow_with_what_there_is() -> None:
    standing = tried(NAMES[:3000], "done")
    assert standing.left(list(reversed(NAMES))) == NAMES[3000:]
    assert len(json.dumps(asdict(standing))) < 1000


def test_a_round_after_the_first_is_for_what_was_busy() -> None:
    outcome = rounds._outcome(CONTEXT, tried(NAMES[:3], "busy"), False, "look")
    assert isinstance(outcome, Snooze)
    assert outcome.reason is not None
    assert outcome.reason.startswith(f"in use: {NAMES[0]}")
    following = rounds._Standing(again=NAMES[:3], rounds=1)
    assert following.left(NAMES) == NAMES[:3]
    assert following.behind(NAMES[0], Ended("done")).left(NAMES) == NAMES[1:3]


def test_too_much_that_fails_ends_the_task_and_fits_on_its_row() -> None:
    standing = tried(NAMES[:100], "refused")
    assert len(json.dumps(asdict(standing))) < 32_768
    outcome = rounds._outcome(CONTEXT, standing, True, "look")
    assert isinstance(outcome, Fail)
    assert "0 done, 100 not" in outcome.reason
