"""Alerts: what is wrong, raised once and resolved once, and what of it is still to be told.

Typed calls over `sql/alerts.sql`.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from db.connection import Connection
from db.queries import Queries

QUERIES = Queries("alerts")


@dataclass(frozen=True, slots=True)
class Thresholds:
    """From when on something is wrong; all but `failures` are seconds.

    `failures` final failures of a task type within `window`; a queue that has been `stalled`, a loop that is `late`, a
    process that is silent for `process_timeout`. What was not seen for `calm` seconds is over.
    """

    failures: int
    window: float
    stalled: float
    late: float
    process_timeout: float
    calm: float


@dataclass(frozen=True, slots=True)
class Looked:
    """What a look at everything changed: (kind, key) of what was raised and of what was resolved."""

    raised: list[tuple[str, str]]
    resolved: list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Alert:
    """Something that is wrong now, for `seconds`; `facts` are ids, names, counts and seconds."""

    kind: str
    key: str
    facts: dict[str, Any]
    raised_at: datetime
    seconds: float
    is_told: bool


@dataclass(frozen=True, slots=True)
class Telling:
    """A state of an alert that is to be told: `state` is raised or resolved, this is the `tries`-th try."""

    id: UUID
    kind: str
    key: str
    state: str
    facts: dict[str, Any]
    raised_at: datetime
    resolved_at: datetime | None
    tries: int


def look(connection: Connection, thresholds: Thresholds, *, pause: float, keep_days: int) -> Looked | None:
    """Raise what is wrong and resolve what is over; None where a relay looked within `pause` seconds, or looks now.

    Opens a transaction of its own. Alerts that have been over for `keep_days` are forgotten.
    """
    with connection.transaction():
        if not QUERIES.run(connection, "begin", {"pause": pause}):
            return None
        values = {name: getattr(thresholds, name) for name in Thresholds.__slots__}
        seen = [*QUERIES.run(connection, "sight", values), *QUERIES.run(connection, "sight_months")]
        over = QUERIES.run(connection, "resolve", values | {"days": keep_days})
    return Looked([(kind, key) for kind, key, is_new in seen if is_new], [(kind, key) for kind, key in over])


def raised(connection: Connection) -> list[Alert]:
    """Return what is wrong now, the oldest first, at most 1,000."""
    return [Alert(*row) for row in QUERIES.run(connection, "raised")]


def lend(connection: Connection, *, seconds: float) -> Telling | None:
    """Take the next state that is to be told, for so many seconds: nobody else tries meanwhile, and somebody after."""
    rows = QUERIES.run(connection, "lend", {"seconds": seconds})
    return Telling(*rows[0]) if rows else None


def told(connection: Connection, telling: Telling) -> None:
    """Keep that the webhook took a state."""
    QUERIES.run(connection, "told", {"id": telling.id, "state": telling.state})


def put_off(connection: Connection, telling: Telling, delay: float) -> None:
    """Let a state that the webhook did not take be told again after `delay` seconds."""
    QUERIES.run(connection, "put_off", {"id": telling.id, "delay": delay})
