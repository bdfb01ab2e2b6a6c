"""What a relay's process does beside the relay: it gives back what was lost, and keeps the queue's house in order."""

from collections.abc import Callable

from core import events
from db import limits, processes, queue
from db.connection import KeptConnection

_RESCUE_LIMIT = 1000
# What is claimed after a look at nothing is not overdue before its claim, and whoever ends a lease early rings.
_SELDOM = 5
_CARE_SECONDS = 45.0


class Rescuer:
    """Gives back what was claimed and not taken, and taken and not renewed."""

    name = "rescuer"

    def __init__(self, connection: KeptConnection, pause: float, wake: Callable[[], None]) -> None:
        self._connection = connection
        self._pause = pause
        self._wake = wake

    def run_once(self) -> float:
        """Rescue one batch; at once again while there is more, and seldom while nothing is claimed or runs."""
        connection = self._connection.get()
        if not queue.is_occupied(connection):
            return self._pause * _SELDOM
        retried, failed, cancelled = queue.rescue(connection, _RESCUE_LIMIT)
        unclaimed = queue.reclaim(connection, _RESCUE_LIMIT)
        rescued = retried + failed + cancelled
        if rescued or unclaimed:
            events.emit(events.TasksRescued(retried, failed, cancelled, unclaimed))
            self._wake()
            queue.ring(connection)  # other relays may have the room
        return 0.0 if max(rescued, unclaimed) >= _RESCUE_LIMIT else self._pause

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class Caretaker:
    """Keeps partitions of history ahead of the calendar, forgets silent processes, releases what nothing holds."""

    name = "caretaker"

    def __init__(self, connection: KeptConnection, process_timeout: float) -> None:
        self._connection = connection
        self._forget_after = 20 * process_timeout

    def run_once(self) -> float:
        """Look after all of it."""
        connection = self._connection.get()
        queue.create_months(connection)
        processes.forget_processes(connection, self._forget_after)
        if queue.release_active(connection):
            queue.ring(connection)
        limits.forget(connection)
        return _CARE_SECONDS

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
