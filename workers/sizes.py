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
# What a message takes at most, its statements and effects included, and what its handlers take of that: they run one
# after the other, though other threads may be idle (docs/decisions/0006-hot-path.md).
_TRAVEL_SECONDS, _HANDLING_SECONDS = 0.25, 0.05
_OFFER_PAUSE = 0.2


class BatchSizes:
    """How large parts and messages are, by task type; shared by a process's threads."""

    def __init__(self, target_seconds: float) -> None:
        self._target = target_seconds
        self._whole = _Averages()
        self._handling = _Averages()

    def next_size(self, task_type: str, waiting: int) -> int:
        """Return how many of the `waiting` tasks to take now, at least one."""
        return max(1, min(waiting, self._whole.fitting(task_type, self._target)))

    def measured(self, task_type: str, tasks: int, seconds: float, *, handling: float) -> None:
        """Learn that `tasks` tasks took `seconds` together, in which their handlers, one by one, took `handling`."""
        self._whole.learn(task_type, seconds / max(tasks, 1))
        self._handling.learn(task_type, handling / max(tasks, 1))

    def travel_size(self, task_type: str, most: int) -> int:
        """Return how many tasks of a type, at most `most`, should travel in one message."""
        whole = self._whole.fitting(task_type, _TRAVEL_SECONDS)
        wanted = min(whole, self._handling.fitting(task_type, _HANDLING_SECONDS))
        # in powers of two: it seldom changes
        return min(most, 1 << (max(1, wanted).bit_length() - 1))


class _Averages:
    """An exponential moving average of seconds a task, by task type."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._lock = threading.Lock()

    def learn(self, task_type: str, seconds: float) -> None:
        """Learn that a task took so many seconds."""
        with self._lock:
            old = self._seconds.get(task_type, seconds)
            weight = _FASTER if seconds < old else _SLOWER
            self._seconds[task_type] = old + weight * (seconds - old)

    def fitting(self, task_type: str, seconds: float) -> int:
        """Return how many tasks fit into so many seconds: of an unknown type one, none where one takes longer."""
        a_task = self._seconds.get(task_type)
        return _START if a_task is None else int(seconds / max(a_task, 1e-6))


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
