"""The supervisor where the machine has nothing left to start a child with."""

import subprocess
import threading

import pytest

from console import supervisor
from console.supervisor import Role, Supervisor
from core import events
from tests.support.waiting import eventually


def test_a_child_that_cannot_be_started_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, recorded: list[events.Event]
) -> None:
    tries: list[list[str]] = []

    def popen(command: list[str], **options: object) -> None:
        tries.append(command)
        raise BlockingIOError(11, "no process left")

    monkeypatch.setattr(subprocess, "Popen", popen)
    monkeypatch.setattr(supervisor, "Backoff", lambda **limits: NoWait())
    stopping = threading.Event()
    kept = Supervisor([Role("worker")], stopping, grace_seconds=0.0)
    kept.start()
    eventually(lambda: len(tries) >= 3)
    kept.stop()
    failed = [event for event in recorded if isinstance(event, events.LoopFailed)]
    assert {(event.loop, event.error_type) for event in failed} == {("the place of a worker", "BlockingIOError")}


class NoWait:
    """A back-off for the impatient."""

    def delay(self, failures: int) -> float:
        """Return next to nothing."""
        return 0.001
