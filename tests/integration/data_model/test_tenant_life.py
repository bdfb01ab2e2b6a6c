"""A tenant's life: whose keys open, what no tenant can become, and who may do what to one."""

from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql

from core.credentials import new_api_key
from core.errors import ConstraintError
from db.constraints import rules
from db.identity import find_api_key, find_session
from tests.support.database import Database
from tests.support.factory import Factory
from tests.support.statements import changed, rows, value
from tests.support.tenants import acting, named

SET = "UPDATE identity.tenants SET status = %s WHERE id = %s"
DELETE = "DELETE FROM identity.tenants WHERE id = %s"
USED = "SELECT last_used_at FROM identity.api_keys WHERE id = %s"
DEFAULT = UUID("00000000-0000-7000-8000-000000000001")
Denied = psycopg.errors.InsufficientPrivilege


def key(ours: Factory, **given: Any) -> dict[str, Any]:
    """Make a user with a key and a session; return the key's row."""
    user_id = ours.row("identity.users")["id"]
    hashed = new_api_key(b"pepper").key_hash
    ours.row("identity.sessions", user_id=user_id, token_hash=hashed, expires_at="2099-01-01")
    return ours.row("identity.api_keys", user_id=user_id, key_hash=hashed, **given)


def opens(shared: Database, made: dict[str, Any]) -> tuple[bool, bool]:
    """Tell whether a key opens, and the session of the same hash; bound to no tenant, as who comes in is."""
    with acting(shared, "worker") as worker:
        found = find_api_key(worker, [uuid4().hex, made["key_hash"]]), find_session(worker, made["key_hash"])
    return found[0] is not None, found[1] is not None


# ------------------------------------------------------------------------------------------------ keys


def test_a_key_says_whose_it_is(shared: Database, ours: Factory) -> None:
    made = key(ours, name="importer", scopes=["read"], expires_at="2099-01-01")
    own = ours.row("identity.api_keys", key_hash=uuid4().hex)
    with acting(shared, "worker") as worker:
        found, without_user = (find_api_key(worker, [each["key_hash"]]) for each in (made, own))
        session = find_session(worker, made["key_hash"])
    assert found is not None
    assert (found.id, found.tenant_id, found.user_id) == (made["id"], ours.tenant_id, made["user_id"])
    assert (found.name, found.scopes, found.expires_at) == ("importer", ["read"], made["expires_at"])
    assert without_user is not None
    assert (without_user.user_id, without_user.tenant_id) == (None, ours.tenant_id)
    assert session is not None
    assert (session.tenant_id, session.user_id) == (ours.tenant_id, made["user_id"])


def test_keys_and_sessions_close_with_their_tenant_and_open_with_it_again(shared: Database, ours: Factory) -> None:
    made = key(ours)
    for status, is_open in (("active", True), ("suspended", False), ("active", True), ("deleted", False)):
        shared.connect("operator").execute(SET, (status, ours.tenant_id))
        assert opens(shared, made) == (is_open, is_open), status
    assert rows(shared.connect(), "SELECT status, revoked_at FROM identity.api_keys WHERE id = %s", made["id"]) == [
        ("active", None)
    ]


@pytest.mark.parametrize(
    ("statement", "left"),
    [
        ("UPDATE identity.users SET status = 'suspended' WHERE id = %(user_id)s", (False, False)),
        ("UPDATE identity.users SET deleted_at = now() WHERE id = %(user_id)s", (False, False)),
        ("UPDATE identity.tenants SET deleted_at = now() WHERE id = %(tenant_id)s", (False, False)),
        ("UPDATE identity.api_keys SET status = 'revoked', revoked_at = now() WHERE id = %(id)s", (False, True)),
        ("UPDATE identity.api_keys SET status = 'expired' WHERE id = %(id)s", (False, True)),
        ("UPDATE identity.api_keys SET expires_at = now() WHERE id = %(id)s", (False, True)),
        ("UPDATE identity.sessions SET expires_at = now() WHERE token_hash = %(key_hash)s", (True, False)),
        ("DELETE FROM identity.users WHERE id = %(user_id)s", (False, False)),
    ],
)
def test_what_closes_a_key_or_a_session(
    shared: Database, ours: Factory, statement: str, left: tuple[bool, bool]
) -> None:
    made = key(ours)
    assert opens(shared, made) == (True, True)
    shared.rows(statement, {name: made[name] for name in ("id", "tenant_id", "user_id", "key_hash")})
    assert opens(shared, made) == left


def test_a_keys_use_is_noted_once_a_minute_and_not_in_the_log(shared: Database, ours: Factory) -> None:
    made = key(ours)
    worker = shared.connect("worker")
    noted = []
    for rest in (0, 0, 59, 61):
        shared.rows(
            "UPDATE identity.api_keys SET last_used_at = last_used_at - make_interval(secs => %s) WHERE id = %s",
            (rest, made["id"]),
        )
        before = shared.value(USED, (made["id"],))
        find_api_key(worker, [made["key_hash"]])
        noted.append(shared.value(USED, (made["id"],)) != before)
    assert noted == [True, False, False, True]
    assert shared.rows("SELECT operation FROM audit.audit_log WHERE record_id = %s", (str(made["id"]),)) == [
        ("INSERT",)
    ]


