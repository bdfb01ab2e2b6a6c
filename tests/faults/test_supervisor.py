"""A worker of several processes under a supervisor: whichever of them dies, and whatever outlives it."""

import os
import signal

import psutil
import pytest

from tests.faults.checks import violations
from tests.faults.fleet import TIMES
from tests.faults.processes import Member
from tests.faults.rig import Rig
from tests.faults.tasks import Effect, Orphan
from tests.support.waiting import eventually

_SERVING = "SELECT pid FROM queue.processes WHERE kind = 'worker' AND slots > 0"


@pytest.mark.faults
@pytest.mark.timeout(180)
def test_a_child_is_replaced_whatever_it_leaves_behind(redis_rig: Rig) -> None:
    """What a handler forked holds all that was open, the line to the supervisor too."""
    rig = redis_rig
    rig.add("relay", **TIMES)
    parent = rig.add("worker", launcher=("console",), WORKER_PROCESSES="2", **TIMES)
    first = both(rig, parent)
    [task] = rig.enqueue([Orphan()])
    rig.await_end()
    [(victim,)] = rig.database.rows(
        "SELECT p.pid FROM queue.tasks_history t JOIN queue.processes p ON p.id = t.worker_id"
    )
    [orphan] = [child for child in psutil.Process(victim).children() if "workers.heartbeat" not in child.cmdline()]
    os.kill(victim, signal.SIGKILL)
    second = both(rig, parent, without=victim)
    assert len(first & second) == 1
    assert orphan.is_running()
    orphan.kill()
    rig.enqueue([Effect() for _ in range(20)])
    rig.await_end()
    assert rig.task(task) == ("done", 1)
    assert violations(rig.database) == []
    assert parent.terminate() == 0


def both(rig: Rig, parent: Member, without: int = 0) -> set[int]:
    """Wait until two children serve, and return them."""

    def serving() -> set[int]:
        below = {child.pid for child in psutil.Process(parent.pid).children()}
        return {pid for (pid,) in rig.database.rows(_SERVING)} & below - {without}

    eventually(lambda: len(serving()) == 2, 40)
    return serving()
