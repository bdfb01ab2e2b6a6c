"""Attempts that this process has given up: without a word their own heartbeat would keep them until their time limit.

An attempt lands here when its message could not be brought to an end (the database was away for too long, a handler did
what no step expects). Its lease is ended as soon as the database answers, and rescue counts it as lost.
"""

import threading
from uuid import UUID

from db import leases
from db.connection import KeptConnection
from db.queue import Claims
from workers.handed import Handed

_PAUSE = 1.0


class GivenUp:
    """The list, and the service that works it off."""

    name = "given up"

    def __init__(self, url: str, worker_id: UUID, handed: Handed, *, pooled: bool) -> None:
        self._handed = handed
        self._unbegun: list[tuple[UUID, int]] = []
        self._connection = KeptConnection(url, name="worker", pooled=pooled)
        self._worker_id = worker_id
        self._claims: list[tuple[UUID, int]] = []
        self._lock = threading.Lock()

    def add(self, claims: Claims) -> None:
        """Give attempts up; those that ended after all, or were never taken, are not touched."""
        with self._lock:
            self._claims.extend(claims)

    def add_unbegun(self, claims: Claims) -> None:
        """Give claims back that no thread has begun, started or not, at no cost."""
        self._handed.collect(claims)
        with self._lock:
            self._unbegun.extend(claims)

    def claims(self) -> Claims:
        """Return what is given up and still counts as held."""
        with self._lock:
            return (*self._claims, *self._unbegun)

    def run_once(self) -> float:
        """End the leases of what was given up; a database that is away raises, and nothing is forgotten."""
        self._give_back()
        with self._lock:
            claims = list(self._claims)
        if claims:
            leases.end_leases(self._connection.get(), claims, self._worker_id)
            with self._lock:
                del self._claims[: len(claims)]
        return _PAUSE

    def _give_back(self) -> None:
        """Give back what was not begun, with what waits for a thread for too long."""
        with self._lock:
            self._unbegun.extend(self._handed.overdue())
            claims = list(self._unbegun)
        if claims:
            leases.give_back(self._connection.get(), claims, self._worker_id)
            with self._lock:
                del self._unbegun[: len(claims)]

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
