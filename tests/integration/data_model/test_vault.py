"""The vault: whose secrets are seen by whom, and that who only looks sees no ciphertext."""

from uuid import UUID

import psycopg
import pytest
from psycopg import sql

from db.roles import ROLES
from tests.support.database import Database
from tests.support.factory import Factory, table
from tests.support.statements import changed, column, rows
from tests.support.tenants import acting, named

CIPHERTEXT = {"vault.secrets": "encrypted_value", "vault.provider_keys": "encrypted_key"}
BOUND = ("worker", "operator", "reader")


@pytest.mark.parametrize("name", CIPHERTEXT)
@pytest.mark.parametrize("role", BOUND)
def test_a_tenant_sees_its_own_secrets(shared: Database, ours: Factory, theirs: Factory, role: str, name: str) -> None:
    mine, others = ours.row(name)["id"], theirs.row(name)["id"]
    query = sql.SQL("SELECT id FROM {}").format(named(name))
    for tenant_id, seen in ((ours.tenant_id, {mine}), (theirs.tenant_id, {others}), (None, set())):
        with acting(shared, role, tenant_id) as connection:
            assert column(connection, query) == seen
    with acting(shared, "system") as system:
        assert column(system, query) >= {mine, others}, "keys rotate across tenants"


@pytest.mark.parametrize("name", CIPHERTEXT)
@pytest.mark.parametrize("role", ["worker", "operator"])
def test_a_tenant_writes_no_secret_of_another(
    shared: Database, ours: Factory, theirs: Factory, role: str, name: str
) -> None:
    mine, others = ours.row(name)["id"], theirs.row(name)["id"]
    with acting(shared, role, ours.tenant_id) as connection:
        write = sql.SQL("UPDATE {} SET key_id = 'k2' WHERE id = ANY (%s)").format(named(name))
        assert changed(connection, write, [mine, others]) == 1
        give = sql.SQL("UPDATE {} SET tenant_id = %s WHERE id = %s").format(named(name))
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            changed(connection, give, theirs.tenant_id, mine)


@pytest.mark.parametrize(("name", "hidden"), CIPHERTEXT.items())
def test_a_reader_sees_that_there_is_a_secret_and_not_its_ciphertext(
    shared: Database, ours: Factory, name: str, hidden: str
) -> None:
    ours.row(name)
    shown = sql.SQL(", ").join(sql.Identifier(each.name) for each in table(name).columns if each.name != hidden)
    select = sql.SQL("SELECT {} FROM {}")
    with acting(shared, "reader", ours.tenant_id) as reader:
        assert len(rows(reader, select.format(shown, named(name)))) == 1
        for refused in (sql.Identifier(hidden), sql.SQL("*")):
            with pytest.raises(psycopg.errors.InsufficientPrivilege), reader.transaction():
                rows(reader, select.format(refused, named(name)))


@pytest.mark.parametrize("name", CIPHERTEXT)
@pytest.mark.parametrize("role", [role for role in ROLES if role not in ("worker", "operator", "system")])
def test_who_does_not_work_with_secrets_writes_none(shared: Database, ours: Factory, role: str, name: str) -> None:
    ours.row(name)
    for statement in ("DELETE FROM {}", "UPDATE {} SET key_id = 'k2'"):
        with acting(shared, role, ours.tenant_id) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            changed(connection, sql.SQL(statement).format(named(name)))


@pytest.fixture
def keys(ours: Factory) -> list[tuple[UUID, UUID]]:
    """The provider keys of two users of ours, and those users."""
    made = [ours.row("vault.provider_keys", user_id=ours.row("identity.users")["id"]) for _ in range(2)]
    return [(key["id"], key["user_id"]) for key in made]


@pytest.mark.parametrize("role", BOUND)
def test_a_user_sees_its_own_provider_keys(
    shared: Database, ours: Factory, keys: list[tuple[UUID, UUID]], role: str
) -> None:
    for user_id, seen in ((keys[0][1], {keys[0][0]}), (None, {keys[0][0], keys[1][0]})):
        with acting(shared, role, ours.tenant_id, user_id) as connection:
            assert column(connection, "SELECT id FROM vault.provider_keys") == seen


def test_a_user_writes_no_provider_key_of_another(
    shared: Database, ours: Factory, keys: list[tuple[UUID, UUID]]
) -> None:
    (own, ada), (others, bob) = keys
    with acting(shared, "worker", ours.tenant_id, ada) as worker:
        update = "UPDATE vault.provider_keys SET key_id = 'k2' WHERE id = ANY (%s)"
        assert changed(worker, update, [own, others]) == 1
        assert changed(worker, "DELETE FROM vault.provider_keys WHERE user_id = %s", bob) == 0
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            changed(worker, "UPDATE vault.provider_keys SET user_id = %s WHERE id = %s", bob, own)
