"""Recycling: a worker whose process has done its share, or has grown too large, asks to be replaced by a fresh one."""

import resource
import sys
from collections.abc import Callable
from pathlib import Path

from core.groups import WorkerSettings

_PAUSE = 1.0
_PAGE = resource.getpagesize()


class Recycling:
    """Looks at the process now and then; calls `leave` with the reason when it is time, each time it looks."""

    name = "recycling"

    def __init__(
        self, settings: WorkerSettings, ended: Callable[[], int], leave: Callable[[str], None], *, pause: float = _PAUSE
    ) -> None:
        self._settings = settings
        self._ended = ended
        self._leave = leave
        self._pause = pause

    def run_once(self) -> float:
        """Look once."""
        most, limit = self._settings.recycle_tasks, self._settings.memory_limit
        if most and (ended := self._ended()) >= most:
            self._leave(f"{ended} attempts are done, worker.recycle_tasks is {most}")
        elif limit and (used := memory_used()) > limit:
            self._leave(f"{used} bytes of memory are in use, worker.memory_limit is {limit}")
        return self._pause

    def close(self) -> None:
        """Nothing is open."""


def memory_used() -> int:
    """Return the resident memory of this process in bytes; where there is no /proc, the most that it ever was."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * _PAGE
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
