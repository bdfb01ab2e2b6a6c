"""The guards of an attempt's end, each shown to be one: with it the checks are silent, without it they speak."""

import pytest

from tests.faults.checks import violations
from tests.faults.processes import Member
from tests.faults.rig import Rig
from tests.faults.tasks import Slow
from tests.support.waiting import eventually

_PROBLEMS = {
    "none": None,
    # The row that its end deletes lets no second one in: not two effects, but the one of an attempt without a lease.
    "claim-number": "has the effect of an attempt that is not its last",
    "hold": "is done, and its effect does not stand exactly once",
}


@pytest.mark.timeout(180)
@pytest.mark.parametrize("guard", ["none", "claim-number", pytest.param("hold", marks=pytest.mark.faults)])
def test_a_worker_that_lost_its_lease_writes_nothing(redis_rig: Rig, guard: str) -> None:
    rig = redis_rig
    launcher = ("console",) if guard == "none" else ("tests.faults.unguarded", guard)
    rig.add("relay")
    workers = [rig.add("worker", launcher=launcher, WORKER_LEASE_SECONDS="2", WORKER_THREADS="1") for _ in range(2)]
    rig.await_workers()

    [task] = rig.enqueue([Slow(seconds=6.0)])
    eventually(rig.in_progress, 20)
    first, second = sorted(workers, key=lambda worker: not rig.running(worker))
    first.freeze()
    eventually(lambda: rig.running(second), 30)
    first.thaw()
    eventually(lambda: rig.live() == 0 and any(_has_lost(worker) for worker in workers), 30)

    assert rig.task(task) == ("done", 2)
    found = violations(rig.database)
    problem = _PROBLEMS[guard]
    assert found == [] if problem is None else any(f"{task} {problem}" in sentence for sentence in found)


def _has_lost(worker: Member) -> bool:
    return "attempt.lost" in worker.log.read_text()
