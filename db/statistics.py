"""Statistics by minute: what ended, how long it ran and waited, how queues stood.

Typed calls over `sql/statistics.sql`. Counted from rows that are there anyway, by whichever relay is first, on
Postgres' clock: a task's life writes nothing of it.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from db.connection import Connection
from db.queries import Queries

QUERIES = Queries("statistics")
_MINUTE = timedelta(minutes=1)
# Minutes that no relay counted within a day are left out: a relay that comes back has better to do.
_CATCH_UP_MINUTES = 1440
# More waiting tasks of a queue than this are shown as this many: 100,000 take 40 ms to look at (November 2026).
MOST_WAITING = 100_000
_STANDING_MINUTES = 5
PRUNE_LIMIT = 10_000


@dataclass(frozen=True, slots=True)
class MinuteRow:
    """What ended in the minute that begins at `minute`.

    `runs` of the `done`, `failed` and `cancelled` tasks had started; the seconds are theirs, of the last attempt.
    Attempts that ended without ending their task are `retried`, `snoozed`, `lost` and `handed_back`.
    """

    minute: datetime
    queue: str
    task_type: str
    done: int
    failed: int
    cancelled: int
    runs: int
    run_seconds: float
    run_seconds_max: float
    wait_seconds: float
    wait_seconds_max: float
    retried: int
    snoozed: int
    lost: int
    handed_back: int


@dataclass(frozen=True, slots=True)
class Standing:
    """A queue at one moment: due tasks that wait (those claimed, and at most MOST_WAITING others) and that run."""

    queue: str
    waiting: int
    running: int
    oldest_seconds: float


@dataclass(frozen=True, slots=True)
class GaugeRow(Standing):
    """A queue at the beginning of a minute."""

    minute: datetime


def roll_up(connection: Connection) -> bool:
    """Count the next closed minute, and the one before it again; return whether more minutes wait to be counted.

    Opens a transaction of its own, whose lock on the chore's row keeps other relays out: they return False at once, and
    so does a call when every closed minute has been counted. With the last one the queues are looked at.
    """
    with connection.transaction():
        rows = QUERIES.run(connection, "begin", {"catch_up": _CATCH_UP_MINUTES})
        if not rows:
            return False
        [(reached, closed)] = rows
        if reached >= closed:
            return False
        until = reached + _MINUTE
        for minute in (reached - _MINUTE, reached):
            QUERIES.run(connection, "count", {"minute": minute})
        if until == closed:
            QUERIES.run(connection, "gauge", {"minute": closed, "most": MOST_WAITING})
        QUERIES.run(connection, "reach", {"until": until})
    return bool(until < closed)


def seconds_to_next_minute(connection: Connection) -> float:
    """Return the seconds until the running minute closes."""
    [(seconds,)] = QUERIES.run(connection, "to_next_minute")
    return float(seconds)


def prune(connection: Connection, *, days: int) -> int:
    """Forget minutes older than so many days, at most PRUNE_LIMIT rows of each table; return how many rows."""
    [(forgotten,)] = QUERIES.run(connection, "prune", {"days": days, "limit": PRUNE_LIMIT})
    return int(forgotten)


def standing(connection: Connection) -> list[Standing]:
    """Return how the queues stood when they were last looked at; nothing where that is minutes ago."""
    return [Standing(*row) for row in QUERIES.run(connection, "standing", {"minutes": _STANDING_MINUTES})]


def minutes(
    connection: Connection, *, count: int, queue: str | None = None, task_type: str | None = None
) -> list[MinuteRow]:
    """Return the rows of the last `count` closed minutes, oldest first; minutes in which nothing ended have none."""
    values = {"minutes": count, "queue": queue, "task_type": task_type}
    return [MinuteRow(*row) for row in QUERIES.run(connection, "minutes", values)]


def gauges(connection: Connection, *, count: int, queue: str | None = None) -> list[GaugeRow]:
    """Return how queues stood at the beginnings of the last `count` minutes, oldest first."""
    return [GaugeRow(*row) for row in QUERIES.run(connection, "gauges", {"minutes": count, "queue": queue})]
