"""Schedules under fire (I4): three schedulers, and each time of each schedule comes to what its policies say, once.

FAULTS_SEED repeats a run's choices, FAULTS_SECONDS says how long the long form goes on (default: twenty minutes).
"""

import os
import random
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.faults.clocks import require_faketime, stepped_clock, stepped_rig
from tests.faults.fire_storm import FireStorm
from tests.faults.fires import outcomes

_LONG_SECONDS = float(os.environ.get("FAULTS_SECONDS", "1200"))
_SHORT_SECONDS = 22.0
# Where the clock is set on and set back again, it is by turns.
_SHORT = (
    "kill_one", "toggle", "edit", "on_a_day", "kill_all", "freeze", "own_clock", "crash", "on_a_day", "edit", "toggle",
    "back_an_hour", "away", "back_an_hour", "away_for_minutes", "restart",
)  # fmt: skip
_WEIGHTS = {
    "kill_one": 6, "kill_all": 3, "freeze": 4, "restart": 2, "crash": 2, "away": 2, "away_for_minutes": 1,
    "back_an_hour": 2, "on_a_day": 2, "own_clock": 3, "edit": 6, "toggle": 6,
}  # fmt: skip


@pytest.fixture
def storm(redis_url: str) -> Iterator[FireStorm]:
    """Schedulers that live by clocks of their own, over a server that lives by another."""
    seed = int(os.environ.get("FAULTS_SEED") or random.SystemRandom().randrange(10**6))
    sys.stderr.write(f"fires, seed {seed}\n")
    library = require_faketime()
    with ExitStack() as stack:
        clock, *own = (stack.enter_context(stepped_clock()) for _ in range(4))
        rig = stack.enter_context(stepped_rig(clock, redis_url))
        yield FireStorm(rig, clock, own, library, seed)


@pytest.mark.timeout(180)
def test_each_time_of_a_schedule_comes_to_what_its_policies_say_once(
    storm: FireStorm, capsys: pytest.CaptureFixture[str]
) -> None:
    storm.rage(_SHORT, _SHORT_SECONDS)
    _hold(storm, capsys)


@pytest.mark.faults
@pytest.mark.timeout(_LONG_SECONDS + 600)
def test_each_time_of_a_schedule_comes_to_what_its_policies_say_once_in_the_long_run(
    storm: FireStorm, capsys: pytest.CaptureFixture[str]
) -> None:
    storm.rage(_SHORT, _SHORT_SECONDS)
    storm.rage_on(_WEIGHTS, _LONG_SECONDS - _SHORT_SECONDS)
    _hold(storm, capsys)


def _hold(storm: FireStorm, capsys: pytest.CaptureFixture[str]) -> None:
    storm.end()
    found = storm.judge()
    with capsys.disabled():
        sys.stdout.write(f"\n{storm.summary()}\n")
    assert found == []
    assert storm.weekly_tasks() == {"weekly": 1, "weekly missed": 1}
    assert {"enqueued", "missed", "overlapped"} == set(outcomes(storm.book()))
