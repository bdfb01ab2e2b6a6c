"""Wait for a task's end: polling, the truth that works through every pooler."""

import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import psycopg

from core.errors import WaitTimeoutError
from db import queue
from db.queue import TaskEnd

__all__ = ["TaskEnd", "wait_for", "wait_for_all"]

_SHORTEST, _LONGEST = 0.005, 0.25


def wait_for(connection: psycopg.Connection[Any], task_id: UUID, *, timeout: float) -> TaskEnd:
    """Return the end of a task, waiting up to `timeout` seconds; raises WaitTimeoutError, and the task goes on."""
    return wait_for_all(connection, [task_id], timeout=timeout)[0]


def wait_for_all(
    connection: psycopg.Connection[Any],
    task_ids: list[UUID],
    *,
    timeout: float,
    on_poll: Callable[[int], None] | None = None,
) -> list[TaskEnd]:
    """Return the ends of tasks in the order given; `on_poll` is told how many have ended so far.

    The connection must be in autocommit: within a transaction the task that is waited for would not be visible.
    """
    deadline = time.monotonic() + timeout
    ended: dict[UUID, TaskEnd] = {}
    pause = _SHORTEST
    while True:
        missing = [task_id for task_id in task_ids if task_id not in ended]
        ended |= {end.task_id: end for end in queue.ended(connection, missing)}
        if on_poll:
            on_poll(len(ended))
        if len(ended) == len(set(task_ids)):
            return [ended[task_id] for task_id in task_ids]
        if time.monotonic() > deadline:
            raise WaitTimeoutError(
                f"{len(set(task_ids)) - len(ended)} of {len(task_ids)} tasks have not ended in {timeout:g} s"
            )
        time.sleep(pause)
        pause = min(pause * 1.5, _LONGEST)
