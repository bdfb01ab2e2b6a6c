"""The walk over all that tenants own: what a login tries at each table of the catalogue, and what nothing stopped."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any, LiteralString
from uuid import UUID, uuid4

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from db.connection import Connection, bind_tenant, connect
from db.embedded import EmbeddedServer
from db.models import Base
from tests.support.database import Database, cloned
from tests.support.factory import Factory
from tests.support.tenants import named

Row = dict[str, Any]
# Where a login is bound to no tenant whatever its transaction says, and why.
FREE = (
    ("system", "*", "works across tenants: roll-ups, retention"),
    ("relay", "queue.*", "claims, publishes and settles the tasks of all tenants"),
    ("scheduler", "queue.*", "fires the schedules of all tenants"),
    ("operator", "audit.audit_events", "an operator's deed may concern any tenant, or none"),
)
# Where a login is free while its transaction is bound to no tenant, and why.
FREE_UNBOUND = (
    ("worker", "queue.*", "the queue's own statements are bound to none; a handler's transaction always is to one"),
    ("operator", "queue.*", "steers the tasks of all tenants"),
    ("reader", "queue.*", "looks at the tasks of all tenants"),
    ("operator", "ops.archives", "looks at the archives of any tenant's rows, and has them brought back"),
    ("operator", "ops.retention_*", "sets how long any tenant's rows are kept, and looks at the runs"),
)
# Which of a table's rows are a tenant's alone to see.
_ONLY: dict[str, LiteralString] = {"tools.mcp_servers": "NOT is_public"}
# The catalogue's tables, parted tables and views of tenants. A leaf that no login has a right to is its parent's.
_RELATIONS = """
SELECT c.oid::regclass::text, c.oid, array(
    SELECT attname::text FROM pg_attribute
    WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped AND attgenerated = '' AND attidentity = ''
        AND (c.relkind <> 'v' OR pg_column_is_updatable(c.oid, attnum, false))
    ORDER BY attnum)
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE a.attname = 'tenant_id' AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
    AND c.relnamespace::regnamespace::text NOT IN ('pg_catalog', 'information_schema')
    AND NOT (c.relispartition AND c.oid = ANY (%s::regclass[]))
