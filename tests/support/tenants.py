"""Tenants of a test's own in a database that tests share, and what a login sees and does when it is bound to one."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from uuid import UUID

import psycopg
from psycopg import sql

from db.connection import Connection, bind_tenant, connect
from tests.support.database import Database
from tests.support.factory import Factory


@contextmanager
def new_tenant(database: Database) -> Iterator[Factory]:
    """A maker of rows of a tenant that nobody else uses."""
    with connect(database.owner_url, name="test owner") as owner:
        create = "INSERT INTO identity.tenants (name, slug) VALUES ('T', ops.uuid_v7()::text) RETURNING id"
        yield Factory(owner, database.value(create))


@contextmanager
def acting(
    database: Database, role: str, tenant_id: UUID | None = None, user_id: UUID | None = None
) -> Iterator[Connection]:
    """A login's transaction that is bound to a tenant and acts for a user; rolled back at its end."""
    with connect(database.url(role), name=f"test {role}") as connection, connection.transaction(force_rollback=True):
        bind_tenant(connection, tenant_id)
        connection.execute("SELECT set_config('app.current_user_id', %s, true)", (str(user_id or ""),))
        yield connection


def let_go(owner: Connection, tenant_id: UUID | None = None) -> None:
    """Delete a tenant's row, or all, past the guard that wants it erased before: what refers to it goes along."""
    guard = "ALTER TABLE identity.tenants {} TRIGGER check_life"
    with owner.transaction():
        owner.execute(sql.SQL(guard).format(sql.SQL("DISABLE")))
        owner.execute("DELETE FROM identity.tenants WHERE id = %s OR %s::uuid IS NULL", (tenant_id, tenant_id))
        owner.execute(sql.SQL(guard).format(sql.SQL("ENABLE")))


def named(relation: str) -> sql.Identifier:
    """Return a table's or view's name for a statement."""
    return sql.Identifier(*relation.split("."))


def owners(connection: Connection, relation: str) -> set[UUID]:
    """Return the tenants whose rows a login sees."""
    query = sql.SQL("SELECT DISTINCT tenant_id FROM {}").format(named(relation))
    return {row[0] for row in connection.execute(query).fetchall()}


def ids(connection: Connection, relation: str) -> set[UUID]:
    """Return the keys of the rows that a login sees."""
    return {row[0] for row in connection.execute(sql.SQL("SELECT id FROM {}").format(named(relation))).fetchall()}


def is_dated(connection: Connection, relation: str, row_id: UUID) -> bool:
    """Change a row with a date of one's own; tell whether it has the transaction's, later than the row's making."""
    update = sql.SQL(
        "UPDATE {} SET updated_at = '2000-01-01' WHERE id = %s RETURNING updated_at = now() AND updated_at > created_at"
    )
    [(dated,)] = connection.execute(update.format(named(relation)), (row_id,)).fetchall()
    return bool(dated)


GIVE_AWAY = sql.SQL("UPDATE {} SET tenant_id = %s WHERE tenant_id = %s")
"""A statement for `refusals`; its values are the new tenant and the old."""
LOOK = sql.SQL("SELECT FROM {}")


def seen(
    database: Database, role: str, relations: Iterable[str], tenant_id: UUID | None = None
) -> dict[str, set[UUID]]:
    """Return, by table, the tenants whose rows a login sees that is bound to one of them, or to none."""
    with acting(database, role, tenant_id) as connection:
        return {relation: owners(connection, relation) for relation in relations}


def refusals(
    database: Database,
    role: str,
    statement: sql.SQL,
    relations: Iterable[str],
    tenant_id: UUID | None = None,
    values: tuple[UUID, ...] = (),
) -> list[str]:
    """Return the tables at which a statement of a login is refused because it may not."""
    found = []
    with acting(database, role, tenant_id) as connection:
        for relation in relations:
            try:
                with connection.transaction():
                    connection.execute(statement.format(named(relation)), values)
            except psycopg.errors.InsufficientPrivilege:
                found.append(relation)
    return found