def test_a_key_opens_where_its_use_cannot_be_noted(shared: Database, ours: Factory) -> None:
    made = key(ours)
    reading, writing = shared.connect("worker"), shared.connect("worker")
    with reading.transaction():
        reading.execute("SET TRANSACTION READ ONLY")
        assert find_api_key(reading, [made["key_hash"]]) is not None
    assert shared.value(USED, (made["id"],)) is None
    writing.execute("SET lock_timeout = '5s'")
    with shared.connect().transaction() as holding:
        holding.connection.execute("SELECT FROM identity.api_keys WHERE id = %s FOR UPDATE", (made["id"],))
        assert find_api_key(writing, [made["key_hash"]]) is not None, "nobody waits for another one's request"
    assert shared.value(USED, (made["id"],)) is None


@pytest.mark.parametrize("role", ["relay", "producer", "reader"])
@pytest.mark.parametrize("call", ["identity.find_api_key('{x}')", "identity.find_session('x')"])
def test_who_opens_no_door_looks_up_no_key(shared: Database, role: str, call: str) -> None:
    with acting(shared, role) as connection, pytest.raises(Denied, match="for function"):
        rows(connection, f"SELECT {call}")


# ------------------------------------------------------------------------------------------------ what cannot be


@pytest.mark.parametrize("role", ["operator", "owner"])
@pytest.mark.parametrize("status", ["active", "suspended"])
def test_a_deleted_tenant_does_not_come_back(shared: Database, ours: Factory, role: str, status: str) -> None:
    with acting(shared, role) as connection:
        changed(connection, SET, "deleted", ours.tenant_id)
        with pytest.raises(ConstraintError) as caught, rules():
            changed(connection, SET, status, ours.tenant_id)
    assert (caught.value.table, caught.value.constraint) == ("identity.tenants", "tenants_stays_deleted_check")


def test_a_deleted_tenants_slug_is_free_at_once(shared: Database, ours: Factory) -> None:
    slug = shared.value("SELECT slug FROM identity.tenants WHERE id = %s", (ours.tenant_id,))
    add = "INSERT INTO identity.tenants (name, slug) VALUES ('Next', %s)"
    with acting(shared, "operator") as operator:
        with pytest.raises(psycopg.errors.UniqueViolation), operator.transaction():
            changed(operator, add, slug)
        changed(operator, SET, "deleted", ours.tenant_id)
        assert changed(operator, add, slug) == 1


def test_the_default_tenant_stays(shared: Database) -> None:
    for role in ("operator", "owner"):
        with acting(shared, role) as connection, pytest.raises(ConstraintError) as caught, rules():
            changed(connection, SET, "deleted", DEFAULT)
        assert caught.value.constraint == "tenants_default_stays_check"
    with acting(shared, "operator") as operator:
        assert changed(operator, SET, "suspended", DEFAULT) == 1


def test_a_tenants_row_goes_when_nothing_is_left_of_it(shared: Database, ours: Factory) -> None:
    ours.row("identity.users")
    with acting(shared, "owner") as owner:
        for status in ("active", "deleted"):
            changed(owner, SET, status, ours.tenant_id)
            with pytest.raises(ConstraintError) as caught, rules(), owner.transaction():
                changed(owner, DELETE, ours.tenant_id)
            assert caught.value.constraint == "tenants_is_erased_check"
        for table in ("identity.users", "audit.audit_log"):
            delete = sql.SQL("DELETE FROM {} WHERE tenant_id = %s")
            changed(owner, delete.format(named(table)), ours.tenant_id)
        assert changed(owner, DELETE, ours.tenant_id) == 1


def test_a_tenant_of_which_nothing_is_left_is_deleted_before_its_row_goes(shared: Database) -> None:
    """Not even the log has something of it: its month was dropped."""
    with acting(shared, "owner") as owner:
        owner.execute("ALTER TABLE identity.tenants DISABLE TRIGGER log_change")
        made = value(owner, "INSERT INTO identity.tenants (name, slug) VALUES ('Old', 'old') RETURNING id")
        with pytest.raises(ConstraintError) as caught, rules(), owner.transaction():
            changed(owner, DELETE, made)
        assert caught.value.constraint == "tenants_is_erased_check"
        changed(owner, SET, "deleted", made)
        assert changed(owner, DELETE, made) == 1


# ------------------------------------------------------------------------------------------------ who may


