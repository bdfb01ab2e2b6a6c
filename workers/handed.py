"""Attempts that a relay has started for an idle thread of the worker in its own process, until that thread begins them.

Such a claim is a take as well, which saves a statement. Whoever takes an attempt out of here has it.
"""

import threading
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple
from uuid import UUID

from db.queue import Attempt, Claims

# A thread is idle when its message is made: one that comes later than this was held up with its whole process, its
# lease may be over, and it begins nothing. As a share of the lease, and at most so many seconds.
_FRESH_SHARE, _MOST_FRESH_SECONDS = 1 / 6, 5.0


class Collected(NamedTuple):
    """What was waiting of a message: what may begin, and what has to be given back."""

    fresh: list[Attempt]
    stale: list[Attempt]


class Handed:
    """The attempts by claim, as long as the worker is open for more; `begun` tells what its threads hold."""

    def __init__(
        self,
        worker_id: UUID,
        lease_seconds: float,
        begun: Callable[[], Claims],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.worker_id = worker_id
        self._begun = begun
        self.fresh_seconds = min(lease_seconds * _FRESH_SHARE, _MOST_FRESH_SECONDS)
        self._clock = clock
        self._waiting: dict[tuple[UUID, int], tuple[Attempt, float]] = {}
        self._lock = threading.Lock()
        self._is_open = True

    def put(self, attempts: Iterable[Attempt], since: float | None = None) -> bool:
        """Keep attempts for the worker that a claim has started which began at `since`, a moment of the clock, or now.

        Returns False, and keeps none, if the worker takes no more.
        """
        since = self._clock() if since is None else since
        with self._lock:
            if self._is_open:
                self._waiting.update({(a.task_id, a.claim_number): (a, since) for a in attempts})
            return self._is_open

    def collect(self, claims: Claims) -> Collected:
        """Take out those of the attempts that are here, in the order of `claims`."""
        # One `pop` each, which no other thread can come between: nobody else gets what it returns.
        found = [each for claim in claims if (each := self._waiting.pop(claim, None)) is not None]
        oldest = self._clock() - self.fresh_seconds
        return Collected([a for a, since in found if since >= oldest], [a for a, since in found if since < oldest])

    def overdue(self) -> Claims:
        """Take out and return what was not begun in time: its thread is lost, or busy with what came before it."""
        oldest = self._clock() - self.fresh_seconds
        late = [claim for claim, (_, since) in tuple(self._waiting.items()) if since < oldest]
        return [claim for claim in late if self._waiting.pop(claim, None) is not None]

    def close(self) -> Claims:
        """Keep no more, since the worker stops; take out and return what nobody has begun."""
        with self._lock:
            self._is_open = False
            return [claim for claim in tuple(self._waiting) if self._waiting.pop(claim, None) is not None]

    def known(self) -> Claims:
        """Return what is here and what was begun."""
        # First what waits here: what is begun meanwhile is found among what was begun.
        return [*tuple(self._waiting), *self._begun()]
