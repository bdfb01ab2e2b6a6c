"""Retention under fire: aged rows are archived and deleted beside a queue, and the worker that does so is killed.

The long form is `make retention-load`; FAULTS_SEED repeats a run's kills.
"""

import os
import random
import sys

import pytest

from tests.benchmarks.retention.plan import QUICK
from tests.benchmarks.retention.trial import Trial
from tests.faults.rig import Rig

_LEAST_HITS = 3


@pytest.mark.faults
@pytest.mark.timeout(240)
def test_each_aged_row_ends_in_one_archive_whoever_is_killed(
    redis_rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = int(os.environ.get("FAULTS_SEED") or random.SystemRandom().randrange(10**6))
    trial = Trial(redis_rig, QUICK, seed, lambda line: None)
    try:
        found = trial.run()
    finally:
        with capsys.disabled():
            sys.stdout.write(f"\nretention under fire, seed {seed}\n")
    with capsys.disabled():
        sys.stdout.write(f"{found.line()}\n")
    assert found.complaints == [], "\n".join(found.complaints)
    assert set(found.archived.values()) == {QUICK.rows}
    assert found.tally.hits >= _LEAST_HITS
