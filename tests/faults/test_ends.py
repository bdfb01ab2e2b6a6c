"""Orderly ends and a database that is away: processes hand back, wait, and go on."""

import pytest

from tests.faults.checks import violations
from tests.faults.rig import Rig
from tests.faults.tasks import Effect, Slow
from tests.support.waiting import eventually, pass_time


@pytest.mark.timeout(180)
def test_a_worker_told_to_stop_hands_back_what_it_cannot_finish(redis_rig: Rig) -> None:
    rig = redis_rig
    relay = rig.add("relay")
    worker = rig.add("worker", WORKER_GRACE_SECONDS="2", WORKER_THREADS="2")
    rig.await_workers()
    [long] = rig.enqueue([Slow(seconds=6.0)])
    eventually(lambda: rig.running(worker), 20)
    [short] = rig.enqueue([Slow(seconds=0.5)])
    eventually(lambda: len(rig.running(worker)) == 2, 20)

    assert worker.terminate(20) == 0
    assert rig.task(short) == ("done", 1)
    assert rig.task(long) == ("pending", 0)
    assert rig.database.rows("SELECT task_id, number, outcome FROM queue.attempts") == [(long, 1, "handed_back")]
    assert rig.database.value("SELECT count(*) FROM queue.processes WHERE kind = 'worker'") == 0

    rig.add("worker")
    rig.await_end()
    assert rig.task(long) == ("done", 1)
    assert violations(rig.database) == []
    assert relay.terminate() == 0
    assert rig.database.value("SELECT count(*) FROM queue.processes WHERE kind = 'relay'") == 0


@pytest.mark.timeout(180)
def test_a_database_that_is_down_at_the_start_is_waited_for(both_brokers: Rig) -> None:
    rig = both_brokers
    rig.enqueue([Effect() for _ in range(20)])
    rig.stop_server()
    rig.add_fleet(workers=1)
    for member in rig.members:
        eventually(lambda member=member: '"loop.failed"' in member.log.read_text(), 60)  # type: ignore[misc]  # bound now
    rig.start_server()

    eventually(lambda: rig.live() == 0, 60)
    assert [member.status() for member in rig.members] == [None] * len(rig.members)
    assert violations(rig.database) == []


@pytest.mark.timeout(180)
def test_a_database_that_goes_away_in_the_middle_is_waited_for(both_brokers: Rig) -> None:
    rig = both_brokers
    rig.add_fleet(workers=1)
    rig.await_workers()
    [running] = rig.enqueue([Slow(seconds=2.0)])
    eventually(rig.in_progress, 20)
    rig.stop_server(at_once=rig.broker_url is not None)
    rig.start_server()
    rig.enqueue([Effect() for _ in range(20)])

    eventually(lambda: rig.live() == 0, 60)
    assert [member.status() for member in rig.members] == [None] * len(rig.members)
    # It was away for less than a lease: the attempt that ran writes its end late, and none is lost.
    assert rig.task(running) == ("done", 1)
    assert violations(rig.database) == []


@pytest.mark.timeout(180)
def test_an_outage_longer_than_the_lease_leaves_no_attempt_behind(redis_rig: Rig) -> None:
    rig = redis_rig
    rig.add("relay")
    worker = rig.add("worker", WORKER_LEASE_SECONDS="2")
    rig.await_workers()
    [task] = rig.enqueue([Slow(seconds=1.0)])
    eventually(lambda: rig.running(worker), 20)
    rig.stop_server()
    # The worker tries to write the end for as long as the lease may hold; then the attempt is nobody's.
    pass_time(6.0)
    rig.start_server()

    # Long before the time limit, up to which the heartbeat could renew what its worker has given up.
    eventually(lambda: rig.live() == 0, 45)
    assert rig.task(task) == ("done", 2)
    assert violations(rig.database) == []
