"""Databases of the suite: the kit's (workers/testing/database.py), which users' suites have too, cloned ahead."""

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from db.embedded import EmbeddedServer
from workers.testing.database import Database, cloned, create_clone, drop_clone, fast_server, migrate_template

__all__ = ["Clones", "Database", "cloned", "fast_server", "migrate_template"]


class Clones:
    """Clones a database ahead and drops used ones behind, in its own thread: each costs as much as a small test."""

    def __init__(self, server: EmbeddedServer, template: str) -> None:
        self._server = server
        self._template = template
        self._ready: queue.SimpleQueue[Database | Exception] = queue.SimpleQueue()
        self._orders: queue.SimpleQueue[Database | bool] = queue.SimpleQueue()
        self._orders.put(True)
        self._thread = threading.Thread(target=self._work, name="clones", daemon=True)
        self._thread.start()

    @contextmanager
    def one(self) -> Iterator[Database]:
        """A clone of one's own, dropped soon after whoever is still connected."""
        database = self._ready.get()
        self._orders.put(True)
        if isinstance(database, Exception):
            raise database
        try:
            yield database
        finally:
            database.close()
            self._orders.put(database)

    def close(self) -> None:
        """Drop what is there; call it when no test runs any more."""
        self._orders.put(False)
        self._thread.join()

    def _work(self) -> None:
        """True orders a clone, a database is to be dropped, False ends it."""
        while order := self._orders.get():
            try:
                if isinstance(order, Database):
                    drop_clone(order)
                else:
                    self._ready.put(create_clone(self._server, self._template))
            except Exception as error:
                self._ready.put(error)
