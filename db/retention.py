"""Retention's policies and holds: what operators write, and what it comes to for a table (`sql/retention.sql`).

A deed is one transaction as the operator, and leaves its audit event behind. Which rows a policy takes is said by the
database alone (`ops.retention_condition`), and so is which policies contradict.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb

from core.errors import ConstraintError, MissingRowError, NotFoundError, RetentionError
from db.audit import Resource, record
from db.connection import Connection
from db.constraints import rules
from db.queries import Queries

QUERIES = Queries("retention")
Action = Literal["delete", "archive", "roll_up", "drop_partition"]
Cadence = Literal["hourly", "daily", "monthly"]
Effect = Literal["cascade", "set_null", "refuse"]
_UNTIL_NEVER = "1 day"
"""A hold's age, which nobody reads."""


@dataclass(frozen=True, kw_only=True)
class PolicySpec:
    """What a policy is: of which rows of a table (schema and name), how old they become and what happens then.

    `age` is an interval as Postgres reads it; `filter` has one value for each column that it names, None for NULL;
    `most_share` is of the table's rows, above 0 and up to 1. With a `hold_reason` it is a hold, which has no age.
    """

    name: str
    table: str
    age_column: str
    age: str = _UNTIL_NEVER
    filter: Mapping[str, Any] = field(default_factory=dict)
    action: Action = "delete"
    tenant_id: UUID | None = None
    persona_id: UUID | None = None
    hold_reason: str | None = None
    cadence: Cadence = "daily"
    most_share: float = 0.5
    description: str | None = None

    def columns(self) -> dict[str, Any]:
        """Return the spec as values of the row's columns."""
        values = {each.name: getattr(self, each.name) for each in fields(PolicySpec)}
        return values | {"filter": Jsonb(dict(self.filter))}


@dataclass(frozen=True, kw_only=True)
class Policy(PolicySpec):
    """A policy or hold as it stands; `tenant` is the slug of its tenant."""

    id: UUID
    tenant: str | None
    is_enabled: bool
    is_held: bool
    source: str
    created_at: datetime
    updated_at: datetime

    def spec(self) -> PolicySpec:
        """Return what the policy is, without how it stands."""
        return PolicySpec(**{each.name: getattr(self, each.name) for each in fields(PolicySpec)})

    def concerns(self, tenant_id: UUID | None, persona_id: UUID | None) -> bool:
        """Tell whether it can speak of rows of a tenant and a persona, of each where None is given."""
        return _meet(self.tenant_id, tenant_id) and _meet(self.persona_id, persona_id)


@dataclass(frozen=True, slots=True)
class Dependent:
    """What refers to a table, straight or through what goes along (`depth` above 1), and what a delete does to it.

    `cleared` are the columns that it sets to NULL or to their default.
    """

    parent: str
    child: str
    effect: Effect
    depth: int
    cleared: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Effective:
    """What becomes of a table's rows: `policies` as they outrank each other, `holds` on it and on what depends on it.

    `yields_to` says by a policy's name which enabled ones take rows out of it.
    """

    table: str
    policies: list[Policy]
    yields_to: dict[str, list[str]]
    holds: list[Policy]
    dependents: list[Dependent]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its name, its type as Postgres writes it, and whether the table is parted by it."""

    name: str
    type: str
    parts: bool


_ORDER = (
    "id", "name", "table", "age_column", "age", "filter", "action", "tenant_id", "persona_id", "is_enabled", "is_held",
    "hold_reason", "cadence", "most_share", "source", "description", "tenant", "created_at", "updated_at",
)  # fmt: skip
_TIME = "timestamp with time zone"


def list_policies(connection: Connection) -> list[Policy]:
    """Return all policies and holds by table, holds first, and then as policies outrank each other."""
    return [_policy(row) for row in QUERIES.run(connection, "list")]


def named(connection: Connection, name: str) -> Policy:
    """Return the policy or hold of a name; raises NotFoundError."""
    return _one(connection, "show", name)


def effective(
    connection: Connection, table: str, tenant_id: UUID | None = None, persona_id: UUID | None = None
) -> Effective:
    """Return what becomes of a table's rows, of all or of a tenant's or persona's; RetentionError where it is none."""
    columns(connection, table)
    said = [each for each in list_policies(connection) if each.concerns(tenant_id, persona_id)]
    dependents = [
        Dependent(parent, child, effect, depth, tuple(cleared or ()))
        for parent, child, effect, depth, cleared in QUERIES.run(connection, "dependents", {"table": table})
    ]
    touched = {table} | {each.child for each in dependents if each.effect != "refuse"}
    policies = [each for each in said if each.table == table and not each.is_held]
    yields_to: dict[str, list[str]] = {}
    for narrow, wide in QUERIES.run(connection, "outranking", {"table": table}):
        if narrow in {each.name for each in policies}:
            yields_to.setdefault(wide, []).append(narrow)
    holds = [each for each in said if each.is_held and each.table in touched]
    return Effective(table, policies, yields_to, holds, dependents)


