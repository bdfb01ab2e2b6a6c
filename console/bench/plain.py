"""The bench's yardstick: plain psycopg on a plain table, claiming and completing in batches of 500."""

import threading
import time

import psycopg

_BATCH = 500
_CREATE = """
    DROP TABLE IF EXISTS public.plain_tasks;
    CREATE TABLE public.plain_tasks (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payload jsonb NOT NULL,
        status text NOT NULL DEFAULT 'pending',
        created_at timestamptz NOT NULL DEFAULT now(), completed_at timestamptz
    ) WITH (fillfactor = 70);
    CREATE INDEX ON public.plain_tasks (id) WHERE status = 'pending';
"""
_CLAIM = """
    UPDATE public.plain_tasks SET status = 'in_progress' WHERE id IN (
        SELECT id FROM public.plain_tasks WHERE status = 'pending' ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED
    ) RETURNING id, payload, extract(epoch FROM clock_timestamp() - created_at)::float8
"""
_COMPLETE = "UPDATE public.plain_tasks SET status = 'done', completed_at = now() WHERE id = ANY (%s)"


def plain_tasks_per_second(url: str, tasks: int) -> float:
    """Return rows a second that one connection claims and completes, each batch in two committed statements."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_CREATE)
        connection.execute(
            "INSERT INTO public.plain_tasks (payload) "
            "SELECT jsonb_build_object('number', n) FROM generate_series(1, %s) AS n",
            (tasks,),
        )
        started = time.perf_counter()
        while rows := connection.execute(_CLAIM, (_BATCH,)).fetchall():
            connection.execute(_COMPLETE, ([row[0] for row in rows],))
        seconds = time.perf_counter() - started
        connection.execute("DROP TABLE public.plain_tasks")
    return tasks / seconds


def plain_latencies(url: str, count: int) -> list[float]:
    """Return milliseconds from insert to claim of a lone listener that is rung by NOTIFY and claims one row."""
    found: list[float] = []
    with psycopg.connect(url, autocommit=True) as producer, psycopg.connect(url, autocommit=True) as consumer:
        producer.execute(_CREATE)
        consumer.execute("LISTEN plain_wake")

        def consume() -> None:
            while len(found) < count:
                # Drained first: the generator holds the connection that the claim needs.
                if list(consumer.notifies(timeout=5, stop_after=1)):
                    rows = consumer.execute(_CLAIM, (1,)).fetchall()
                    found.extend(row[2] * 1000 for row in rows)

        thread = threading.Thread(target=consume)
        thread.start()
        for expected in range(1, count + 1):
            time.sleep(0.05)
            with producer.transaction():
                producer.execute("INSERT INTO public.plain_tasks (payload) VALUES ('{}')")
                producer.execute("NOTIFY plain_wake")
            deadline = time.monotonic() + 5
            while len(found) < expected and time.monotonic() < deadline:
                time.sleep(0.001)
        thread.join()
        producer.execute("DROP TABLE public.plain_tasks")
    return found
