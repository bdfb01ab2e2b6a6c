"""Attempts that this process has given up: without a word their own heartbeat would keep them until their time limit.

An attempt lands here when its message could not be brought to an end (the database was away for too long, a handler did
what no step expects). Its lease is ended as soon as the database answers, and rescue counts it as lost.
"""

import threading
from uuid import UUID

from db import leases
from db.connection import KeptConnection
from db.queue import Claims

_PAUSE = 1.0


class GivenUp:
    """The list, and the service that works it off."""

    name = "given up"

    def __init__(self, url: str, worker_id: UUID, *, pooled: bool) -> None:
        self._connection = KeptConnection(url, name="worker", pooled=pooled)
        self._worker_id = worker_id
        self._claims: list[tuple[UUID, int]] = []
        self._lock = threading.Lock()

    def add(self, claims: Claims) -> None:
        """Give attempts up; those that ended after all, or were never taken, are not touched."""
        with self._lock:
            self._claims.extend(claims)

    def claims(self) -> Claims:
        """Return what is given up and still counts as held."""
        with self._lock:
            return tuple(self._claims)

    def run_once(self) -> float:
        """End the leases of what was given up; a database that is away raises, and nothing is forgotten."""
        with self._lock:
            claims = list(self._claims)
        if claims:
            leases.end_leases(self._connection.get(), claims, self._worker_id)
            with self._lock:
                del self._claims[: len(claims)]
        return _PAUSE

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
