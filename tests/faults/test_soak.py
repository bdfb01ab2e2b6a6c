"""The soak: all scenarios at random over one fleet, without a rest, from one seed and for so many seconds.

FAULTS_SEED repeats a run's choices, FAULTS_SECONDS says how long it goes on (default: three minutes).
"""

import os
import random
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from db.embedded import EmbeddedServer
from tests.faults.checks import lost_attempts, violations
from tests.faults.fleet import Fleet, fleet, suffer
from tests.faults.scenarios import ALL

_SECONDS = float(os.environ.get("FAULTS_SECONDS", "180"))
_LONGEST_HARM = 6.0
_DRAIN_SECONDS = 240.0


@pytest.mark.faults
@pytest.mark.timeout(_SECONDS + 600)
def test_the_queue_survives_whatever_comes(
    durable_server: EmbeddedServer,
    durable_home: Path,
    durable_template: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seed = int(os.environ.get("FAULTS_SEED") or random.SystemRandom().randrange(10**6))
    with fleet(durable_server, durable_home, durable_template, relays=2, workers=2) as made:
        done: Counter[str] = Counter()
        try:
            soak(made, random.Random(seed), done)
            made.rig.await_end(_DRAIN_SECONDS)
        finally:
            with capsys.disabled():
                sys.stdout.write(f"\nsoak, seed {seed}, {_SECONDS:.0f} s: {summary(made, done)}\n")
        assert violations(made.rig.database) == []
        assert done.total() > _SECONDS / 30


def soak(made: Fleet, draw: random.Random, done: Counter[str]) -> None:
    """Do harm of a random kind, for a random time, again and again."""
    until = time.monotonic() + _SECONDS
    while time.monotonic() < until:
        harm = draw.choice(ALL)
        suffer(made, harm, draw, draw.uniform(0.5, _LONGEST_HARM))
        done[harm.__name__] += 1


def summary(made: Fleet, done: Counter[str]) -> str:
    """Return one line for people."""
    if not made.rig.server.is_running:
        return f"{dict(done)}; Postgres is down"
    ended = made.rig.database.rows("SELECT status, count(*)::integer FROM queue.tasks_history GROUP BY 1 ORDER BY 1")
    return f"{done.total()} faults {dict(done)}; tasks {dict(ended)}, {lost_attempts(made.rig.database)} attempts lost"