@pytest.mark.parametrize("role", ["relay", "worker", "system", "producer", "reader"])
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE identity.tenants SET status = 'suspended'",
        "INSERT INTO identity.tenants (name, slug) VALUES ('N', 'n')",
        "DELETE FROM identity.tenants",
    ],
)
def test_tenants_are_an_operators_to_steer(shared: Database, ours: Factory, role: str, statement: str) -> None:
    with acting(shared, role, ours.tenant_id) as connection, pytest.raises(Denied):
        changed(connection, statement)


def test_an_operator_deletes_no_row_and_sets_no_date(shared: Database, ours: Factory) -> None:
    for statement in (DELETE, "UPDATE identity.tenants SET deleted_at = NULL WHERE id = %s"):
        with acting(shared, "operator") as operator, pytest.raises(Denied):
            changed(operator, statement, ours.tenant_id)


def test_an_operator_bound_to_a_tenant_changes_that_one_and_adds_none(
    shared: Database, ours: Factory, theirs: Factory
) -> None:
    with acting(shared, "operator", ours.tenant_id) as operator:
        assert changed(operator, SET, "suspended", ours.tenant_id) == 1
        assert changed(operator, SET, "suspended", theirs.tenant_id) == 0
        with pytest.raises(Denied):
            changed(operator, "INSERT INTO identity.tenants (name, slug) VALUES ('N', 'n')")


@pytest.mark.parametrize("role", ["relay", "worker", "producer", "reader", "operator"])
@pytest.mark.parametrize(
    "call",
    [
        "ops.erase_page(identity.default_tenant_id(), 'identity.users', 1, 0)",
        "ops.empty_tenant(identity.default_tenant_id())",
        "ops.remove_tenant(identity.default_tenant_id())",
        "ops.tenant_leftover(identity.default_tenant_id())",
        "ops.tenant_tables()",
    ],
)
def test_erasing_is_the_system_roles(shared: Database, role: str, call: str) -> None:
    with acting(shared, role) as connection, pytest.raises(Denied, match="for function"):
        rows(connection, f"SELECT {call}")


@pytest.mark.parametrize("table", ["identity.users", "identity.regions", "audit.audit_log_2026_01", "pg_class"])
def test_nothing_of_a_tenant_that_is_not_deleted_is_erased_and_nothing_that_is_no_tenants(
    shared: Database, ours: Factory, table: str
) -> None:
    user_id = ours.row("identity.users")["id"]
    shared.rows("SELECT ops.create_month('audit.audit_log', '2026-01-15')")
    if table != "identity.users":
        shared.rows(SET, ("deleted", ours.tenant_id))
    with acting(shared, "system") as system:
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="nothing of the tenant"), system.transaction():
            rows(system, "SELECT ops.erase_page(%s, %s::text::regclass, 10, 0)", ours.tenant_id, table)
        rows(system, "SELECT ops.empty_tenant(%s)", DEFAULT)
        assert value(system, "SELECT name FROM identity.tenants WHERE id = %s", DEFAULT) == "Default"
        assert rows(system, "SELECT id FROM identity.users WHERE id = %s", user_id) == [(user_id,)]


def test_the_log_of_a_tenant_that_is_there_stays_as_it_is(shared: Database, ours: Factory, theirs: Factory) -> None:
    """Its part of the log goes with a deleted tenant, and no other part; even that is never changed."""
    shared.rows(SET, ("deleted", ours.tenant_id))
    with acting(shared, "owner") as owner:
        for statement, tenant_id in (
            ("DELETE FROM audit.audit_log WHERE tenant_id = %s", theirs.tenant_id),
            ("UPDATE audit.audit_log SET actor = 'x' WHERE tenant_id = %s", ours.tenant_id),
        ):
            with pytest.raises(psycopg.errors.CheckViolation, match="only ever added to"), owner.transaction():
                changed(owner, statement, tenant_id)
        assert changed(owner, "DELETE FROM audit.audit_log WHERE tenant_id = %s", ours.tenant_id) > 0
    with acting(shared, "system") as system, pytest.raises(Denied):
        changed(system, "DELETE FROM audit.audit_log WHERE tenant_id = %s", ours.tenant_id)


def test_rows_of_a_deleted_tenant_go_without_a_note_and_those_of_others_with_one(
    shared: Database, ours: Factory, theirs: Factory
) -> None:
    shared.rows(SET, ("deleted", ours.tenant_id))
    users = [factory.row("identity.users")["id"] for factory in (ours, theirs)]
    noted = "SELECT operation FROM audit.audit_log WHERE record_id = %s ORDER BY operation DESC"
    with acting(shared, "owner") as owner:
        changed(owner, "UPDATE identity.users SET name = 'x' WHERE id = ANY (%s)", users)
        changed(owner, "DELETE FROM identity.users WHERE id = ANY (%s)", users)
        assert [[operation for (operation,) in rows(owner, noted, str(user))] for user in users] == [
            ["UPDATE", "INSERT"],
            ["UPDATE", "INSERT", "DELETE"],
        ]
