"""Each scenario by itself: a fleet at work is done harm, and every task ends, its effect once."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from db.embedded import EmbeddedServer
from tests.faults.checks import violations
from tests.faults.fleet import Fleet, Harm, fleet, undergo
from tests.faults.scenarios import ALL, SHORT

_SHORT_SECONDS = 1.0
_LONG_SECONDS = 10.0


@pytest.fixture(scope="module")
def shared(durable_server: EmbeddedServer, durable_home: Path, durable_template: str) -> Iterator[Fleet]:
    """One fleet for all scenarios: starting one takes longer than most of them."""
    with fleet(durable_server, durable_home, durable_template) as made:
        yield made


@pytest.mark.timeout(180)
@pytest.mark.parametrize("harm", SHORT, ids=lambda harm: harm.__name__)
def test_no_task_is_lost_and_none_happens_twice(shared: Fleet, harm: Harm) -> None:
    hold(shared, harm, _SHORT_SECONDS)


@pytest.mark.faults
@pytest.mark.timeout(300)
@pytest.mark.parametrize("harm", ALL, ids=lambda harm: harm.__name__)
def test_no_task_is_lost_and_none_happens_twice_for_longer(shared: Fleet, harm: Harm) -> None:
    hold(shared, harm, _LONG_SECONDS)


def hold(shared: Fleet, harm: Harm, seconds: float) -> None:
    """Do harm, and check that it hit and what must hold."""
    draw = random.Random(int(os.environ.get("FAULTS_SEED", "1")))
    assert undergo(shared, harm, draw, seconds) > 0, "the harm hit nothing"
    assert violations(shared.rig.database) == []
