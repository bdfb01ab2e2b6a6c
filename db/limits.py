"""Limits: claims that keep to them, what operators set, and the pause of a key whose provider has refused.

Invariant (I5): nothing counts up and down. What a limit lets in is counted anew from the tasks that are claimed or in
progress, by whoever holds the limit's row.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple
from uuid import UUID

from core.errors import UsageError
from db.audit import Resource, record
from db.connection import Connection
from db.queries import Queries
from db.queue import Capacity, Claim, Reach, claim_values, in_order, ring

QUERIES = Queries("limits")
Kind = Literal["queue", "task_type", "tenant", "key"]
EACH = "*"
"""The name of a limit that holds for each queue, task type, tenant or key by itself."""
_MOST_NAME, _MOST_RATE, _MOST_AT_ONCE = 200, 1_000_000, 1_000_000
_YEAR_SECONDS = 31_536_000


class Admitted(NamedTuple):
    """What limits let in; `wait` seconds until a rate or a pause lets more in; whether tasks have to end first."""

    claims: list[Claim]
    wait: float | None
    is_full: bool


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit on one queue, task type, tenant or key, or on each (`EACH`): what is None it does not limit.

    `concurrency` tasks are claimed or in progress at once; `rate` are claimed in `rate_seconds`, and `burst` of them at
    once after a rest.
    """

    kind: Kind
    name: str
    concurrency: int | None = None
    rate: float | None = None
    rate_seconds: float | None = None
    burst: int | None = None


@dataclass(frozen=True, slots=True)
class LimitRow(Limit):
    """A limit and how full it is: `occupied` tasks count now, `tokens` may be claimed at once.

    Of a limit on each, those of the one that is fullest, whose name is `fullest`. `paused_until` is a provider's pause.
    """

    paused_until: datetime | None = None
    occupied: int = 0
    fullest: str | None = None
    tokens: float | None = None


def claim(connection: Connection, wanted: Capacity, reach: Reach) -> Admitted:
    """Claim due tasks of a queue as `db.queue.claim` does, as far as their limits let them in.

    A transaction of its own: it locks the limits, then counts what is occupied by a snapshot taken after that.
    """
    values = claim_values(wanted, reach)
    names = {
        "tenants": list({str(lane.tenant) for lane in reach.from_ranks}),
        "keys": list({lane.key for lane in reach.from_ranks}),
    }
    with connection.transaction():
        held = QUERIES.run(connection, "hold", values | names)
        values |= {"held_kinds": [row[0] for row in held], "held_names": [row[1] for row in held]}
        rows = QUERIES.run(connection, "claim", values)
    claims = in_order(Claim(*row[2:]) for row in rows if row[2] is not None)
    return Admitted(claims, rows[0][0], rows[0][1])


def forget(connection: Connection) -> None:
    """Drop buckets and pauses that mean nothing any more."""
    QUERIES.run(connection, "forget")


def pause_key(connection: Connection, key: str, seconds: float) -> None:
    """Let nothing of a key be claimed for so many seconds, at most an hour; a longer pause that stands stays.

    What is claimed and not taken waits again; what runs goes on.
    """
    QUERIES.run(connection, "pause_key", {"key": key, "seconds": seconds})


def limits(connection: Connection) -> list[LimitRow]:
    """Return the limits that are set, at most 1,000, with how full they are."""
    return [LimitRow(*row) for row in QUERIES.run(connection, "list")]


def set_limit(connection: Connection, wanted: Limit) -> None:
    """Set a limit, with its audit event; what it does not say stays as it was. Raises UsageError for what cannot be.

    A tenant's name is its id as Postgres writes it.
    """
    _check(connection, wanted)
    said = {name: getattr(wanted, name) for name in Limit.__slots__}
    with connection.transaction():
        QUERIES.run(connection, "set", said)
        _tell(connection, "limit.set", wanted.kind, wanted.name, "set", said)


def remove_limit(connection: Connection, kind: Kind, name: str) -> bool:
    """Remove a limit, with its audit event; return whether there was one."""
    with connection.transaction():
        gone = QUERIES.run(connection, "remove", {"kind": kind, "name": name})
        if gone:
            _tell(connection, "limit.removed", kind, name, "removed", {})
    return bool(gone)


def _check(connection: Connection, wanted: Limit) -> None:
    """Raise UsageError, with what to do instead, for a limit that cannot be."""
    if not 1 <= len(wanted.name) <= _MOST_NAME:
        raise UsageError(f"a limit's name has 1 to {_MOST_NAME} characters")
    if wanted.kind == "tenant" and wanted.name != EACH and not _has_tenant(connection, wanted.name):
        raise UsageError(f"no tenant has the id {wanted.name!r}")
    if wanted.concurrency is None and wanted.rate is None:
        raise UsageError("a limit says how many at once (concurrency), how often (rate), or both")
    if (wanted.concurrency is not None and wanted.concurrency < 1) or (wanted.rate is not None and wanted.rate <= 0):
        raise UsageError("a limit of zero lets nothing in for ever: pause the queue instead (`greenroom queues pause`)")
    if max(wanted.concurrency or 0, wanted.burst or 0) > _MOST_AT_ONCE:
        raise UsageError(f"concurrency and burst are at most {_MOST_AT_ONCE:,}: so many at once are not limited")
    _check_rate(wanted.rate, wanted.rate_seconds, wanted.burst)


def _check_rate(rate: float | None, seconds: float | None, burst: int | None) -> None:
    if len({rate is None, seconds is None, burst is None}) > 1:
        raise UsageError("rate, its time and burst go together")
    if rate is None or seconds is None or burst is None:
        return
    if rate > _MOST_RATE:
        raise UsageError(f"a rate is at most {_MOST_RATE:,}: what comes more often is not limited")
    if not 0 < seconds <= _YEAR_SECONDS:
        raise UsageError("a rate's time is at most a year")
    if burst < 1:
        raise UsageError("a burst is at least 1: the bucket must hold the token of one task")


def _has_tenant(connection: Connection, name: str) -> bool:
    try:
        found = QUERIES.run(connection, "has_tenant", {"id": UUID(name)})
    except ValueError:
        return False
    return found == [(True,)] and name == str(UUID(name))


def _tell(
    connection: Connection, event_type: str, kind: Kind, name: str, deed: str, values: Mapping[str, object]
) -> None:
    """Write the audit event of a deed, and wake the relays that sleep: there may be room now."""
    record(connection, event_type, f"limit {kind} {name} {deed}", Resource("limit", f"{kind}:{name}"), metadata=values)
    ring(connection)
