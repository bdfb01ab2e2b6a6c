"""Whose the processor was: a measurement beside other work says little, and should say so."""

import contextlib
import os
import time

import psutil


class Meter:
    """From its making on: how much of the processor went to others than this process and what it has started."""

    def __init__(self) -> None:
        self._begun, self._own, self._busy = time.monotonic(), _own_seconds(), _busy_seconds()

    def others(self) -> float:
        """Return the share of all cores' time that others had."""
        seconds = (time.monotonic() - self._begun) * (os.cpu_count() or 1)
        return round(max(0.0, (_busy_seconds() - self._busy) - (_own_seconds() - self._own)) / seconds, 3)


def _busy_seconds() -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice)


def _own_seconds() -> float:
    """Sum what this process, its children and their children used; who ended is counted with who waited for them."""
    own = psutil.Process()
    total = 0.0
    for process in (own, *own.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total
