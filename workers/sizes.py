"""How many tasks of a type run together: as many as take about the target time, by what was measured so far."""

import threading
from collections.abc import Callable, Mapping
from uuid import UUID

from db import processes
from db.connection import KeptConnection

# Nothing is known of a type at first: one task alone risks no neighbour's time.
_START = 1
# Slower is believed slowly, faster at once: the first task of a type pays for what is loaded only once.
_SLOWER, _FASTER = 0.3, 0.8
# A message whose tasks take longer than this together would keep its last ones from workers that are free.
_TRAVEL_SECONDS = 0.25
_OFFER_PAUSE = 0.2


class BatchSizes:
    """An exponential moving average of seconds a task, by task type; shared by a process's threads."""

    def __init__(self, target_seconds: float) -> None:
        self._target = target_seconds
        self._seconds: dict[str, float] = {}
        self._lock = threading.Lock()

    def next_size(self, task_type: str, waiting: int) -> int:
        """Return how many of the `waiting` tasks to take now, at least one."""
        seconds = self._seconds.get(task_type)
        wanted = _START if seconds is None else int(self._target / max(seconds, 1e-6))
        return max(1, min(waiting, wanted))

    def measured(self, task_type: str, tasks: int, seconds: float) -> None:
        """Learn that `tasks` tasks took `seconds` together."""
        each = seconds / max(tasks, 1)
        with self._lock:
            old = self._seconds.get(task_type, each)
            weight = _FASTER if each < old else _SLOWER
            self._seconds[task_type] = old + weight * (each - old)

    def travel_size(self, task_type: str, most: int) -> int:
        """Return how many tasks of a type, at most `most`, should travel in one message."""
        seconds = self._seconds.get(task_type)
        wanted = _START if seconds is None else int(_TRAVEL_SECONDS / max(seconds, 1e-6))
        # in powers of two: it seldom changes
        return min(most, 1 << (max(1, wanted).bit_length() - 1))


class Offer:
    """Tells the relays elsewhere how many tasks of a type this worker takes in one message, when it changes."""

    name = "offer"

    def __init__(self, connection: KeptConnection, worker_id: UUID, sizes: Callable[[], Mapping[str, int]]) -> None:
        self._connection = connection
        self._worker_id = worker_id
        self._sizes = sizes
        self._told: Mapping[str, int] = {}

    def run_once(self) -> float:
        """Tell what has changed."""
        sizes = self._sizes()
        if sizes != self._told and processes.offer(self._connection.get(), self._worker_id, sizes):
            self._told = sizes
        return _OFFER_PAUSE

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
