"""The yardstick: plain psycopg on a plain table. No attempts, leases, retries or history: a ceiling, not a peer."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import psycopg

from tests.benchmarks.peers.adapters.common import INSERT_EFFECT, Config, Facts, Marks, main

_BATCH = 500
_CREATE = """
    CREATE TABLE public.plain_tasks (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, payload jsonb NOT NULL,
        status text NOT NULL DEFAULT 'pending', created_at timestamptz NOT NULL DEFAULT now(), completed_at timestamptz
    ) WITH (fillfactor = 70);
    CREATE INDEX ON public.plain_tasks (id) WHERE status = 'pending';
    CREATE INDEX ON public.plain_tasks (id) WHERE status <> 'done';
"""
_INSERT = "INSERT INTO public.plain_tasks (name, payload) VALUES (%s, jsonb_build_object('n', %s::bigint))"
_INSERT_MANY = (
    "INSERT INTO public.plain_tasks (name, payload)"
    " SELECT %s, jsonb_build_object('n', n) FROM unnest(%s::bigint[]) AS n"
)
_CLAIM = """
    UPDATE public.plain_tasks SET status = 'in_progress' WHERE id IN (
        SELECT id FROM public.plain_tasks WHERE status = 'pending' ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED
    ) RETURNING id, name, payload
"""
_COMPLETE = "UPDATE public.plain_tasks SET status = 'done', completed_at = now() WHERE id = ANY (%s)"


class Plain:
    """Claims and completes batches of 500, each in two committed statements; woken by NOTIFY."""

    def __init__(self, config: Config, marks: Marks) -> None:
        self._config = config
        self._marks = marks

    def facts(self) -> Facts:
        """Say what the harness has to know."""
        return Facts(
            settings=f"batches of {_BATCH}, one connection a process",
            judged="no row that is not 'done'",
            effect="with the completion",
            versions={"psycopg": psycopg.__version__},
            sql="SELECT EXISTS (SELECT FROM public.plain_tasks WHERE status <> 'done')",
        )

    def setup(self) -> None:
        """Create the table."""
        with self._connect() as connection:
            connection.execute(_CREATE)

    @asynccontextmanager
    async def producer(self) -> AsyncIterator["PlainProducer"]:
        """Open one connection."""
        with self._connect() as connection:
            yield PlainProducer(connection)

    def work(self, kind: str, gate: Callable[[], None]) -> None:
        """Claim, do, complete; sleep until a NOTIFY when there is nothing."""
        with self._connect() as connection:
            connection.execute("LISTEN plain_wake")
            gate()
            while True:
                rows = connection.execute(_CLAIM, (_BATCH,)).fetchall()
                if rows:
                    self._do(connection, rows)
                else:
                    # Drained first: the generator holds the connection that the claim needs.
                    list(connection.notifies(timeout=0.5, stop_after=1))

    def _do(self, connection: psycopg.Connection[Any], rows: Sequence[tuple[int, str, dict[str, int]]]) -> None:
        effects = []
        for _, name, payload in rows:
            self._marks.began()
            if name == "mark":
                self._marks.started(payload["n"])
            elif name == "write":
                effects.append((payload["n"],))
        with connection.transaction(), connection.cursor() as cursor:
            if effects:
                cursor.executemany(INSERT_EFFECT.format("%s"), effects)
            cursor.execute(_COMPLETE, ([row[0] for row in rows],))

    def _connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self._config.database, autocommit=True, prepare_threshold=1)


class PlainProducer:
    """Plain INSERTs. The NOTIFY rides along only where somebody may sleep: latency."""

    is_atomic = True

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    async def one(self, task: str, number: int) -> None:
        """Insert a row."""
        if task != "mark":
            self._connection.execute(_INSERT, (task, number))
            return
        with self._connection.transaction():
            self._connection.execute(_INSERT, (task, number))
            self._connection.execute("NOTIFY plain_wake")

    async def many(self, task: str, numbers: Sequence[int]) -> None:
        """Insert rows in one statement."""
        with self._connection.transaction():
            self._connection.execute(_INSERT_MANY, (task, list(numbers)))
            self._connection.execute("NOTIFY plain_wake")


if __name__ == "__main__":
    main(Plain)
