"""What a relay's process does beside the relay: it gives back what was lost, and keeps the queue's house in order."""

import time
from collections.abc import Callable
from uuid import UUID

from core import events
from core.errors import UnavailableError
from db import limits, months, processes, queue, stale
from db.connection import Connection, KeptConnection
from workers.claiming import LOOK_SHARE

_RESCUE_LIMIT = 1000
# What is claimed after a look at nothing is not overdue before its claim, and whoever ends a lease early rings.
_SELDOM = 10
# While an old transaction keeps what was claimed and is gone, a look walks over all of that: it takes at most a
# twentieth of the time then, as a claim's look does.
_MOST_SECONDS = 15.0
_CARE_SECONDS = 45.0
# A page takes some 30 ms; a backlog of a million tasks is gone through in eight minutes.
_STALE_PAGE, _STALE_PAGES = 10_000, 10
_FIRST = UUID(int=0)


class Rescuer:
    """Gives back what was claimed and not taken, and taken and not renewed."""

    name = "rescuer"

    def __init__(
        self,
        connection: KeptConnection,
        pause: float,
        wake: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = connection
        self._pause = pause
        self._wake = wake
        self._clock = clock

    def run_once(self) -> float:
        """Rescue one batch; at once again while there is more, and seldom while nothing is claimed or runs."""
        connection, started = self._connection.get(), self._clock()
        if not queue.is_occupied(connection):
            return self._pause * _SELDOM
        retried, failed, cancelled = queue.rescue(connection, _RESCUE_LIMIT)
        unclaimed = queue.reclaim(connection, _RESCUE_LIMIT)
        rescued = retried + failed + cancelled
        if rescued or unclaimed:
            events.emit(events.TasksRescued(retried, failed, cancelled, unclaimed))
            self._wake()
            queue.ring(connection)  # other relays may have the room
        if max(rescued, unclaimed) >= _RESCUE_LIMIT:
            return 0.0
        return max(self._pause, min((self._clock() - started) * LOOK_SHARE, _MOST_SECONDS))

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class Caretaker:
    """Keeps the months of all tables ahead of the calendar, forgets silent processes, releases what nothing holds.

    And it cancels what was pending for longer than its type lets it: a worker that could is what such a task waits for.
    """

    name = "caretaker"

    def __init__(self, connection: KeptConnection, process_timeout: float) -> None:
        self._connection = connection
        self._forget_after = 20 * process_timeout
        self._looked_at = _FIRST

    def run_once(self) -> float:
        """Look after all of it. A chore that fails keeps none of the others; what it raised is raised after them."""
        failed: Exception | None = None
        for chore in (self._make_months, self._forget_silent, self._release, self._forget_limits, self._cancel_stale):
            try:
                chore(self._connection.get())
            except UnavailableError:
                raise
            except Exception as error:
                failed = failed or error
        if failed is not None:
            raise failed
        return _CARE_SECONDS

    def _make_months(self, connection: Connection) -> None:
        months.make_missing(connection)

    def _forget_silent(self, connection: Connection) -> None:
        processes.forget_processes(connection, self._forget_after)

    def _release(self, connection: Connection) -> None:
        if queue.release_active(connection):
            queue.ring(connection)

    def _forget_limits(self, connection: Connection) -> None:
        limits.forget(connection)

    def _cancel_stale(self, connection: Connection) -> None:
        """Look at some pages of the live tasks, and go on there the next time; from the first again behind the last."""
        if not stale.is_any(connection):
            return
        cancelled = 0
        for _ in range(_STALE_PAGES):
            looked = stale.cancel(connection, self._looked_at, _STALE_PAGE)
            cancelled += looked.cancelled
            is_last = looked.last is None or looked.size < _STALE_PAGE
            self._looked_at = looked.last if looked.last is not None and not is_last else _FIRST
            if is_last:
                break
        if cancelled:
            events.emit(events.StaleTasksCancelled(cancelled))

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
