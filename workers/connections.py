"""The connections of a worker's threads: one a thread and scope, guarded, opened anew after they broke."""

import threading

from core.errors import UnavailableError
from db.connection import Connection, KeptConnection
from workers.guard import GuardedCursor


class Connections:
    """A worker's logins by task scope (`tenant`, `system`), and the connections that its threads hold."""

    def __init__(self, urls: dict[str, str | None], *, pooled: bool) -> None:
        self._urls = urls
        self._pooled = pooled
        self._local = threading.local()
        self._all: list[KeptConnection] = []

    def of(self, scope: str) -> Connection:
        """Return the calling thread's connection; raises UnavailableError."""
        return self.kept(scope).get()

    def kept(self, scope: str) -> KeptConnection:
        """Return what keeps the calling thread's connection; raises UnavailableError for a scope without a login."""
        kept: KeptConnection | None = getattr(self._local, scope, None)
        if kept is None:
            url = self._urls[scope]
            if url is None:
                raise UnavailableError(f"this worker has no address for the {scope} role")
            kept = KeptConnection(url, name=f"worker {scope}", pooled=self._pooled, cursor=GuardedCursor)
            self._all.append(kept)
            setattr(self._local, scope, kept)
        return kept

    def close(self) -> None:
        """Close all; call it when no message runs any more."""
        for kept in self._all:
            kept.close()
