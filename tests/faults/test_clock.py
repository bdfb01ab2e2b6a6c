"""The clock of the database's machine is stepped, back and forth, while work is under way."""

import random
from collections.abc import Iterator

import pytest

from tests.faults.checks import violations
from tests.faults.clocks import SteppedClock, stepped_clock, stepped_rig
from tests.faults.fleet import TIMES
from tests.faults.rig import Rig
from tests.faults.tasks import Effect, Slow
from tests.support.waiting import eventually

_HOUR = 3600


@pytest.fixture
def clock() -> Iterator[SteppedClock]:
    """The clock of the database's machine."""
    with stepped_clock() as made:
        yield made


@pytest.fixture(name="stepped_rig")
def _stepped_rig(clock: SteppedClock, redis_url: str) -> Iterator[Rig]:
    with stepped_rig(clock, redis_url) as running:
        yield running


@pytest.mark.faults
@pytest.mark.timeout(300)
def test_a_clock_that_is_stepped_loses_nothing_and_repeats_no_effect(stepped_rig: Rig, clock: SteppedClock) -> None:
    rig, draw = stepped_rig, random.Random(1)
    rig.add("relay", **TIMES)
    for _ in range(2):
        rig.add("worker", **TIMES)
    rig.await_workers()
    for hours in (-1, 0, 1, 2, 1, 24, 0):
        before = rig.database.value("SELECT now()")
        rig.enqueue([Slow(seconds=draw.uniform(0.5, 1.5)) for _ in range(8)])
        rig.enqueue([Effect(seconds=draw.uniform(0, 0.05)) for _ in range(40)])
        eventually(rig.in_progress, 20)
        clock.step(hours * _HOUR)
        assert abs((rig.database.value("SELECT now()") - before).total_seconds()) > _HOUR / 2, "the clock stands"
        rig.enqueue([Effect() for _ in range(20)])
        rig.await_end()
        assert violations(rig.database) == []
