"""Tenants as operators steer them, and the store of their erasure. Typed calls over `sql/tenants.sql`.

Invariant: where an erasure stands is written in the transaction that erases the rows which it counts.
"""

from collections.abc import Mapping
from dataclasses import astuple, dataclass, field, replace
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import psycopg

from core.errors import InvalidOptionsError, NotFoundError, PermanentError, UsageError
from db import forgetting
from db.audit import Resource, record
from db.connection import Connection
from db.constraints import rules
from db.queries import Queries

QUERIES = Queries("tenants")
Status = Literal["active", "suspended", "deleted"]
Plan = Literal["free", "starter", "pro", "enterprise"]
_HELD = "GR005"
"""The SQLSTATE by which `ops.erase_page` refuses what a hold keeps."""
_LAST = "audit."
_LEAST_STEP = 100
_WORDS: Mapping[Status, str] = {"active": "activated", "suspended": "suspended", "deleted": "deleted"}


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant in a listing; one that is deleted stands there until it is erased."""

    id: UUID
    slug: str
    name: str
    status: Status
    plan_type: Plan
    created_at: datetime
    deleted_at: datetime | None


@dataclass(frozen=True, slots=True)
class TenantDetail(Tenant):
    """Everything of one tenant that its listing leaves out; `hold` is what would forbid its erasure."""

    contact_name: str | None
    contact_email: str | None
    max_agents: int | None
    max_daily_requests: int | None
    max_monthly_tokens: int | None
    tasks: int
    held_tasks: int
    hold: str | None


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an erasure stands, and what has gone by now: rows by table, but for those that go along with others.

    It is at the tenant's files first, then at a `table` and the `block` to go on from, and at the end behind the last.
    """

    stage: Literal["files", "rows", "end"] = "files"
    table: str = ""
    block: int = 0
    files: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    archives: int = 0

    @property
    def total(self) -> int:
        """How many rows have gone."""
        return sum(self.rows.values())

    @property
    def counts(self) -> dict[str, Any]:
        """What has gone, as it is told."""
        return {"files": self.files, "rows": self.rows, "archives": self.archives}


def list_tenants(connection: Connection) -> list[Tenant]:
    """Return all tenants by their slugs, the deleted ones last."""
    return [Tenant(*row) for row in QUERIES.run(connection, "list")]


def find(connection: Connection, name: str) -> Tenant:
    """Return the tenant of a slug or an id; raises NotFoundError."""
    rows = QUERIES.run(connection, "find", {"name": name})
    if not rows:
        raise NotFoundError(f"no tenant has the slug or the id {name!r}: see `greenroom tenants list`")
    return Tenant(*rows[0])


def show(connection: Connection, tenant: Tenant) -> TenantDetail:
    """Return everything of a tenant."""
    [row] = QUERIES.run(connection, "details", {"id": tenant.id})
    return TenantDetail(*astuple(tenant), *row)


def add(
    connection: Connection,
    slug: str,
    *,
    name: str | None = None,
    plan_type: Plan = "free",
    contact_name: str | None = None,
    contact_email: str | None = None,
) -> UUID:
    """Make a tenant and say so in the audit; raises InvalidOptionsError for a slug that is none or is taken."""
    values = {
        "slug": slug,
        "name": slug if name is None else name,
        "plan_type": plan_type,
        "contact_name": contact_name,
        "contact_email": contact_email,
    }
    try:
        with connection.transaction():
            [(made,)] = QUERIES.run(connection, "add", values)
            record(connection, "tenant.added", f"tenant {slug} added", Resource("tenant", made, made))
    except psycopg.errors.UniqueViolation as error:
        raise InvalidOptionsError(f"a tenant has the slug {slug!r} already") from error
    except psycopg.errors.CheckViolation as error:
        raise InvalidOptionsError(
            f"{slug!r} cannot be a tenant: a slug has small letters, digits and single hyphens, at most 100; names and "
            "addresses have at most 255 characters, and a name has one"
        ) from error
    tenant_id: UUID = made
    return tenant_id


def set_status(connection: Connection, tenant: Tenant, status: Status) -> bool:
    """Suspend, activate or delete a tenant and say so in the audit; return whether that was a change.

    Raises UsageError for the default tenant's deletion and for one that is deleted and shall come back.
    """
    try:
        with connection.transaction(), rules():
            rows = QUERIES.run(connection, "set_status", {"id": tenant.id, "status": status})
            is_change = rows not in ([], [(status,)])
            if is_change:
                told = f"tenant {tenant.slug} {_WORDS[status]}"
                record(connection, f"tenant.{_WORDS[status]}", told, Resource("tenant", tenant.id, tenant.id))
    except UsageError as error:
        raise UsageError(_REFUSALS.get(getattr(error, "constraint", ""), str(error))) from error
    if not rows:
        raise NotFoundError(f"the tenant {tenant.slug!r} was erased just now")
    return is_change


