"""A task type that says how many of it run at once, for GREENROOM_TASK_MODULES.

The server keeps the count: each handler takes the lowest free one of a row of advisory locks, which a killed process
loses with its connection, and writes down which one it was.
"""

import os
import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import psycopg

from pipelines.outcomes import Done, Outcome
from pipelines.payload import Payload
from pipelines.task import Task, TaskContext
from tests.faults.tasks import effect

PLACES = (
    "CREATE TABLE public.places (place integer NOT NULL)",
    "GRANT SELECT, INSERT ON public.places TO greenroom_worker",
)
_TAKE = """
INSERT INTO public.places SELECT place FROM generate_series(1, 100) AS place
WHERE pg_try_advisory_lock(4711, place) LIMIT 1 RETURNING place
"""
_kept = threading.local()


class Limited(Payload):
    """Takes a place, stays there for a moment, writes its effect."""

    task_type = "fault.limited"
    seconds: float = 0.005


def _stay(context: TaskContext, payload: Limited) -> Outcome:
    connection = _connection()
    [(place,)] = connection.execute(_TAKE).fetchall()
    try:
        time.sleep(payload.seconds)
    finally:
        connection.execute("SELECT pg_advisory_unlock(4711, %s)", (place,))
    return Done(apply=effect(context))


def _connection() -> "psycopg.Connection[tuple[int]]":
    """Return this thread's own connection to the database of its worker."""
    if not hasattr(_kept, "connection") or _kept.connection.closed:
        _kept.connection = psycopg.connect(os.environ["GREENROOM_DATABASE_URL"], autocommit=True)
    connection: psycopg.Connection[tuple[int]] = _kept.connection
    return connection


TASKS: Sequence[Task[Any]] = (
    Task(payload=Limited, run=_stay, time_limit=timedelta(minutes=1), max_attempts=50, limit_key="provider"),
)