def columns(connection: Connection, table: str) -> list[Column]:
    """Return the columns of a table; raises RetentionError where there is none of that name."""
    found = [Column(*row) for row in QUERIES.run(connection, "columns", {"table": table})]
    if not found:
        raise RetentionError(f"there is no table {table!r}: write it with its schema, such as assistants.messages")
    return found


def age_column(connection: Connection, table: str) -> str:
    """Return the time that rows of a table age by if nobody says: what it is parted by, or when a row was made.

    Raises RetentionError where the table has several others, or none.
    """
    times = [each for each in columns(connection, table) if each.type == _TIME]
    for found in ([each for each in times if each.parts], [each for each in times if each.name == "created_at"], times):
        if len(found) == 1:
            return found[0].name
    raise RetentionError(
        f"say by which time rows of {table} age: {', '.join(each.name for each in times) or 'it has none'}"
    )


def any_time(connection: Connection, table: str) -> str:
    """Return a time of a table, for a hold, which has no age; raises RetentionError where it has none."""
    times = [each.name for each in columns(connection, table) if each.type == _TIME]
    if not times:
        raise RetentionError(f"{table} has no time: nothing of it ages, and nothing is held")
    return times[0]


def add(connection: Connection, spec: PolicySpec) -> Policy:
    """Write a policy, or a hold, which binds from the end of the transaction.

    Raises RetentionError for what makes no sense and for what contradicts another.
    """
    with connection.transaction():
        _judge(connection, spec)
        with _written(connection, spec):
            QUERIES.run(connection, "add", spec.columns())
        added = named(connection, spec.name)
        _tell(connection, added, "held" if added.is_held else "added")
    return added


def edit(connection: Connection, name: str, **changes: Any) -> Policy:
    """Change fields of a policy, but its name, table and scope; a run under way goes by them from its next page.

    Raises NotFoundError, RetentionError for a hold, and as `add` does.
    """
    with connection.transaction():
        known = _policy_of(connection, name)
        spec = replace(known.spec(), **changes)
        _judge(connection, spec)
        with _written(connection, spec):
            QUERIES.run(connection, "edit", spec.columns() | {"id": known.id})
        _tell(connection, known, "edited", {"fields": sorted(changes)})
        return named(connection, name)


def switch(connection: Connection, name: str, *, is_enabled: bool) -> bool:
    """Switch a policy on or off; return False where it was so already. Raises NotFoundError, RetentionError."""
    with connection.transaction():
        known = _policy_of(connection, name)
        with _written(connection, known):
            values = {"id": known.id, "is_enabled": is_enabled}
            is_change = QUERIES.count(connection, "switch", values) > 0
        if is_change:
            _tell(connection, known, "enabled" if is_enabled else "disabled")
    return is_change


def release(connection: Connection, name: str) -> Policy:
    """Lift a hold, for good; return what it was. Raises NotFoundError; RetentionError for a policy."""
    with connection.transaction():
        known = _one(connection, "held", name)
        if not known.is_held:
            raise RetentionError(f"{name!r} is a policy and no hold: `greenroom retention remove` removes it")
        _remove(connection, known, "released")
    return known


