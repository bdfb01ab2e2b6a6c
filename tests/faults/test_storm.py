"""The main promise under fire: every task ends, a done one has had its effect once, and nothing else has happened."""

import os
import random
import sys
from dataclasses import replace

import pytest

from tests.faults.checks import documents, ended, violations
from tests.faults.rig import Rig
from tests.faults.storm import SAMPLES, Plan, Storm, missed
from tests.faults.tasks import Effect, Poison, Slow

_SHORT = Plan(
    effects=295,
    slow=5,
    poison=1,
    files=("six-teas-one-leaf.txt",),
    rounds=1,
    kills=6,
    least=4,
    flushes=2,
    restarts=1,
    seconds=180.0,
)
_LONG = Plan(
    effects=9_700,
    slow=300,
    poison=4,
    files=tuple(sorted(path.name for path in SAMPLES.iterdir() if path.suffix in {".md", ".txt", ".html", ".pdf"})),
    rounds=2,
    kills=204,  # the last commit of a victim may have been on its way: 200 must have hit
    least=200,
    flushes=20,
    restarts=5,
    seconds=740.0,
    members=3,
)


@pytest.mark.timeout(240)
def test_nothing_is_lost_and_nothing_happens_twice(both_brokers: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    # Of processes that do everything, each kill costs more time than of those apart.
    weather(both_brokers, _SHORT if both_brokers.broker_url else replace(_SHORT, kills=4, least=3, poison=0), capsys)


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_nothing_is_lost_in_the_long_run(both_brokers: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    weather(both_brokers, _LONG if both_brokers.broker_url else replace(_LONG, seconds=1500.0), capsys)


def weather(rig: Rig, plan: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    """Run a plan, say what it did, check what must hold and that it was done."""
    seed = int(os.environ.get("FAULTS_SEED") or random.SystemRandom().randrange(10**6))
    storm = Storm(rig, plan, seed)
    try:
        tally = storm.run()
    finally:
        with capsys.disabled():
            sys.stdout.write(storm.tally.summary(rig) if rig.server.is_running else f"\nseed {seed}\n")
    assert violations(rig.database) == []
    assert ended(rig.database, Effect.task_type) == plan.effects
    assert ended(rig.database, Slow.task_type) == plan.slow
    assert ended(rig.database, Poison.task_type) == plan.poison
    assert documents(rig.database) == plan.rounds * len(plan.files)
    assert (tally.flushes, tally.restarts) == (plan.flushes if rig.broker_url else 0, plan.restarts)
    # Of a victim that lost no attempt, the last commit was already on its way.
    assert tally.kills.total() - len(missed(rig, tally)) >= plan.least
