"""Hostile handlers, each alone with its worker: what it costs, and whether the worker still ends in order."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from db.embedded import EmbeddedServer
from tests.faults.checks import violations
from tests.faults.fleet import TIMES
from tests.faults.rig import Rig, rig
from tests.faults.tasks import HOW, Effect, Hostile

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
