"""Erasure: what retention deletes leaves no copy in the log of changes, and a user goes with what the log held."""

from collections.abc import Iterator
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row

from db.connection import Connection
from tests.support.database import Database
from tests.support.factory import Factory, Row
from tests.support.retention_runs import let_go, let_months_go
from tests.support.statements import changed, rows, value
from tests.support.tenants import acting, ids

USERS, SESSIONS, EVENTS = "identity.users", "governance.agent_sessions", "governance.governance_events"
NOTES = """
SELECT operation, old_values, new_values, changed_columns FROM audit.audit_log
WHERE record_id = %s ORDER BY array_position(ARRAY['INSERT', 'UPDATE', 'DELETE'], operation), id
"""
ERASE = "SELECT identity.erase_user(%s, %s)"
MARK = "SELECT set_config('app.erasing', 'on', true)"
OLD = "2020-02-03 00:00+00"


@pytest.fixture
def system(shared: Database) -> Iterator[Connection]:
    """A transaction of the role that works across tenants."""
    with acting(shared, "system") as connection:
        yield connection


def noted(connection: Connection, record_id: object) -> list[Row]:
    """Return what the log holds of a record, from its making to its end."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(NOTES, (str(record_id),)).fetchall()


def policy(ours: Factory, table: str, **given: object) -> str:
    """Write a policy of our tenant's; return its name."""
    schema, _, relation = table.partition(".")
    speaks_of = {"table_schema": schema, "table_name": relation, "age_column": "created_at", "age": "1 year"}
    values = {"name": f"policy {uuid4()}", "filter": {}, "tenant_id": ours.tenant_id}
    name: str = ours.row("ops.retention_policies", **values | speaks_of | given)["name"]
    return name


# ------------------------------------------------------------------------------------------------ retention


def test_what_retention_deletes_is_noted_by_its_key_alone(ours: Factory, system: Connection) -> None:
    user_id = ours.row(USERS, created_at=OLD, name="Ada Lovelace")["id"]
    session_id = ours.row(SESSIONS, user_id=user_id)["id"]
    assert let_go(system, policy(ours, USERS)) == 1
    for record_id in (user_id, session_id):
        made, gone = noted(system, record_id)
        assert made["new_values"] is not None
        assert (gone["operation"], gone["old_values"], gone["new_values"]) == ("DELETE", None, None)


def test_a_month_that_goes_leaves_no_copy(database: Database) -> None:
    ours = Factory(database.connect(), database.value("SELECT identity.default_tenant_id()"))
    database.rows("SELECT ops.create_month(%s::regclass, %s)", (EVENTS, OLD))
    event_id = ours.row(EVENTS, created_at=OLD, agent_session_id=uuid4(), decision_details={"about": "Ada"})["id"]
    database.rows("UPDATE ops.retention_policies SET age = '1 year' WHERE name = 'governance-events'")
    with acting(database, "system") as system:
        assert let_months_go(system, "governance-events") == 1
        assert [note["old_values"] for note in noted(system, event_id)] in ([None], [None, None])


def test_what_is_deleted_after_a_run_is_copied_again(ours: Factory, system: Connection) -> None:
    user_id = ours.row(USERS)["id"]
    let_go(system, policy(ours, USERS))
    changed(system, "DELETE FROM identity.users WHERE id = %s", user_id)
    assert noted(system, user_id)[-1]["old_values"]["id"] == str(user_id)


@pytest.mark.parametrize("role", ["worker", "operator"])
def test_a_setting_of_ones_own_hides_no_deletion(shared: Database, ours: Factory, role: str) -> None:
    user_id = ours.row(USERS)["id"]
    session_id = ours.row(SESSIONS, user_id=user_id)["id"]
    with acting(shared, role, ours.tenant_id) as connection:
        rows(connection, MARK)
        changed(connection, "DELETE FROM identity.users WHERE id = %s", user_id)
        for record_id in (user_id, session_id):
            assert noted(connection, record_id)[-1]["old_values"]["id"] == str(record_id)


# ------------------------------------------------------------------------------------------------ users


@pytest.fixture
def ada(shared: Database, ours: Factory) -> dict[str, UUID]:
    """A user with a changed name, a session, a key and a persona; each row by its table."""
    user_id = ours.row(USERS, name="Ada")["id"]
    with acting(shared, "owner"):
        shared.rows("UPDATE identity.users SET name = 'Ada Lovelace' WHERE id = %s", (user_id,))
    made = {name: ours.row(name, user_id=user_id)["id"] for name in (SESSIONS, "identity.api_keys")}
    return made | {USERS: user_id, "assistants.personas": ours.row("assistants.personas", owner_id=user_id)["id"]}


