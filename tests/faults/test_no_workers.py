"""A queue without workers loses nothing and pays nothing, for however long."""

import pytest

from tests.faults.checks import violations
from tests.faults.rig import Rig
from tests.faults.tasks import Effect
from tests.support.redis_server import contents
from tests.support.waiting import eventually, pass_time

_COUNT = 200
# Each bound at its least, so that the wait below is longer than all of them in a row.
_BOUNDS = {
    "RELAY_CLAIM_SECONDS": "1",
    "RELAY_PROCESS_TIMEOUT": "2",
    "WORKER_LEASE_SECONDS": "2",
    "WORKER_GRACE_SECONDS": "1",
}
_DOWN_SECONDS = 6.0
_UNTOUCHED = (
    "SELECT count(*) FROM queue.tasks_live WHERE status = 'pending' AND attempts = 0 AND claimed_until IS NULL"
    " AND hold_reason IS NULL AND is_due"
)


@pytest.mark.timeout(180)
def test_a_queue_without_workers_waits_at_no_cost(redis_rig: Rig) -> None:
    rig = redis_rig
    for _ in range(2):
        rig.add("relay", **_BOUNDS)
    eventually(lambda: rig.database.value("SELECT count(*) FROM queue.processes WHERE kind = 'relay'") == 2, 60)
    rig.enqueue([Effect() for _ in range(_COUNT)])

    pass_time(_DOWN_SECONDS)
    assert untouched(rig) == _COUNT
    assert rig.database.value("SELECT max(claim_number) FROM queue.tasks_live") == 0, "claimed for nobody"

    finish(rig)


@pytest.mark.timeout(180)
def test_messages_of_workers_that_died_cost_nothing(redis_rig: Rig) -> None:
    rig = redis_rig
    assert rig.broker_url is not None
    rig.add("relay", **_BOUNDS)
    worker = rig.add("worker", **_BOUNDS)
    rig.await_workers()
    # Frozen, it still counts as one that serves, and messages are sent to it that it never reads.
    worker.freeze()
    rig.enqueue([Effect() for _ in range(_COUNT)])
    eventually(lambda: f"{rig.database.name}:default.msgs".encode() in contents(rig.broker_url or ""), 20)
    worker.kill()

    eventually(lambda: untouched(rig) == _COUNT, 30)
    pass_time(_DOWN_SECONDS)
    assert untouched(rig) == _COUNT
    assert rig.database.value("SELECT max(claim_number) FROM queue.tasks_live") >= 1

    finish(rig)


def untouched(rig: Rig) -> int:
    """How many tasks wait as if nobody had ever seen them."""
    return int(rig.database.value(_UNTOUCHED))


def finish(rig: Rig) -> None:
    """Bring a worker and check that every task was done at its first attempt."""
    rig.add("worker", **_BOUNDS)
    rig.await_end()
    assert violations(rig.database) == []
    done = "SELECT count(*) FROM queue.tasks_history WHERE status = 'done' AND attempts = 1"
    assert rig.database.value(done) == _COUNT
