"""Attempts that a relay has started for the worker in its own process, until one of its threads begins them.

A claim of such a relay is a take as well, which saves a statement. Whoever takes an attempt out of here has it: the
thread that begins it, or who gives it back because it waits for too long or the worker stops.
"""

import threading
import time
from collections.abc import Callable, Iterable
from uuid import UUID

from core.errors import UnavailableError
from db import leases, queue
from db.connection import Connection
from db.queue import Claims

# What waits for longer than this behind a handler that is slower than was known is for whoever is free.
WAIT_SECONDS = 1.0
MOST_WAIT_SECONDS = 7.0
"""What waits for too long has been given back by then: the rescuer of an idle process looks every few seconds."""


class Handed:
    """The attempts by claim, of the one worker that has opened this; closed, it keeps none."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waiting: dict[tuple[UUID, int], tuple[queue.Attempt, float]] = {}
        self._lock = threading.Lock()
        self._is_open = False
        self._worker_id: UUID | None = None
        self._begun: Callable[[], Claims] = lambda: ()

    def open(self, worker_id: UUID, begun: Callable[[], Claims]) -> None:
        """Keep attempts for a worker, of which `begun` tells what its threads hold."""
        with self._lock:
            self._is_open, self._worker_id, self._begun = True, worker_id, begun

    def close(self) -> None:
        """Keep no more: the worker stops."""
        with self._lock:
            self._is_open = False

    def put(self, attempts: Iterable[queue.Attempt]) -> bool:
        """Keep started attempts for the worker; return False, and keep none, if it takes no more."""
        now = self._clock()
        with self._lock:
            if self._is_open:
                self._waiting.update({(a.task_id, a.claim_number): (a, now) for a in attempts})
            return self._is_open

    def collect(self, claims: Claims) -> list[queue.Attempt]:
        """Take out those of the attempts that are here, in the order of `claims`."""
        # One `pop` each, which no other thread can come between: nobody else gets what it returns.
        found = [self._waiting.pop(claim, None) for claim in claims]
        return [each[0] for each in found if each is not None]

    def give_back(self, connection: Connection, claims: Claims, *, delay: float = 0.0) -> None:
        """Give claims back that no thread has begun, at no cost, whether or not their attempts were started."""
        found = self.collect(claims)
        if found and self._worker_id is not None:
            started = [(a.task_id, a.claim_number) for a in found]
            try:
                leases.untake(connection, started, self._worker_id, delay=delay)
            except UnavailableError:
                self._waiting.update({claim: (a, 0.0) for claim, a in zip(started, found, strict=True)})
                raise  # they are overdue then, and given back when the database answers
        if len(found) < len(claims):
            queue.give_back(connection, claims, delay=delay)
        queue.ring(connection)

    def give_back_overdue(self, connection: Connection) -> int:
        """Give back what has waited for too long; return how many that were."""
        latest = self._clock() - WAIT_SECONDS
        overdue = [claim for claim, (_, since) in tuple(self._waiting.items()) if since < latest]
        if overdue:
            self.give_back(connection, overdue)
        return len(overdue)

    def give_back_strays(self, connection: Connection) -> int:
        """Give back what was started for the worker and neither waits here nor was begun; return how many."""
        if self._worker_id is None:
            return 0
        # Those that wait first: one that is begun meanwhile is found among the others.
        strays = leases.untake_strays(connection, [*tuple(self._waiting), *self._begun()], self._worker_id)
        if strays:
            queue.ring(connection)
        return strays
