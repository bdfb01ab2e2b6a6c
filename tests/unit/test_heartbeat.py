"""The heartbeat's judgement: who disobeys an order, and how orders travel."""

import json
import os
from uuid import UUID, uuid4

import pytest

from db import leases
from workers.heartbeat import Beating

ASKED = leases.Order(UUID(int=1), 1, "not wanted")


@pytest.fixture
def beating(monkeypatch: pytest.MonkeyPatch) -> Beating:
    """A heartbeat whose patience is over at once, that was told to end one attempt."""
    process = {"id": str(uuid4()), "kind": "worker", "host": "h", "pid": 1}
    config = {"url": "postgresql://nobody@127.0.0.1:9/x", "pooled": False, "parent": os.getppid(), "process": process}
    beating = Beating(config | {"lease_seconds": 30.0, "interrupt_seconds": -60.0})
    monkeypatch.setattr(leases, "orders", lambda connection, worker_id, running: [ASKED])
    monkeypatch.setattr(beating, "_tell", lambda order: True)
    beating._ask(None)  # type: ignore[arg-type]  # nobody is asked
    return beating


def word(*attempts: leases.Order) -> bytes:
    running = [(order.task_id.hex, order.claim_number) for order in attempts]
    return json.dumps({"late": {}, "is_busy": True, "attempts": running}).encode()


def test_an_attempt_that_waits_its_turn_or_is_being_recorded_disobeys_nobody(beating: Beating) -> None:
    beating._hear([word()])
    assert not beating._is_stuck()
    beating._hear([word(leases.Order(UUID(int=2), 1, None))])
    assert not beating._is_stuck(), "it is its neighbour that runs"


def test_a_handler_that_goes_on_is_stuck_and_so_is_who_says_nothing(
    beating: Beating, monkeypatch: pytest.MonkeyPatch
) -> None:
    beating._hear([word(ASKED)])
    assert beating._is_stuck()
    beating._hear([word()])
    monkeypatch.setattr("workers.heartbeat._SILENT_SECONDS", -1.0)
    assert beating._is_stuck()


@pytest.mark.parametrize("character", ["x", "\0", "\N{GRINNING FACE}"])
def test_an_order_is_one_line_that_the_pipe_takes_whole(
    character: str, beating: Beating, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    written: list[bytes] = []
    monkeypatch.setattr(os, "write", lambda handle, data: written.append(data))
    assert beating._tell(ASKED._replace(reason=character * 10_000))
    [line] = written
    assert len(line) <= 4096
    assert line.count(b"\n") == 1
    assert json.loads(line)[:2] == [ASKED.task_id.hex, 1]
