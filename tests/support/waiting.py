"""The one helper for eventual assertions; no test sleeps by itself."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(predicate: Callable[[], T], timeout: float = 10.0, *, pause: float = 0.02) -> T:
    """Return the predicate's first truthy value; fails, showing its last value, after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not (value := predicate()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s; the last value was {value!r}")
        time.sleep(pause)
    return value


def pass_time(seconds: float) -> None:
    """Let time pass, where that nothing happens in it is what a test is about."""
    until = time.monotonic() + seconds
    eventually(lambda: time.monotonic() >= until, seconds + 5, pause=min(seconds, 0.2))