def test_a_user_who_is_erased_leaves_keys_and_moments_in_the_log(
    ours: Factory, system: Connection, ada: dict[str, UUID]
) -> None:
    other = ours.row(USERS, name="Grace")["id"]
    emptied = value(system, ERASE, ours.tenant_id, ada[USERS])
    assert emptied == len(ada) + 1
    for table, record_id in ada.items():
        notes = noted(system, record_id)
        assert [(note["old_values"], note["new_values"]) for note in notes] == [(None, None)] * len(notes)
        assert record_id not in ids(system, table)
    assert [note["operation"] for note in noted(system, ada[USERS])] == ["INSERT", "UPDATE", "DELETE"]
    assert noted(system, ada[USERS])[1]["changed_columns"] == ["name"]
    assert [note["new_values"]["name"] for note in noted(system, other)] == ["Grace"]
    assert value(system, ERASE, ours.tenant_id, ada[USERS]) == 0


def test_a_user_who_is_gone_already_leaves_the_log(ours: Factory, system: Connection, ada: dict[str, UUID]) -> None:
    changed(system, "DELETE FROM identity.users WHERE id = %s", ada[USERS])
    assert "Ada Lovelace" in str(noted(system, ada[USERS]))
    assert value(system, ERASE, ours.tenant_id, ada[USERS]) > 0
    assert "Ada" not in str(noted(system, ada[USERS]))


def test_what_was_decided_about_a_users_agents_is_kept(ours: Factory, system: Connection, ada: dict[str, UUID]) -> None:
    event_id = ours.row(EVENTS, agent_session_id=ada[SESSIONS], approved=True)["id"]
    value(system, ERASE, ours.tenant_id, ada[USERS])
    assert event_id in ids(system, EVENTS)
    assert noted(system, event_id)[0]["new_values"]["user_id"] == str(ada[USERS])


def test_another_tenants_user_is_not_erased(
    ours: Factory, theirs: Factory, system: Connection, ada: dict[str, UUID]
) -> None:
    assert value(system, ERASE, theirs.tenant_id, ada[USERS]) == 0
    assert ada[USERS] in ids(system, USERS)
    assert "Ada Lovelace" in str(noted(system, ada[USERS]))


@pytest.mark.parametrize("table", [USERS, SESSIONS])
def test_a_hold_keeps_a_user(ours: Factory, system: Connection, ada: dict[str, UUID], table: str) -> None:
    policy(ours, table, is_held=True, hold_reason="a court's order")
    with pytest.raises(psycopg.Error, match="is held") as caught, system.transaction():
        value(system, ERASE, ours.tenant_id, ada[USERS])
    assert caught.value.sqlstate == "GR005"
    assert ada[USERS] in ids(system, USERS)


@pytest.mark.parametrize("is_gone", [False, True])
def test_a_hold_on_the_log_keeps_what_it_says_of_a_user(
    ours: Factory, system: Connection, ada: dict[str, UUID], is_gone: bool
) -> None:
    policy(ours, "audit.audit_log", age_column="changed_at", is_held=True, hold_reason="a court's order")
    if is_gone:
        changed(system, "DELETE FROM identity.users WHERE id = %s", ada[USERS])
    with pytest.raises(psycopg.Error, match="is held") as caught, system.transaction():
        value(system, ERASE, ours.tenant_id, ada[USERS])
    assert caught.value.sqlstate == "GR005"
    assert "Ada Lovelace" in str(noted(system, ada[USERS]))


@pytest.mark.parametrize("role", ["worker", "operator", "reader", "relay", "producer"])
def test_the_system_alone_erases(shared: Database, ours: Factory, role: str) -> None:
    with acting(shared, role, ours.tenant_id) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        value(connection, ERASE, ours.tenant_id, uuid4())


@pytest.mark.parametrize(
    "change",
    [
        sql.SQL("changed_by = 'x', old_values = NULL, new_values = NULL"),
        sql.SQL("old_values = NULL, new_values = '{}'"),
        sql.SQL("record_id = 'x'"),
    ],
    ids=["who", "other values", "of what"],
)
def test_not_even_an_erasure_changes_what_the_log_says(shared: Database, ours: Factory, change: sql.SQL) -> None:
    user_id = str(ours.row(USERS)["id"])
    with acting(shared, "owner") as owner:
        rows(owner, MARK)
        with pytest.raises(psycopg.errors.CheckViolation, match="only ever added"), owner.transaction():
            changed(owner, sql.SQL("UPDATE audit.audit_log SET {} WHERE record_id = %s").format(change), user_id)


# ------------------------------------------------------------------------------------------------ who


@pytest.mark.parametrize("form", ["{}", "{{{}}}"])
def test_an_actor_is_written_in_one_way(shared: Database, ours: Factory, form: str) -> None:
    user_id = ours.row(USERS)["id"]
    with acting(shared, "worker", ours.tenant_id, user_id) as worker:
        rows(worker, "SELECT set_config('app.current_user_id', %s, true)", form.format(str(user_id).upper()))
        changed(worker, "UPDATE identity.users SET name = 'A' WHERE id = %s", user_id)
        assert value(worker, "SELECT changed_by FROM audit.audit_log") == str(user_id)
