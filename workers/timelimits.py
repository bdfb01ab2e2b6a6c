"""Time limits: a handler that runs for too long is interrupted in its own thread.

The exception arrives between two bytecodes; a handler stuck in C code is not reached, and its lease, which is never
renewed past the limit, runs out instead.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from dramatiq.threading import raise_thread_exception

from core.errors import TimeLimitError


class TimeLimits:
    """The deadlines of a process's threads, and the service that enforces them."""

    name = "time limits"

    def __init__(self, pause: float = 0.5) -> None:
        self._pause = pause
        self._deadlines: dict[int, float] = {}
        self._lock = threading.Lock()

    @contextmanager
    def watch(self, seconds: float) -> Iterator[None]:
        """Interrupt this thread with TimeLimitError if the block takes longer than `seconds`."""
        thread = threading.get_ident()
        with self._lock:
            self._deadlines[thread] = time.monotonic() + seconds
        try:
            yield
        finally:
            with self._lock:
                self._deadlines.pop(thread, None)

    def run_once(self) -> float:
        """Interrupt the threads whose time is over, once each."""
        now = time.monotonic()
        with self._lock:
            for thread in [thread for thread, deadline in self._deadlines.items() if deadline < now]:
                del self._deadlines[thread]
                raise_thread_exception(thread, TimeLimitError)  # type: ignore[no-untyped-call]  # dramatiq leaves it untyped
        return self._pause

    def close(self) -> None:
        """Nothing is open."""
