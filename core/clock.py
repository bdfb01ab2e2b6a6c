"""The process's own clock, for durations and pauses. What is due is decided by Postgres' clock alone."""

import time
from typing import Protocol


class Clock(Protocol):
    """A monotonic clock in seconds; tests pass one that they move by hand."""

    def monotonic(self) -> float:
        """Return seconds from an arbitrary origin that never steps back."""
        ...


class SystemClock:
    """The operating system's monotonic clock."""

    def monotonic(self) -> float:
        """Return seconds from an arbitrary origin that never steps back."""
        return time.monotonic()
