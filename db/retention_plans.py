"""The plan of retention: what its policies would let go now. Over `sql/retention_runs.sql`.

As an operator, or the system role; all of a plan is of one moment, and nothing is written.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import psycopg

from core.errors import GreenroomError
from db.connection import Connection
from db.queries import Row
from db.retention_runs import QUERIES, Action, Cadence


@dataclass(frozen=True, slots=True)
class Month:
    """Rows of a tenant and a month (UTC) of their age that would go, their bytes, and those that a hold keeps.

    `month` is `2026-01`; `tenant_id` is None where rows have no tenant, `tenant` where the tenant is gone.
    """

    tenant_id: UUID | None
    tenant: str | None
    month: str
    rows: int
    bytes: int
    held: int


@dataclass(frozen=True, slots=True)
class Dependents:
    """What would go along with a policy's rows in one table: `rows` that are deleted, `links` that become NULL."""

    table: str
    rows: int = 0
    links: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """What one policy would let go of its `table`, which has `total` rows; `share` is what it takes without asking."""

    policy: str
    table: str
    action: Action
    cadence: Cadence
    share: float
    is_enabled: bool
    cutoff: datetime
    months: list[Month]
    dependents: list[Dependents]
    total: int

    @property
    def rows(self) -> int:
        """The rows that would go."""
        return sum(month.rows for month in self.months)

    @property
    def bytes(self) -> int:
        """The bytes of the rows that would go."""
        return sum(month.bytes for month in self.months)

    @property
    def held(self) -> int:
        """The rows that are old enough and that a hold keeps."""
        return sum(month.held for month in self.months)

    @property
    def asks(self) -> bool:
        """Whether a run would ask first, of all tenants' rows."""
        return self.rows > max(self.total, self.rows) * self.share


def plan(connection: Connection, wanted: str | None, tenant_id: UUID | None, seconds: float) -> list[Plan]:
    """Return the plans of the policies of that name or table, or of all that are on; of one tenant's rows, or all.

    Raises GreenroomError where a policy's rows are not counted within so many seconds. Expects no transaction.
    """
    with _reading(connection, seconds):
        found = QUERIES.run(connection, "planned_policies", {"wanted": wanted})
        return [_plan(connection, row, tenant_id, seconds) for row in found]


@contextmanager
def _reading(connection: Connection, seconds: float) -> Iterator[None]:
    before = connection.isolation_level, connection.read_only
    connection.isolation_level, connection.read_only = psycopg.IsolationLevel.REPEATABLE_READ, True
    try:
        with connection.transaction():
            QUERIES.run(connection, "plan_bound", {"milliseconds": str(int(seconds * 1000))})
            yield
    finally:
        connection.isolation_level, connection.read_only = before


def _plan(connection: Connection, row: Row, tenant_id: UUID | None, seconds: float) -> Plan:
    policy, table, action, cadence, share, is_enabled, cutoff = row
    values = {"policy": policy, "tenant_id": tenant_id}
    try:
        months = [Month(*found) for found in QUERIES.run(connection, "plan", values)]
        along = QUERIES.run(connection, "plan_dependents", values)
        [(total,)] = QUERIES.run(connection, "plan_total", {"policy": policy})
    except psycopg.errors.QueryCanceled:
        raise GreenroomError(
            f"the rows of {table} that the policy {policy} takes are not counted within {seconds:g} s: give --timeout "
            "more seconds, or plan this policy or a tenant by itself"
        ) from None
    counts: dict[str, dict[str, int]] = {}
    for dependent, kind, count in along:
        counts.setdefault(dependent, {})[kind] = count
    dependents = [Dependents(dependent, **kinds) for dependent, kinds in sorted(counts.items())]
    return Plan(policy, table, action, cadence, share, is_enabled, cutoff, months, dependents, total)
