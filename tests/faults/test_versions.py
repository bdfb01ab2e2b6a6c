"""Old and new workers together: a payload that only the newer ones know waits for them, and at no cost."""

import pytest

from tests.faults import tasks, tasks_next
from tests.faults.checks import violations
from tests.faults.fleet import TIMES
from tests.faults.rig import Rig
from tests.support.waiting import eventually, pass_time

_UNTOUCHED = """
    SELECT count(*) FROM queue.tasks_live WHERE status = 'pending' AND attempts = 0 AND payload_version = 2
        AND hold_reason IS NULL
"""
_RAN_BY = """
    SELECT DISTINCT p.pid FROM queue.tasks_history t JOIN queue.processes p ON p.id = t.worker_id
    WHERE t.payload_version = %s
"""


@pytest.mark.timeout(180)
def test_a_newer_payload_waits_for_a_newer_worker(redis_rig: Rig) -> None:
    rig = redis_rig
    rig.add("relay", **TIMES)
    old = rig.add("worker", **TIMES)
    rig.await_workers()
    rig.enqueue([tasks.Effect() for _ in range(20)])
    rig.enqueue([tasks_next.Effect() for _ in range(20)])
    eventually(lambda: rig.live() == 20, 30)
    pass_time(1.0)
    assert rig.database.value(_UNTOUCHED) == 20

    new = rig.add("worker", TASK_MODULES="tests.faults.tasks_next", **TIMES)
    rig.await_end()
    # Both serve the queue now: a message with a newer payload may come to the old one, which gives it back.
    for _ in range(10):
        rig.enqueue([tasks.Effect(seconds=0.05) for _ in range(4)])
        rig.enqueue([tasks_next.Effect(milliseconds=50) for _ in range(4)])
    rig.await_end()
    assert rig.database.rows(_RAN_BY, (2,)) == [(new.pid,)]
    assert (old.pid,) in rig.database.rows(_RAN_BY, (1,))
    assert violations(rig.database) == []
