"""The guards of an attempt's end, each shown to be one: with it the checks are silent, without it they speak."""

import pytest

from tests.faults.checks import violations
from tests.faults.processes import Member
from tests.faults.rig import Rig
from tests.faults.tasks import Effect, Slow
from tests.support.waiting import eventually


@pytest.mark.timeout(180)
@pytest.mark.parametrize("is_guarded", [True, False], ids=["guarded", "unguarded"])
def test_a_worker_that_lost_its_lease_writes_nothing(redis_rig: Rig, is_guarded: bool) -> None:
    rig = redis_rig
    launcher = ("console.child",) if is_guarded else ("tests.faults.unguarded", "claim-number")
    rig.add("relay")
    workers = [rig.add("worker", launcher=launcher, WORKER_LEASE_SECONDS="2", WORKER_THREADS="1") for _ in range(2)]
    rig.await_workers()

    [task] = rig.enqueue([Slow(seconds=4.0)])
    eventually(rig.in_progress, 20)
    first, second = sorted(workers, key=lambda worker: not rig.running(worker))
    first.freeze()
    eventually(lambda: rig.running(second), 30)
    first.thaw()
    eventually(lambda: rig.live() == 0 and any(_has_lost(worker) for worker in workers), 30)

    assert rig.task(task) == ("done", 2)
    # The row that an end deletes lets no second one in: not two effects, but the one of an attempt without a lease.
    stale = [f"{task} has the effect of an attempt that is not its last [1, 2]"]
    assert violations(rig.database) == ([] if is_guarded else stale)


def test_the_checks_see_an_effect_that_happened_twice(redis_rig: Rig) -> None:
    rig = redis_rig
    rig.add("relay")
    rig.add("worker")
    [task] = rig.enqueue([Effect()])
    rig.await_end()
    assert violations(rig.database) == []
    rig.database.rows("INSERT INTO public.effects SELECT * FROM public.effects")
    assert violations(rig.database) == [f"{task} is done, and its effect does not stand exactly once [2]"]


def _has_lost(worker: Member) -> bool:
    return "attempt.lost" in worker.log.read_text()