_REFUSALS = {
    "tenants_default_stays_check": "the default tenant cannot be deleted: commands and producers fall back on it",
    "tenants_stays_deleted_check": "a tenant that is deleted does not come back: its rows go by the task tenant.erase",
}


# ------------------------------------------------------------------------------------------------ erasure


def look(connection: Connection, tenant_id: UUID) -> tuple[Status, str | None] | None:
    """Return a tenant's status and the hold that forbids its erasure, None where its row is gone."""
    rows = QUERIES.run(connection, "look", {"id": tenant_id})
    return (rows[0][0], rows[0][1]) if rows else None


def count_running(connection: Connection, tenant_id: UUID) -> int:
    """Return how many of a tenant's tasks are claimed or run."""
    [(count,)] = QUERIES.run(connection, "count_running", {"id": tenant_id})
    return int(count)


def request_ends(connection: Connection, tenant_id: UUID) -> None:
    """Ask for the end of what a tenant's tasks run; each worker hears of it within a second."""
    QUERIES.run(connection, "request_ends", {"id": tenant_id})


def tables(connection: Connection) -> list[str]:
    """Return the tables that tenants own, each before those that it refers to; the audit, which notes the rest, last.

    Where tables refer to each other in a circle, one goes first that no other's rows need.
    """
    owned = QUERIES.run(connection, "tables")
    children = {table: {child for child, parents, _ in owned if table in parents} for table, _, _ in owned}
    needing = {table: {child for child, _, kept in owned if table in kept} for table, _, _ in owned}
    ordered: list[str] = []
    while children:
        free = [table for table, left in children.items() if not left & children.keys()]
        circling = [table for table in children if not needing[table] & children.keys()]
        for table in sorted(free) or sorted(circling or children)[:1]:
            ordered.append(table)
            del children[table]
    return sorted(ordered, key=lambda table: table.startswith(_LAST))


def leftover(connection: Connection, tenant_id: UUID) -> str | None:
    """Return a table that has rows of a tenant still, or again."""
    [(table,)] = QUERIES.run(connection, "leftover", {"id": tenant_id})
    return None if table is None else str(table)


def erase_rows(connection: Connection, tenant_id: UUID, ordered: list[str], before: Standing, most: int) -> Standing:
    """Erase a deleted tenant's next rows, about `most`; return where that leads. Expects the erasure's transaction.

    Raises PermanentError where a hold keeps the tenant.
    """
    rows, left = dict(before.rows), most
    start = ordered.index(before.table) if before.table in ordered else 0
    for table in ordered[start:]:
        if table.startswith(_LAST):
            QUERIES.run(connection, "empty", {"id": tenant_id})  # which the log notes, before it goes
        block: int | None = before.block if table == before.table else 0
        while block is not None:
            if left <= 0:
                return replace(before, table=table, block=block, rows=rows)
            gone, block = _erase_page(connection, tenant_id, table, left, block)
            left -= max(gone, _LEAST_STEP if block else 0)
            if gone:
                rows[table] = rows.get(table, 0) + gone
    return replace(before, stage="end", table="", block=0, rows=rows)


def _erase_page(connection: Connection, tenant_id: UUID, table: str, most: int, block: int) -> tuple[int, int | None]:
    values = {"id": tenant_id, "relation": table, "most": most, "first_block": block}
    try:
        [(gone, following)] = QUERIES.run(connection, "erase_page", values)
    except psycopg.Error as error:
        if error.sqlstate == _HELD:
            raise PermanentError(str(error.diag.message_primary)) from error
        raise
    return gone, following


def finish(connection: Connection, tenant_id: UUID, reached: Standing) -> None:
    """Let a tenant's row go, of which nothing else is left, and say in the audit what was erased.

    The event is of no tenant and holds counts alone. Raises ConstraintError where rows came meanwhile.
    """
    forgetting.leave_tenant(connection, tenant_id)
    with rules():
        QUERIES.run(connection, "remove", {"id": tenant_id})
    told = f"tenant {tenant_id} erased: {reached.total} rows, {reached.files} files"
    record(connection, "tenant.erased", told, Resource("tenant", tenant_id), metadata=reached.counts)
