"""Runs of retention policies: what each works on, and how long others wait meanwhile. Over `sql/retention_runs.sql`.

For an autocommit connection of the system role: each call is a transaction of its own.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from db.connection import Connection
from db.queries import Queries

QUERIES = Queries("retention_runs")
Action = Literal["delete", "archive", "roll_up", "drop_partition"]


@dataclass(frozen=True, slots=True)
class Run:
    """A run of one policy, up to a fixed `cutoff`; `table` is `schema.name`. Without a tenant it is of every tenant."""

    id: UUID
    policy_id: UUID
    policy_name: str
    action: Action
    table: str
    age_column: str
    cutoff: datetime
    tenant_id: UUID | None
    persona_id: UUID | None


def waiting_seconds(connection: Connection, own_queue: str) -> float:
    """Return for how long the oldest due task waits that nobody has claimed; those of `own_queue` do not count."""
    [(seconds,)] = QUERIES.run(connection, "waiting", {"own_queue": own_queue})
    return float(seconds)