def remove(connection: Connection, name: str) -> Policy:
    """Remove a policy, and return what it was; its runs stay noted. Raises NotFoundError; RetentionError for a hold."""
    with connection.transaction():
        known = _policy_of(connection, name)
        _remove(connection, known, "removed")
    return known


def _remove(connection: Connection, known: Policy, done: str) -> None:
    QUERIES.run(connection, "remove", {"id": known.id})
    _tell(connection, known, done)


def _policy_of(connection: Connection, name: str) -> Policy:
    known = _one(connection, "held", name)
    if known.is_held:
        raise RetentionError(f"{name!r} is a hold: `greenroom retention release` lifts it")
    return known


def _one(connection: Connection, query: str, name: str) -> Policy:
    rows = [] if "\0" in name else QUERIES.run(connection, query, {"name": name})
    if not rows:
        raise NotFoundError(f"there is no retention policy {name!r}: `greenroom retention show` lists them")
    return _policy(rows[0])


def _policy(row: tuple[Any, ...]) -> Policy:
    return Policy(**dict(zip(_ORDER, row, strict=True)))


def _meet(said: UUID | None, asked: UUID | None) -> bool:
    return said is None or asked is None or said == asked


def _judge(connection: Connection, spec: PolicySpec) -> None:
    """Raise RetentionError for columns that there are not, and for values that they cannot have."""
    known = {each.name: each for each in columns(connection, spec.table)}
    times = ", ".join(each.name for each in known.values() if each.type == _TIME)
    if spec.age_column not in known or known[spec.age_column].type != _TIME:
        raise RetentionError(f"{spec.table} has no time {spec.age_column!r} to go by: it has {times or 'none'}")
    for name, value in spec.filter.items():
        if name not in known:
            raise RetentionError(f"{spec.table} has no column {name!r}: it has {', '.join(known)}")
        [(fits,)] = QUERIES.run(connection, "fits", {"table": spec.table, "name": name, "value": Jsonb(value)})
        if not fits:
            raise RetentionError(f"{value!r} is no value of {spec.table}'s {name}, which is {known[name].type}")


@contextmanager
def _written(connection: Connection, spec: PolicySpec) -> Iterator[None]:
    """Raise RetentionError for what the database refuses, in its words where it says why."""
    try:
        with rules():
            yield
    except MissingRowError:
        raise RetentionError(f"the tenant has no persona {spec.persona_id}") from None
    except ConstraintError as error:
        raise RetentionError(_reason(error, spec)) from None
    except psycopg.DataError:
        raise RetentionError(f"{spec.age!r} is no age that can be kept: write 30 days, or 1 year") from None


def _reason(error: ConstraintError, spec: PolicySpec) -> str:
    rule = error.constraint.removeprefix("retention_policies_")
    known = {
        "name_key": f"there is a policy {spec.name!r} already: `greenroom retention edit` changes it",
        "scope_key": f"a policy of {spec.table} with this filter and scope is there already: `greenroom retention show "
        f"{spec.table}` names it",
        "name_check": "a policy's name has 1 to 100 characters",
        "age_check": "an age is from 1 hour to 1000 years",
        "most_share_check": "a share is above 0 and at most 1",
        "partition_is_whole_check": "drop_partition takes whole months of all tenants: leave filter and tenant out",
        "hold_reason_check": "a hold's reason has 1 to 2000 characters",
    }.get(rule)
    told = getattr(error.__cause__, "diag", None)
    if known is not None or told is None or told.message_hint is None:
        return known or str(error)
    return f"{told.message_primary}. {told.message_hint}"


def _tell(connection: Connection, policy: Policy, done: str, metadata: Mapping[str, Any] | None = None) -> None:
    resource = Resource("retention_policy", policy.id, policy.tenant_id)
    record(
        connection, f"retention.{done}", f"the retention of {policy.table}: {policy.name}", resource, metadata=metadata
    )
