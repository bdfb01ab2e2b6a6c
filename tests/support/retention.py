"""Policies of retention in a transaction that is rolled back, and which rows each of them takes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from psycopg import sql

from db.connection import connect
from tests.support.database import Database
from tests.support.factory import Factory, Row
from tests.support.statements import changed, column, value
from tests.support.tenants import named

DOCUMENTS, POLICIES = "knowledge.documents", "ops.retention_policies"
OLD, CUTOFF, YOUNG = "2020-02-03 00:00+00", "2020-03-15 12:00+00", "2020-04-01 00:00+00"
_TABLE = "SELECT table_schema || '.' || table_name FROM ops.retention_policies WHERE id = %s"
_TENANT = "INSERT INTO identity.tenants (name, slug) VALUES ('T', ops.uuid_v7()::text) RETURNING id"


class Trial:
    """A transaction of the owner's, with two tenants of its own and no policy but those that it writes."""

    def __init__(self, ours: Factory, theirs: Factory) -> None:
        self.ours, self.theirs = ours, theirs
        self.connection = ours.owner
        self._numbers = iter(range(1_000_000))

    def policy(self, table: str = DOCUMENTS, **given: Any) -> UUID:
        """Write a policy of all tenants, which goes by when a row was made; return its id."""
        schema, _, name = table.partition(".")
        number = next(self._numbers)
        speaks_of: Row = {"table_schema": schema, "table_name": name, "age_column": "created_at", "age": "1 year"}
        made = self.ours.row(POLICIES, **{"name": f"p{number}", "filter": {}} | speaks_of | given)
        return UUID(str(made["id"]))

    def hold(self, table: str = DOCUMENTS, **given: Any) -> UUID:
        """Write a hold on rows of all tenants; return its id."""
        return self.policy(table, is_held=True, hold_reason="a court's order", **given)

    def condition(self, policy_id: UUID, cutoff: str = CUTOFF, *, holds: bool = True) -> str | None:
        """Return what a policy takes, as SQL."""
        found = value(self.connection, "SELECT ops.retention_condition(%s, %s, %s)", policy_id, cutoff, holds)
        return None if found is None else str(found)

    def taken(self, policy_id: UUID, cutoff: str = CUTOFF, *, holds: bool = True) -> set[UUID]:
        """Return the ids of the rows that a policy takes."""
        table = value(self.connection, _TABLE, policy_id)
        condition = self.condition(policy_id, cutoff, holds=holds)
        assert condition is not None
        return self.ids(table, condition)

    def ids(self, table: str, condition: str = "true") -> set[UUID]:
        """Return the ids of a table's rows for which a condition over r0 holds."""
        query = sql.SQL("SELECT id FROM {} r0 WHERE {}")
        return column(self.connection, query.format(named(table), sql.SQL(condition)))


@contextmanager
def trial(database: Database) -> Iterator[Trial]:
    """A transaction of the owner's without the policies of the designs, rolled back at its end."""
    with connect(database.owner_url, name="test owner") as owner, owner.transaction(force_rollback=True):
        ours, theirs = (Factory(owner, value(owner, _TENANT)) for _ in "ab")
        changed(owner, "DELETE FROM ops.retention_policies")
        yield Trial(ours, theirs)
