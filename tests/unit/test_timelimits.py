"""A handler that runs for too long is interrupted in its own thread, and only while it is watched."""

import threading

import pytest

from core.errors import TimeLimitError
from tests.support.waiting import eventually
from workers.timelimits import TimeLimits


def test_what_runs_for_too_long_is_interrupted() -> None:
    limits = TimeLimits()
    found: list[type[BaseException]] = []
    watched = threading.Event()

    def work() -> None:
        try:
            with limits.watch(0.0):
                watched.set()
                eventually(lambda: False, 10)
        except BaseException as error:
            found.append(type(error))

    thread = threading.Thread(target=work)
    thread.start()
    assert watched.wait(5)
    eventually(lambda: limits.run_once() > 0 and not thread.is_alive())
    assert found == [TimeLimitError]


def test_what_ends_in_time_is_left_alone() -> None:
    limits = TimeLimits()
    with limits.watch(0.0):
        pass
    limits.run_once()
    with limits.watch(60.0):
        limits.run_once()


@pytest.mark.parametrize("error", [ValueError, KeyError])
def test_the_watch_ends_with_an_exception_too(error: type[Exception]) -> None:
    limits = TimeLimits()
    with pytest.raises(error), limits.watch(0.0):
        raise error
    limits.run_once()
