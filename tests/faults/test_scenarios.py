"""Each scenario by itself: a fleet at work is done harm, and every task ends, its effect once."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from db.embedded import EmbeddedServer
from tests.faults.checks import violations
from tests.faults.fleet import Fleet, Harm, fleet, undergo
from tests.faults.scenarios import postgres, processes, redis

_SHORT_SECONDS = 2.0
_SCENARIOS: list[Harm] = [
    postgres.backends_terminated,
    postgres.server_restarted,
    postgres.server_crashed,
    postgres.commit_unheard,
    postgres.commit_unanswered,
    postgres.connections_reset,
    postgres.connections_half_open,
    postgres.server_unreachable,
    postgres.connections_slow,
    postgres.connections_cut,
    postgres.failed_over,
    postgres.connections_exhausted,
    processes.relay_killed,
    processes.worker_killed,
    processes.machine_killed,
    processes.heartbeat_killed,
    processes.relay_frozen,
    processes.worker_frozen,
    processes.heartbeat_frozen,
    redis.redis_flushed,
    redis.redis_restarted,
    redis.redis_killed,
    redis.redis_out_of_memory,
    redis.redis_unreachable,
    redis.redis_half_open,
    redis.redis_slow,
]


@pytest.fixture(scope="module")
def shared(durable_server: EmbeddedServer, durable_home: Path, durable_template: str) -> Iterator[Fleet]:
    """One fleet for all scenarios: starting one takes longer than most of them."""
    with fleet(durable_server, durable_home, durable_template) as made:
        yield made


@pytest.mark.timeout(180)
@pytest.mark.parametrize("harm", _SCENARIOS, ids=lambda harm: harm.__name__)
def test_no_task_is_lost_and_none_happens_twice(shared: Fleet, harm: Harm) -> None:
    draw = random.Random(int(os.environ.get("FAULTS_SEED", "1")))
    assert undergo(shared, harm, draw, _SHORT_SECONDS) > 0, "the harm hit nothing"
    assert violations(shared.rig.database) == []
