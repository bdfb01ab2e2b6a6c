"""One shape for whatever runs for long: `run_once()` does a round and says when the next is wanted.

Invariant: a loop does not die. A round that raises, whatever it raises, is reported and repeated after a back-off;
`late()` says how long the next good round is overdue, and is what health reads (never a static "ok").
"""

import threading
from collections.abc import Sequence
from typing import Protocol

from core import events
from core.backoff import Backoff
from core.clock import Clock, SystemClock
from core.errors import raised_at
from core.loops import watch_loop


class Service(Protocol):
    """Something that does its work in rounds."""

    name: str

    def run_once(self) -> float:
        """Do one round; return the seconds until the next is wanted (0: at once)."""
        ...

    def close(self) -> None:
        """Give back what the rounds opened; called once, after the last round, by the loop's own thread."""
        ...


class Loop:
    """Runs one service in a thread of its own until stopped."""

    def __init__(self, service: Service, *, clock: Clock | None = None, backoff: Backoff | None = None) -> None:
        self.service = service
        self._clock = clock or SystemClock()
        self._backoff = backoff or Backoff(base=0.5, maximum=15.0)
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._wanted_at = self._clock.monotonic()
        self._failures = 0

    def start(self) -> None:
        """Start the thread; a second call does nothing."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self.service.name, daemon=True)
            self._thread.start()

    def wake(self) -> None:
        """Ask for a round now instead of at the end of the pause."""
        self._wake.set()

    def stop(self, timeout: float = 10.0) -> bool:
        """Ask the loop to end and wait for it; twice is fine. Return whether it ended in time."""
        self._stopping.set()
        self._wake.set()
        if self._thread is None:
            return True
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def late(self) -> float:
        """Return the seconds since the moment for which the last good round, or the start, wanted the next."""
        return max(self._clock.monotonic() - self._wanted_at, 0.0)

    def _run(self) -> None:
        forget = watch_loop(self.service.name, self.late)
        while not self._stopping.is_set():
            pause = self._round()
            self._wake.wait(pause)
            self._wake.clear()
        forget()
        self.service.close()

    def _round(self) -> float:
        try:
            pause = self.service.run_once()
        except BaseException as error:
            self._failures += 1
            pause = self._backoff.delay(self._failures)
            kind, where = type(error).__name__, raised_at(error)
            events.emit(events.LoopFailed(self.service.name, kind, str(error), pause, where))
            return pause
        self._failures = 0
        self._wanted_at = self._clock.monotonic() + pause
        return pause


def lateness(loops: Sequence[Loop]) -> dict[str, float]:
    """Return how many seconds each of a process's loops is late, by its service's name."""
    return {loop.service.name: loop.late() for loop in loops}


def stop_all(loops: Sequence[Loop], timeout: float = 10.0) -> None:
    """Stop loops in the reverse order of their start."""
    for loop in reversed(loops):
        loop.stop(timeout)
