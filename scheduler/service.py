"""The scheduler's services: schedules are looked at when they are due, and a timer wakes whoever looks.

APScheduler is the timer and nothing else: in memory, of this process, with one job, the next look. What is due is read
from Postgres at each look, on Postgres' clock, and at the latest after `poll_seconds`: so changes of the table and of
clocks are seen, and a timer that is early, late or lost does no harm.
"""

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

from apscheduler.executors.debug import DebugExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from core.clock import Clock, SystemClock
from core.groups import SchedulerSettings
from db import fires
from db.connection import Connection, KeptConnection
from db.queries import is_unavailable
from scheduler.firing import Firer
from scheduler.triggers import TriggerSpec, build_trigger

_LOOKS_A_ROUND = 100
# Somebody else has what is due: a moment later it is settled, or still theirs.
_PATIENCE_SECONDS = 0.2
# A schedule that could not be looked at is left alone for so long, and the others go on in time.
_ASIDE_SECONDS = 15.0
# What the timer is not worth while.
_AT_ONCE_SECONDS = 0.01
_PRUNE_SECONDS = 3600.0
_PRUNED_AT_ONCE = 1000


class Timer:
    """Calls `wake` at a moment: the last one that was asked for."""

    def __init__(self, wake: Callable[[], None]) -> None:
        logging.getLogger("apscheduler").setLevel(logging.WARNING)  # a line for each job that is added and runs
        # a wake takes no time: the timer's own thread does it
        self._timer = BackgroundScheduler(timezone=UTC, executors={"default": DebugExecutor()})
        self._wake = wake

    def start(self) -> None:
        """Begin to keep time; twice is fine."""
        if not self._timer.running:
            self._timer.start()

    def wake_in(self, seconds: float) -> None:
        """Wake in so many seconds by this host's clock, more than 0, and not when it was said before."""
        at = datetime.now(UTC) + timedelta(seconds=seconds)
        trigger = build_trigger(TriggerSpec(at=at))
        # the time is given too: a trigger whose moment passes before the timer asks it would never be asked again
        self._timer.add_job(
            self._wake, trigger, id="look", replace_existing=True, misfire_grace_time=None, next_run_time=at
        )

    def stop(self) -> None:
        """Wake nobody any more; twice is fine."""
        if self._timer.running:
            self._timer.shutdown(wait=False)


class Firing:
    """Looks at what is due, and has itself woken when the next is; forgets old fires once an hour."""

    name = "scheduler"

    def __init__(
        self, connection: KeptConnection, settings: SchedulerSettings, timer: Timer, *, clock: Clock | None = None
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._timer = timer
        self._firer = Firer(timedelta(seconds=settings.misfire_seconds))
        self._clock = clock or SystemClock()
        self._pruned_at: float | None = None
        # Schedules that failed, each with the second of the clock before which it is not looked at again.
        self._aside: dict[UUID, float] = {}

    def run_once(self) -> float:
        """Settle what is due; return the seconds until the table is looked at again at the latest."""
        connection = self._connection.get()
        is_done = self._look(connection)
        self._prune(connection)
        due_in = fires.due_in(connection, self._left_alone())
        if due_in is not None and due_in <= _AT_ONCE_SECONDS:
            return 0.0 if is_done else _PATIENCE_SECONDS
        if due_in is not None and due_in < self._settings.poll_seconds:
            self._timer.start()
            self._timer.wake_in(due_in)
        return self._settings.poll_seconds

    def close(self) -> None:
        """Stop the timer and close the connection."""
        self._timer.stop()
        self._connection.close()

    def _look(self, connection: Connection) -> bool:
        """Look at each schedule that is due; return whether any was settled here.

        One that fails, in whatever way, holds up no other: the first error is raised when all were looked at, and
        those that failed are left alone for a while.
        """
        failed: list[Exception] = []
        settled = 0
        for schedule_id in fires.due(connection, _LOOKS_A_ROUND, self._left_alone()):
            try:
                settled += self._firer.look(connection, schedule_id)
            except Exception as error:
                if is_unavailable(error) or connection.closed:
                    raise
                failed.append(error)
                self._aside[schedule_id] = self._clock.monotonic() + _ASIDE_SECONDS
        if failed:
            raise failed[0]
        return settled > 0

    def _left_alone(self) -> list[UUID]:
        now = self._clock.monotonic()
        self._aside = {schedule_id: until for schedule_id, until in self._aside.items() if until > now}
        return list(self._aside)

    def _prune(self, connection: Connection) -> None:
        now = self._clock.monotonic()
        if self._pruned_at is not None and now - self._pruned_at < _PRUNE_SECONDS:
            return
        # where there are more, the next round goes on: what is due does not wait for what is over
        if fires.prune(connection, days=self._settings.fires_keep_days, limit=_PRUNED_AT_ONCE) < _PRUNED_AT_ONCE:
            self._pruned_at = now