ORDER BY 1
"""
LEAVES = """
SELECT c.oid::regclass::text FROM pg_class c WHERE c.relispartition AND c.relkind IN ('r', 'p') AND NOT EXISTS (
    SELECT FROM pg_roles r WHERE r.rolname ^@ 'greenroom_' AND r.rolname <> 'greenroom_owner'
        AND (has_table_privilege(r.oid, c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
            OR has_any_column_privilege(r.oid, c.oid, 'SELECT, INSERT, UPDATE, REFERENCES')))
ORDER BY 1
"""
# No row was there to touch, no right or a policy stood before it, or it is a view that nobody can write through.
_REFUSED = ("0", "InsufficientPrivilege", "ObjectNotInPrerequisiteState")
# Foreign keys between tenants' tables: the columns and what they refer to, without the tenant's own.
_FOREIGN_KEYS = """
SELECT k.conname::text, k.conrelid::regclass::text, k.confrelid::regclass::text,
    array_agg(a.attname::text ORDER BY p.place), array_agg(f.attname::text ORDER BY p.place)
FROM pg_constraint k, unnest(k.conkey, k.confkey) WITH ORDINALITY AS p (own, other, place),
    pg_attribute a, pg_attribute f
WHERE k.contype = 'f' AND k.conparentid = 0 AND a.attrelid = k.conrelid AND a.attnum = p.own
    AND f.attrelid = k.confrelid AND f.attnum = p.other AND a.attname <> 'tenant_id'
    AND k.conrelid::regclass::text = ANY (%(relations)s) AND k.confrelid::regclass::text = ANY (%(relations)s)
GROUP BY k.oid ORDER BY 2, 4
"""
_ALLOWED = """
SELECT attname::text FROM pg_attribute WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped
    AND has_column_privilege(attrelid, attnum, %s)
"""


@dataclass(frozen=True)
class Relation:
    """A table or view of tenants, with a row of either of two tenants."""

    name: str
    oid: int
    columns: list[str]
    ours: Row
    theirs: Row


@dataclass(frozen=True)
class Key:
    """A foreign key between tenants' tables: its columns but for the tenant, and a row of the other's to point at."""

    name: str
    relation: Relation
    other: str
    columns: list[str]
    theirs: list[Any]

    def __str__(self) -> str:
        return f"{self.relation.name} ({', '.join(self.columns)}) to {self.other}"


@dataclass(frozen=True)
class Walk:
    """A database in which each table of tenants has rows of two."""

    database: Database
    ours: UUID
    theirs: UUID
    relations: dict[str, Relation]
    keys: list[Key]


@contextmanager
def walked(server: EmbeddedServer, template: str) -> Iterator[Walk]:
    """A database of one's own that is filled for two tenants; whoever writes to it rolls back."""
    with cloned(server, template) as database, connect(database.owner_url, name="test owner") as owner:
        ours, theirs = (_filled(owner) for _ in range(2))
        leaves = [name for (name,) in owner.execute(LEAVES.encode()).fetchall()]
        relations = {
            name: Relation(name, oid, columns, _one(owner, name, ours.tenant_id), _one(owner, name, theirs.tenant_id))
            for name, oid, columns in owner.execute(_RELATIONS.encode(), (leaves,)).fetchall()
        }
        yield Walk(database, ours.tenant_id, theirs.tenant_id, relations, _keys(owner, relations, theirs))


def _filled(owner: Connection) -> Factory:
    """Make a tenant with rows in all tables, and with what its views show."""
    create = b"INSERT INTO identity.tenants (name, slug) VALUES ('T', ops.uuid_v7()::text) RETURNING id"
    [(tenant,)] = owner.execute(create).fetchall()
    factory = Factory(owner, tenant)
    # Another tenant may see a public server, and so add a configuration that names it: row security alone refuses.
    server = factory.row("tools.mcp_servers", is_public=True)
    factory.row("tools.mcp_server_configs", mcp_server_id=server["id"])
    factory.row("tools.mcp_servers")
    for table in Base.metadata.sorted_tables:
        name = f"{table.schema}.{table.name}"
        if "tenant_id" in table.columns and not _rows(owner, name, tenant):
            factory.row(name, tenant_id=tenant)
    _show(factory)
    return factory


def _show(factory: Factory) -> None:
    """Make what views and the queue's history show, and rows whose optional keys other columns have to go with."""
    talk = factory.row("assistants.conversations", persona_id=factory.parent("assistants.voice_personas")["id"])
    said = {"role": "persona", "processing_time_ms": 1, "token_count": 1}
    factory.row("assistants.messages", conversation_id=talk["id"], **said)
    factory.row("assistants.run_steps", tool_id=factory.parent("tools.tools")["id"], step_number=2)
    factory.row("tools.tool_executions", run_id=factory.parent("assistants.runs")["id"])
    factory.row("mail.mailboxes", smtp_secret_id=factory.parent("vault.secrets")["id"])
    factory.row("governance.agent_sessions", status="approved")
    ended = {"queue": "default", "priority": 0, "max_attempts": 5, "status": "cancelled", "completed_at": "now"}
    factory.row("queue.outbox_tasks", tenant_id=factory.tenant_id, **ended)


def _rows(owner: Connection, name: str, tenant: UUID) -> list[tuple[Row]]:
    query = sql.SQL("SELECT to_jsonb(t) FROM {} t WHERE tenant_id = %s LIMIT 1").format(named(name))
    return owner.execute(query, (tenant,)).fetchall()


def _one(owner: Connection, name: str, tenant: UUID) -> Row:
    found = _rows(owner, name, tenant)
    assert found, f"no row in {name}: the walk would see nothing there"
    return found[0][0]


def _keys(owner: Connection, relations: Mapping[str, Relation], theirs: Factory) -> list[Key]:
    """Return the foreign keys, each with a row to point at that none refers to: uniqueness would go before the key."""
    found = owner.execute(_FOREIGN_KEYS.encode(), {"relations": list(relations)}).fetchall()
    spare = {other: theirs.row(other, tenant_id=theirs.tenant_id) for _, _, other, _, _ in found}
    return [
        Key(name, relations[relation], other, columns, [spare[other][column] for column in referred])
        for name, relation, other, columns, referred in found
    ]


def reason(role: str, relation: str, tenant: UUID | None) -> str | None:
    """Return why a login is not held to one tenant there, or None where it is."""
    free = FREE if tenant else FREE + FREE_UNBOUND
    return next((why for who, what, why in free if who == role and fnmatch(relation, what)), None)


def tenants(connection: Connection, relation: Relation) -> set[UUID | None] | None:
    """Return whose rows a login sees, or None where it may not look at all."""
    own = sql.SQL(_ONLY.get(relation.name, "true"))
    query = sql.SQL("SELECT DISTINCT tenant_id FROM {} WHERE {}").format(named(relation.name), own)
    try:
        with connection.transaction():
            return {row[0] for row in connection.execute(query).fetchall()}
    except psycopg.errors.InsufficientPrivilege:
        return None


def trespasses(connection: Connection, walk: Walk, relation: Relation, tenant: UUID | None) -> dict[str, str]:
    """Try what a login, bound to our tenant or to none, must not do to the other's rows; return what was not refused.

    What neither a right nor a policy refused counts, however it ended: another guard may stand there by chance.
    """
    bind_tenant(connection, tenant)
    found = {}
    if strangers := (tenants(connection, relation) or set()) - {tenant}:
        found["select"] = f"sees rows of {len(strangers)} others"
    for kind, statement, *values in _tries(connection, walk, relation):
        ended = _attempt(connection, statement, values)
        if ended not in _REFUSED:
            found[kind] = ended
    return found


def permitted(connection: Connection, relation: Relation) -> set[str]:
    """Return which of these tries a login has the right to, so that only a policy can refuse them."""
    insert, update = (_columns(connection, relation, kind) for kind in ("INSERT", "UPDATE"))
    [(may_delete,)] = connection.execute("SELECT has_table_privilege(%s::oid, 'DELETE')", (relation.oid,)).fetchall()
    found = {
        "select": tenants(connection, relation) is not None,
        "insert": bool(insert),
        "update": bool(update),
        "delete": may_delete,
        "give away": "tenant_id" in update,
    }
    return {kind for kind, may in found.items() if may}


def _columns(connection: Connection, relation: Relation, kind: str) -> list[str]:
    """Return the columns that a login may INSERT or UPDATE, the tenant's first."""
    found = {column for (column,) in connection.execute(_ALLOWED.encode(), (relation.oid, kind)).fetchall()}
    return sorted(found.intersection(relation.columns), key=lambda column: column != "tenant_id")


def _tries(connection: Connection, walk: Walk, relation: Relation) -> Iterator[tuple[Any, ...]]:
    name = named(relation.name)
    columns = _columns(connection, relation, "INSERT") or relation.columns or ["tenant_id"]
    yield "insert", _inserting(relation, columns), Jsonb(relation.theirs)
    changed = sql.Identifier((_columns(connection, relation, "UPDATE") or ["tenant_id"])[0])
    update = sql.SQL("UPDATE {} SET {} = {} WHERE tenant_id = %s").format(name, changed, changed)
    yield "update", update, walk.theirs
    yield "delete", sql.SQL("DELETE FROM {} WHERE tenant_id = %s").format(name), walk.theirs
    give_away = sql.SQL("UPDATE {} SET tenant_id = %s WHERE tenant_id = %s").format(name)
    yield "give away", give_away, walk.theirs, walk.ours


def _inserting(relation: Relation, columns: list[str]) -> sql.Composed:
    """Return a statement that inserts a row that is given as JSON."""
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    insert = sql.SQL("INSERT INTO {} ({}) SELECT {} FROM jsonb_populate_record(NULL::{}, %s)")
    return insert.format(named(relation.name), names, names, named(relation.name))


def point(connection: Connection, walk: Walk, key: Key) -> str:
    """Let a row of ours refer to the other tenant's; return the error's name, or how many rows now do.

    Who may not change a row's columns tries a new row.
    """
    name = named(key.relation.name)
    columns = sql.SQL(", ").join(map(sql.Identifier, key.columns))
    update = sql.SQL(
        "UPDATE {} SET ({}) = ROW ({}) WHERE (tableoid, ctid) IN"
        " (SELECT tableoid, ctid FROM {} WHERE tenant_id = %s ORDER BY ({}) IS NULL LIMIT 1)"
    ).format(name, columns, sql.SQL(", ").join(sql.Placeholder() * len(key.columns)), name, columns)
    ended = _attempt(connection, update, [*key.theirs, walk.ours])
    if ended != "InsufficientPrivilege":
        return ended
    row = key.relation.ours | {"id": str(uuid4())} | dict(zip(key.columns, map(str, key.theirs), strict=True))
    return _attempt(connection, _inserting(key.relation, key.relation.columns), [Jsonb(row)])


def _attempt(connection: Connection, statement: sql.Composed, values: list[Any]) -> str:
    """Run a statement and take it back; return how many rows it touched, or its error's name."""
    try:
        with connection.transaction(force_rollback=True):
            return str(connection.execute(statement, values).rowcount)
    except psycopg.Error as error:
        return type(error).__name__
