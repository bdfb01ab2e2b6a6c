"""The settler: starts or ends tasks when the tasks that they waited for have ended; counts and calls back batches.

Ends leave rows behind (`queue.settlements`), whoever ends a task and however; this loop of every relay reads them, one
relay at a time. Now and then it looks at waiting tasks themselves, so that none depends on a row that was lost.
"""

import time
from collections.abc import Callable

from db import dependencies, queue
from db.connection import KeptConnection

_LIMIT = 1000
_BUSY_PAUSE = 0.1
# Seconds between looks at the waiting tasks themselves: where there are some, and where there were none.
_RECHECK_SECONDS, _RECHECK_SELDOM = 5.0, 60.0
_KEPT_SECONDS = 90 * 24 * 3600.0


class Settler:
    """Settles dependencies and batches; woken with the relay, and polling."""

    name = "settler"

    def __init__(
        self, connection: KeptConnection, pause: Callable[[], float], wake: Callable[[], None], *, limit: int = _LIMIT
    ) -> None:
        self._connection = connection
        self._pause = pause
        self._wake = wake
        self._limit = limit
        self._after = dependencies.FIRST_ID
        self._recheck_at = 0.0
        self._is_waited = False

    def run_once(self) -> float:
        """Settle one batch of rows; at once again while there are more."""
        connection = self._connection.get()
        done = dependencies.settle(connection, self._limit)
        if done.is_idle and time.monotonic() >= self._recheck_at:
            done = self._recheck()
        if not done.is_idle:
            # what was started, and what our locks kept from a claim
            self._wake()
            queue.ring(connection)
            self._is_waited = True
            return 0.0
        return min(_BUSY_PAUSE, self._pause()) if self._is_waited else self._pause()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _recheck(self) -> dependencies.Settled:
        """Look at the next waiting tasks themselves; from the first again after the last."""
        connection = self._connection.get()
        is_first_page = self._after == dependencies.FIRST_ID
        done, self._after = dependencies.recheck(connection, self._after, self._limit)
        if self._after != dependencies.FIRST_ID or is_first_page:
            self._is_waited = self._after != dependencies.FIRST_ID
        self._recheck_at = time.monotonic() + (_RECHECK_SECONDS if self._is_waited else _RECHECK_SELDOM)
        dependencies.forget(connection, _KEPT_SECONDS, self._limit)
        return done
