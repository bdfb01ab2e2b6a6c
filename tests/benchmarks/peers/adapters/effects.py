"""How handlers of peers without a transaction of their own write their row: at once, committed by itself."""

import threading
from typing import Any

import psycopg

from tests.benchmarks.peers.adapters.common import INSERT_EFFECT

_INSERT = INSERT_EFFECT.format("%s")


class ThreadEffects:
    """One connection a thread, opened at its first row."""

    def __init__(self, database: str) -> None:
        self._database = database
        self._local = threading.local()

    def write(self, number: int) -> None:
        """Insert and commit."""
        if not hasattr(self._local, "connection"):
            self._local.connection = psycopg.connect(self._database, autocommit=True, prepare_threshold=1)
        self._local.connection.execute(_INSERT, (number,))


class AsyncEffects:
    """A few connections of asyncpg, shared by the handlers of one event loop."""

    _INSERT = INSERT_EFFECT.format("$1")

    def __init__(self, database: str) -> None:
        self._database = database
        self._pool: Any = None

    async def open(self) -> None:
        """Open the connections, before the first task."""
        import asyncpg  # type: ignore[import-not-found]  # the peers' environment has it

        self._pool = await asyncpg.create_pool(self._database, min_size=4, max_size=4)

    async def write(self, number: int) -> None:
        """Insert and commit."""
        await self._pool.execute(self._INSERT, number)
