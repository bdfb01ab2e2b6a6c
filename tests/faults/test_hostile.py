"""Hostile handlers, each alone with its worker: what it costs, and whether the worker still ends in order."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from db.embedded import EmbeddedServer
from tests.faults.checks import violations
from tests.faults.fleet import TIMES
from tests.faults.rig import Rig, rig
from tests.faults.tasks import HOW, Brief, Effect, Hold, Hostile
from tests.support.waiting import eventually

_OUTCOMES = {"exit": ["lost"], "sys.exit": ["retry"]}


@pytest.fixture(scope="module")
def served(
    durable_server: EmbeddedServer, durable_home: Path, durable_template: str, redis_of_session: str
) -> Iterator[Rig]:
    """A rig with a relay and one worker."""
    with rig(durable_server, durable_home, durable_template, redis_of_session) as running:
        running.add("relay", **TIMES)
        running.add("worker", **TIMES)
        yield running


@pytest.mark.faults
@pytest.mark.timeout(180)
@pytest.mark.parametrize("how", HOW)
def test_a_hostile_handler_costs_its_own_attempt_at_most(served: Rig, how: Any) -> None:
    [worker] = served.workers
    [task] = served.enqueue([Hostile(how=how)])
    served.enqueue([Effect() for _ in range(5)])
    served.await_end()
    outcomes = served.database.rows("SELECT outcome FROM queue.attempts WHERE task_id = %s", (task,))
    assert [outcome for (outcome,) in outcomes] == _OUTCOMES.get(how, [])
    assert violations(served.database) == []
    served.await_workers()

    assert worker.terminate() == 0
    worker.start()


@pytest.mark.timeout(180)
def test_who_holds_the_interpreter_past_a_neighbours_limit_does_not_do_so_for_ever(redis_rig: Rig) -> None:
    """Nobody can tell which of a silent worker's attempts keeps it from ending the one whose time is over."""
    rig = redis_rig
    rig.add("relay", **TIMES)
    hurry = {"WORKER_INTERRUPT_SECONDS": "0.5", "WORKER_TARGET_SECONDS": "0.1"}
    worker = rig.add("worker", **(TIMES | hurry))
    rig.await_workers()
    [brief] = rig.enqueue([Brief()])
    eventually(lambda: rig.running(worker), 20)
    [hold] = rig.enqueue([Hold()])

    eventually(lambda: rig.tend() and rig.task(brief)[0] == "failed", 30)
    eventually(lambda: rig.database.value("SELECT count(*) FROM queue.attempts WHERE task_id = %s", (hold,)), 10)
    assert rig.database.rows("SELECT outcome FROM queue.attempts WHERE task_id = %s", (hold,)) == [("lost",)]
    rig.await_end()
    assert rig.task(hold) == ("failed", 1), "it was its last attempt"
    assert violations(rig.database) == []
