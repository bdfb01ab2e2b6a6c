"""The connections of a worker's threads: one a thread and scope, guarded, opened anew after they broke.

What works outside of transactions has one of its own, past the pooler where its address is known.
"""

import threading

from core.errors import UnavailableError
from db.connection import Connection, KeptConnection
from workers.guard import GuardedCursor


class Connections:
    """A worker's logins by task scope (`tenant`, `system`), and the connections that its threads hold."""

    def __init__(self, urls: dict[str, str | None], *, pooled: bool, direct_url: str | None = None) -> None:
        self._urls = urls | {"outside": direct_url or urls.get("system")}
        self._pooled = {scope: pooled for scope in urls} | {"outside": pooled and direct_url is None}
        self._local = threading.local()
        self._of_threads: dict[int, list[KeptConnection]] = {}

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
            kept = KeptConnection(url, name=f"worker {scope}", pooled=self._pooled[scope], cursor=GuardedCursor)
            self._of_threads.setdefault(threading.get_ident(), []).append(kept)
            setattr(self._local, scope, kept)
        return kept

    def cancel(self, thread: int) -> None:
        """Ask the server to cancel what a thread waits for, which no interruption reaches inside the driver."""
        for kept in self._of_threads.get(thread, ()):
            kept.cancel()

    def renew(self) -> None:
        """Close the calling thread's: it was interrupted, maybe within a statement, and a cancel may be due."""
        for kept in self._of_threads.get(threading.get_ident(), ()):
            kept.close()

    def close(self) -> None:
        """Close all; call it when no message runs any more."""
        for several in tuple(self._of_threads.values()):
            for kept in several:
                kept.close()
