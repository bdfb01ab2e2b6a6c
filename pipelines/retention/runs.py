"""What all steps of retention have in common: the run that they work on, and the pace at which they work.

A step takes page after page, each a transaction that holds what it did, so that a killed worker's run goes on where it
was. Between two pages it rests: retention takes at most half of a connection's time, and less while tasks wait. Where
they wait for a second it ends the attempt instead, since they may wait for the thread that would rest.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from core.backoff import Backoff
from core.clock import Clock, SystemClock
from db import retention_runs
from db.connection import Connection
from db.retention_runs import Run
from pipelines.outcomes import Outcome
from pipelines.payload import Payload
from pipelines.registry import AnyTask
from pipelines.task import UNCOUNTED, RetryPolicy, Task, TaskContext

__all__ = ["RETENTION_QUEUE", "Pacer", "Run", "Step", "paced_task"]

RETENTION_QUEUE = "retention"
Step = Callable[[TaskContext, Connection, Run, "Pacer"], str | None]
"""Works until nothing of the run is left (None), or the time is up or something is in use (why to come back)."""

_PAGE_SECONDS = 0.1
# A page has a price of its own, some 20 ms and on a busy machine more than _PAGE_SECONDS: fewer rows would not make it
# shorter, and their number would go down to one.
_LEAST, _MOST = 1000, 20_000
# A rest is as long as the page before it, and ten times that more for each second that the oldest due task waits, up to
# so many times that: what waits for a worker that never comes would stop retention for ever.
_FOR_EACH_SECOND, _TIMES = 10.0, 20.0
_LONGEST_REST = 30.0
# From so many seconds on that the oldest task waits, the attempt makes way: it snoozes, and its thread is free.
_MAKES_WAY = 1.0
# Pieces of a rest: one that is interrupted ends with its piece.
_PIECE = 0.5


def _rest(seconds: float) -> None:
    never = threading.Event()
    for _ in range(int(seconds / _PIECE)):
        never.wait(_PIECE)
    never.wait(seconds % _PIECE)


class Pacer:
    """Says how many rows the next page takes and when the attempt's time is up, and rests between pages.

    `connection` is asked between pages, outside of any transaction, how long the oldest due task waits. `seconds` are
    the attempt's own; a page that was begun before they are over comes to its end. `pause` is for how long the task is
    then to snooze: what would have been a rest.
    """

    pause = timedelta(0)

    def __init__(
        self,
        connection: Connection,
        *,
        seconds: float = 60.0,
        most: int = _MOST,
        clock: Clock | None = None,
        rest: Callable[[float], None] = _rest,
    ) -> None:
        self._connection, self._clock, self._rest = connection, clock or SystemClock(), rest
        self._deadline = self._clock.monotonic() + seconds
        self._most = most
        self._size = min(_LEAST, most)

    @property
    def is_over(self) -> bool:
        """Whether the attempt's time is up, or it makes way: what is left is for the next one."""
        return self._clock.monotonic() >= self._deadline

    @contextmanager
    def page(self, *, keeps_on: bool = False) -> Iterator[int]:
        """Time one page: yields how many rows it may take, 0.1 s of them, 1,000 at the least, and rests at its end.

        One that `keeps_on` makes no way, since what it is of cannot be broken off.
        """
        started = self._clock.monotonic()
        yield self._size
        took = self._clock.monotonic() - started
        wanted = self._size * min(max(_PAGE_SECONDS / max(took, 1e-6), 0.5), 2.0)
        self._size = min(max(int(wanted), _LEAST), self._most)
        if not self.is_over:
            self._end_page(took, keeps_on=keeps_on)

    def _end_page(self, took: float, *, keeps_on: bool) -> None:
        waits = retention_runs.waiting_seconds(self._connection, RETENTION_QUEUE)
        wanted = min(took * min(1 + _FOR_EACH_SECOND * waits, _TIMES), _LONGEST_REST)
        if waits < _MAKES_WAY:
            self._rest(wanted)
        elif keeps_on:
            self._rest(min(took, _LONGEST_REST))
        else:
            self._deadline, self.pause = self._clock.monotonic(), timedelta(seconds=wanted)


def paced_task(payload: type[Payload], run: Callable[[TaskContext, Any], Outcome]) -> AnyTask:
    """Declare a task that works page by page beside the work, for a `Pacer`'s time an attempt."""
    return Task(
        payload=payload,
        run=run,
        queue=RETENTION_QUEUE,
        scope="system",
        outside=True,
        batch_size=1,
        time_limit=timedelta(minutes=15),
        max_snoozes=UNCOUNTED,
        # A killed worker's attempt counts, however far it came: most of a day of them.
        max_attempts=100,
        retry=RetryPolicy(Backoff(base=1.0, maximum=600.0, jitter=0.2)),
    )
