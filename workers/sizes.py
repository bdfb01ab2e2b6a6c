"""How many tasks of a type run together: as many as take about the target time, by what was measured so far."""

import threading

# Nothing is known of a type at first: one task alone risks no neighbour's time.
_START = 1
# Slower is believed slowly, faster at once: the first task of a type pays for what is loaded only once.
_SLOWER, _FASTER = 0.3, 0.8


class BatchSizes:
    """An exponential moving average of seconds a task, by task type; shared by a process's threads."""

    def __init__(self, target_seconds: float) -> None:
        self._target = target_seconds
        self._seconds: dict[str, float] = {}
        self._lock = threading.Lock()

    def next_size(self, task_type: str, waiting: int) -> int:
        """Return how many of the `waiting` tasks to take now, at least one."""
        with self._lock:
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
