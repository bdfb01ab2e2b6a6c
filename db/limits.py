"""Limits: claims that keep to them, what operators set, and the pause of a key whose provider has refused.

Invariant (I5): nothing counts up and down. What a limit lets in is counted anew from the tasks that are claimed or in
progress, by whoever holds the limit's row.
"""

from collections.abc import Mapping
from typing import NamedTuple

from db.connection import Connection
from db.queries import Queries
from db.queue import Capacity, Claim, Lane, claim_values, in_order

QUERIES = Queries("limits")


class Admitted(NamedTuple):
    """What limits let in; `wait` seconds until a rate or a pause lets more in; whether tasks have to end first."""

    claims: list[Claim]
    wait: float | None
    is_full: bool


def claim(
    connection: Connection, wanted: Capacity, from_ranks: Mapping[Lane, int], *, limit: int, claim_seconds: float
) -> Admitted:
    """Claim due tasks of a queue as `db.queue.claim` does, as far as their limits let them in.

    A transaction of its own: it locks the limits, then counts what is occupied by a snapshot taken after that.
    """
    values = claim_values(wanted, from_ranks, claim_seconds) | {"limit": limit}
    names = {
        "tenants": list({str(lane.tenant) for lane in from_ranks}),
        "keys": list({lane.key for lane in from_ranks}),
    }
    with connection.transaction():
        held = QUERIES.run(connection, "hold", values | names)
        values |= {"held_kinds": [row[0] for row in held], "held_names": [row[1] for row in held]}
        rows = QUERIES.run(connection, "claim", values)
    claims = in_order(Claim._make(row[2:]) for row in rows if row[2] is not None)
    return Admitted(claims, rows[0][0], rows[0][1])


def forget(connection: Connection) -> None:
    """Drop buckets and pauses that mean nothing any more."""
    QUERIES.run(connection, "forget")
