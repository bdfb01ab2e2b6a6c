"""Time limits, and the end of what cannot be interrupted.

A handler that runs for too long is interrupted in its own thread. One that was interrupted, for whatever reason, and
does not come back within the grace time is given up: it is stuck in C code, or it swallows what is raised in it.
"""

import time
from collections.abc import Callable

from core.errors import TimeLimitError
from workers.attempts import Run
from workers.running import RunningAttempts, Seat

Abandon = Callable[[Seat, tuple[Run, ...]], None]


class TimeLimits:
    """Enforces the limits; `abandon` is given a seat that is stuck, with what its handler was called with."""

    name = "time limits"

    def __init__(
        self, running: RunningAttempts, abandon: Abandon, *, grace_seconds: float = 5.0, pause: float = 0.5
    ) -> None:
        self._running = running
        self._abandon = abandon
        self._grace_seconds = grace_seconds
        self._pause = pause

    def run_once(self) -> float:
        """Interrupt handlers whose time is over, once each; give up those that did not heed it."""
        for seat in tuple(self._running.seats):
            runs, now = seat.runs, time.monotonic()
            if not runs:
                continue
            if seat.interrupted_at is not None:
                if now > seat.interrupted_at + self._grace_seconds:
                    self._abandon(seat, runs)
            elif now > seat.deadline:
                self._running.interrupt(seat, runs, TimeLimitError)
        return self._pause

    def close(self) -> None:
        """Nothing is open."""
