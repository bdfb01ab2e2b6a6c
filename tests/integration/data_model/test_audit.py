"""The audit: what changed is noted by triggers, whoever changes it, without secrets, and stays as it was noted."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row

from core.errors import ConstraintError
from db.connection import Connection
from db.constraints import rules
from db.migrate import migrate
from db.schema import WANTED_REVISION
from tests.support.database import Database
from tests.support.factory import Factory, Row
from tests.support.statements import changed, column, rows, value
from tests.support.tenants import LOOK, acting, ids, let_go, named

LOG, EVENTS, SESSIONS = "audit.audit_log", "audit.audit_events", "governance.agent_sessions"
AUDITED = (
    "assistants.personas",
    "governance.agent_sessions",
    "governance.governance_events",
    "identity.api_keys",
    "identity.operators",
    "identity.tenants",
    "identity.users",
    "ops.retention_policies",
    "vault.provider_keys",
    "vault.secrets",
)
SECRETS = {
    "identity.api_keys": "key_hash",
    "identity.operators": "password_hash",
    "identity.users": "password_hash",
    "vault.provider_keys": "encrypted_key",
    "vault.secrets": "encrypted_value",
}
GUARDS = """
SELECT c.oid::regclass::text FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
WHERE t.tgname = %s AND NOT c.relispartition AND c.relnamespace <> 'public'::regnamespace ORDER BY 1
"""
REVISIONS = """
SELECT operation, old_values ->> 'version_num', new_values ->> 'version_num', record_id FROM audit.audit_log
WHERE table_name = 'alembic_version' AND tenant_id IS NULL AND changed_at > now() - interval '1 hour' ORDER BY id
"""
RENAME = "UPDATE identity.users SET name = %s WHERE id = %s"
Denied = psycopg.errors.InsufficientPrivilege


@pytest.fixture
def owner(shared: Database) -> Iterator[Connection]:
    """A transaction of the schema's owner, rolled back."""
    with acting(shared, "owner") as connection:
        yield connection


def noted(connection: Connection, record_id: object) -> list[Row]:
    """Return what the log holds of a record, from its making to its end."""
    with connection.cursor(row_factory=dict_row) as cursor:
        query = """SELECT * FROM audit.audit_log WHERE record_id = %s
            ORDER BY array_position(ARRAY['INSERT', 'UPDATE', 'DELETE'], operation), id"""
        return cursor.execute(query, (str(record_id),)).fetchall()


def set_to(connection: Connection, **settings: object) -> None:
    for name, wanted in settings.items():
        connection.execute("SELECT set_config(%s, %s, true)", (f"app.{name}", str(wanted)))


# ------------------------------------------------------------------------------------------------ what is noted


def test_what_is_audited_is_said(shared: Database) -> None:
    for guard in ("log_change", "log_truncate"):
        assert tuple(name for (name,) in shared.rows(GUARDS, (guard,))) == AUDITED


@pytest.mark.parametrize("table", AUDITED)
def test_a_new_row_is_noted(shared: Database, ours: Factory, table: str) -> None:
    given = {"tenant_id": ours.tenant_id} if table == "ops.retention_policies" else {}
    row_id = ours.row(table, **given)["id"] if table != "identity.tenants" else ours.tenant_id
    [note] = noted(shared.connect(), row_id)
    assert (f"{note['table_schema']}.{note['table_name']}", note["operation"]) == (table, "INSERT")
    assert note["tenant_id"] == (None if table == "identity.operators" else ours.tenant_id)
    assert (note["new_values"]["id"], note["old_values"], note["changed_columns"]) == (str(row_id), None, None)


def test_a_change_is_noted_with_what_was_before_and_after(owner: Connection, ours: Factory) -> None:
    user_id = ours.row("identity.users", name="Ada")["id"]
    changed(owner, "UPDATE identity.users SET name = 'Grace', status = 'inactive' WHERE id = %s", user_id)
    note = noted(owner, user_id)[-1]
    assert (note["operation"], note["changed_columns"]) == ("UPDATE", ["is_active", "name", "status"])
    assert [note[side]["name"] for side in ("old_values", "new_values")] == ["Ada", "Grace"]
    assert [note[side]["is_active"] for side in ("old_values", "new_values")] == [True, False]


def test_a_deletion_is_noted_with_what_was_there(owner: Connection, ours: Factory) -> None:
    session = ours.row(SESSIONS, agent_type="researcher")
    let_go(owner, ours.tenant_id)
    for record_id in (session["id"], session["user_id"], ours.tenant_id):
        note = noted(owner, record_id)[-1]
        assert (note["operation"], note["tenant_id"], note["new_values"]) == ("DELETE", ours.tenant_id, None)
    assert noted(owner, session["id"])[-1]["old_values"]["agent_type"] == "researcher"


def test_what_changes_nothing_is_not_noted(owner: Connection, ours: Factory) -> None:
    user_id = ours.row("identity.users", name="Ada")["id"]
    changed(owner, RENAME, "Ada", user_id)
    assert value(owner, "SELECT version FROM identity.users WHERE id = %s", user_id) == 2
    assert [note["operation"] for note in noted(owner, user_id)] == ["INSERT"]


def test_what_is_rolled_back_is_not_noted(owner: Connection, ours: Factory) -> None:
    user_id = ours.row("identity.users")["id"]
    with owner.transaction(force_rollback=True):
        changed(owner, RENAME, "Ada", user_id)
        assert len(noted(owner, user_id)) == 2
    assert len(noted(owner, user_id)) == 1


@pytest.mark.parametrize(("table", "secret"), SECRETS.items())
def test_no_secret_is_copied_and_its_change_is_noted(owner: Connection, ours: Factory, table: str, secret: str) -> None:
    first, second, third = (uuid4().hex * 2 for _ in range(3))
    row_id = ours.row(table, **{secret: first})["id"]
    update = sql.SQL("UPDATE {} SET {} = %s WHERE id = %s").format(named(table), sql.Identifier(secret))
    changed(owner, update, second, row_id)
    changed(owner, update, third, row_id)
    changed(owner, sql.SQL("DELETE FROM {} WHERE id = %s").format(named(table)), row_id)
    notes = noted(owner, row_id)
    assert [note["changed_columns"] for note in notes] == [None, [secret], [secret], None]
    assert [hidden for hidden in (first, second, third) if hidden in str(notes)] == []
    assert all(secret not in (note[side] or {}) for note in notes for side in ("old_values", "new_values"))


def test_a_table_names_more_that_is_not_copied(owner: Connection) -> None:
    owner.execute("CREATE TABLE ops.things (id integer, pin text, key_hash text, shown text)")
    owner.execute(
        "CREATE TRIGGER log_change AFTER INSERT ON ops.things FOR EACH ROW EXECUTE FUNCTION audit.log_change('pin')"
    )
    owner.execute("INSERT INTO ops.things VALUES (-7, '1234', 'hash', 'yes')")
    assert [note["new_values"] for note in noted(owner, -7)] == [{"id": -7, "shown": "yes"}]


def test_a_key_of_any_kind_is_a_text(owner: Connection) -> None:
    owner.execute("CREATE TABLE ops.things (b integer, a text, tenant_id text, n integer, PRIMARY KEY (a, b))")
    owner.execute("CREATE TABLE ops.keyless (n integer)")
    for table in ("things", "keyless"):
        create = "CREATE TRIGGER l AFTER INSERT OR UPDATE ON ops.{} FOR EACH ROW EXECUTE FUNCTION audit.log_change()"
        owner.execute(sql.SQL(create).format(sql.Identifier(table)))
    owner.execute("INSERT INTO ops.things VALUES (7, 'x', 'nobody', 1)")
    owner.execute("INSERT INTO ops.keyless VALUES (1)")
    assert [note["tenant_id"] for note in noted(owner, "x,7")] == [None]
    assert [note["table_name"] for note in noted(owner, "*")] == ["keyless"]


def test_a_partitions_row_is_its_tables(shared: Database, ours: Factory) -> None:
    shared.rows("SELECT ops.create_month('governance.governance_events', '2020-02-01')")
    event_id = ours.row("governance.governance_events", created_at="2020-02-02")["id"]
    assert [note["table_name"] for note in noted(shared.connect(), event_id)] == ["governance_events"]


def test_emptying_a_table_or_a_month_of_it_is_noted(owner: Connection) -> None:
    query = "SELECT relid::text FROM pg_partition_tree('governance.governance_events') WHERE isleaf"
    leaves = column(owner, query)
    assert len(leaves) >= 3
    for table in ("vault.secrets", *leaves):
        before = len(noted(owner, "*"))
        owner.execute(sql.SQL("TRUNCATE {} CASCADE").format(named(table)))
        assert len(noted(owner, "*")) == before + 1, table
    notes = noted(owner, "*")
    assert {(note["operation"], note["old_values"], note["new_values"]) for note in notes} == {("TRUNCATE", None, None)}
    assert {note["table_name"] for note in notes} == {"secrets", "governance_events"}


def test_emptying_a_month_that_was_made_later_is_noted_too(owner: Connection) -> None:
    owner.execute("SELECT ops.create_month('governance.governance_events', '2021-02-01')")
    owner.execute("TRUNCATE governance.governance_events_2021_02 CASCADE")
    assert [note["table_name"] for note in noted(owner, "*")] == ["governance_events"]


def test_a_change_of_the_schemas_revision_is_noted(database: Database) -> None:
    migrate(database.owner_url, revision="0024")  # takes along what notes it
    month = database.value("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM')")
    database.rows(f"DROP TABLE audit.audit_log_{month}")
    migrate(database.owner_url)  # as it does where nobody made months for long
    revisions = database.rows(REVISIONS)
    assert ("UPDATE", "0024", "0025", "0025") in revisions
    assert {record for _, _, _, record in revisions} >= {"0025", WANTED_REVISION}


# ------------------------------------------------------------------------------------------------ by whom


def renamed(shared: Database, ours: Factory, **settings: object) -> Row:
    """Have a worker change a user, and return what is noted."""
    user_id = settings.get("current_user_id") or ours.row("identity.users")["id"]
    with acting(shared, "worker", ours.tenant_id) as worker:
        set_to(worker, **settings)
        changed(worker, RENAME, "Ada", user_id)
        return noted(worker, user_id)[-1]


def test_a_change_is_the_logins_unless_the_session_names_somebody(shared: Database, ours: Factory) -> None:
    user_id = ours.row("identity.users")["id"]
    assert renamed(shared, ours)["changed_by"] == "greenroom_worker"
    assert renamed(shared, ours, current_user="")["changed_by"] == "greenroom_worker"
    assert renamed(shared, ours, current_user="ada")["changed_by"] == "ada"
    note = renamed(shared, ours, current_user="ada", current_user_id=user_id)
    assert (note["changed_by"], note["actor"]) == (str(user_id), "greenroom_worker")


def test_a_name_that_is_too_long_refuses_no_write(shared: Database, ours: Factory) -> None:
    assert renamed(shared, ours, current_user="ä" * 1000)["changed_by"] == "ä" * 255


def test_changes_are_tied_together_by_a_key_and_by_nothing_else(shared: Database, ours: Factory) -> None:
    correlation_id = uuid4()
    assert renamed(shared, ours, correlation_id=correlation_id)["correlation_id"] == correlation_id
    for nothing in ("", "request 7", f"{correlation_id}x"):
        assert renamed(shared, ours, correlation_id=nothing)["correlation_id"] is None
    assert renamed(shared, ours)["correlation_id"] is None


@pytest.mark.parametrize("call", ["audit.session_actor()", "audit.session_correlation_id()"])
@pytest.mark.parametrize("role", ["worker", "system", "operator", "reader", "relay", "producer"])
def test_who_acts_is_the_triggers_to_ask(shared: Database, role: str, call: str) -> None:
    with acting(shared, role) as connection, pytest.raises(Denied):
        rows(connection, f"SELECT {call}")


# ------------------------------------------------------------------------------------------------ runs of retention


def run(connection: Connection, ours: Factory, **given: Any) -> UUID:
    """Write a run of retention."""
    speaks_of = {"policy_name": "p", "table_schema": "governance", "table_name": "agent_sessions"}
    values = {**speaks_of, "action": "delete", "tenant_id": ours.tenant_id} | given
    found: UUID = Factory(connection, ours.tenant_id).row("ops.retention_runs", **values)["id"]
    return found


@pytest.mark.parametrize(
    ("action", "operation"),
    [("delete", "CLEANUP"), ("roll_up", "CLEANUP"), ("drop_partition", "CLEANUP"), ("archive", "ARCHIVE")],
)
def test_a_run_of_retention_is_noted_once_when_it_is_over(
    shared: Database, ours: Factory, action: str, operation: str
) -> None:
    end = "UPDATE ops.retention_runs SET status = 'completed', ended_at = now(), rows_deleted = 3 WHERE id = %s"
    with acting(shared, "system") as system:
        run_id = run(system, ours, action=action)
        changed(system, "UPDATE ops.retention_runs SET rows_deleted = 1 WHERE id = %s", run_id)
        assert noted(system, run_id) == []
        changed(system, end, run_id)
        changed(system, "UPDATE ops.retention_runs SET rows_held = 9 WHERE id = %s", run_id)
        [note] = noted(system, run_id)
    assert (note["operation"], note["tenant_id"], note["actor"]) == (operation, ours.tenant_id, "greenroom_system")
    assert (note["table_schema"], note["table_name"]) == ("governance", "agent_sessions")
    facts = {"retention_policy": "p", "action": action, "status": "completed", "rows_deleted": 3, "rows_held": 0}
    assert note["new_values"].items() >= facts.items()


def test_a_run_that_failed_is_noted_too(shared: Database, ours: Factory) -> None:
    with acting(shared, "system") as system:
        given = {"status": "failed", "error_message": "no room", "ended_at": "2099-01-01"}
        [note] = noted(system, run(system, ours, **given))
    assert (note["operation"], note["new_values"]["status"]) == ("CLEANUP", "failed")


# ------------------------------------------------------------------------------------------------ only ever added


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit.audit_log SET changed_by = 'nobody'",
        "DELETE FROM audit.audit_log",
        "TRUNCATE audit.audit_log",
        "UPDATE audit.{leaf} SET changed_by = 'nobody'",
        "DELETE FROM audit.{leaf}",
        "TRUNCATE audit.{leaf}",
    ],
)
def test_not_even_the_owner_changes_the_log(shared: Database, ours: Factory, statement: str) -> None:
    ours.row("identity.users")
    leaf = shared.value("SELECT DISTINCT tableoid::regclass::text FROM audit.audit_log").removeprefix("audit.")
    with pytest.raises(ConstraintError) as caught, rules():
        shared.rows(statement.format(leaf=leaf))
    assert (caught.value.table, caught.value.constraint) == (LOG, "audit_log_is_append_only")


@pytest.mark.parametrize("role", ["worker", "system", "operator", "reader"])
@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO audit.audit_log (table_schema, table_name, record_id, operation) VALUES ('a', 'b', 'c', 'INSERT')",
        "UPDATE audit.audit_log SET changed_by = 'nobody'",
        "DELETE FROM audit.audit_log",
        "TRUNCATE audit.audit_log",
    ],
)
def test_no_role_writes_the_log(shared: Database, ours: Factory, role: str, statement: str) -> None:
    with acting(shared, role, ours.tenant_id) as connection, pytest.raises(Denied):
        changed(connection, statement)


@pytest.mark.parametrize("trigger", ["log_change", "log_cleanup", "refuse_change"])
@pytest.mark.parametrize("role", ["worker", "system", "operator", "reader"])
def test_no_role_has_its_own_table_write_the_log(shared: Database, role: str, trigger: str) -> None:
    create = "CREATE TRIGGER t AFTER INSERT ON mine FOR EACH ROW EXECUTE FUNCTION {}"
    with acting(shared, role) as connection:
        connection.execute("CREATE TEMPORARY TABLE mine (id uuid)")
        with pytest.raises(Denied, match=trigger):
            connection.execute(sql.SQL(create).format(sql.SQL("{}()").format(sql.Identifier("audit", trigger))))


def test_a_month_of_the_log_goes_as_a_whole(owner: Connection) -> None:
    leaf = value(owner, "SELECT ops.create_month('audit.audit_log', '2020-02-01')")
    with pytest.raises(ConstraintError, match="append_only"), rules(), owner.transaction():
        owner.execute(sql.SQL("TRUNCATE {}").format(sql.Identifier("audit", leaf)))
    owner.execute(
        "INSERT INTO audit.audit_log (table_schema, table_name, record_id, operation, changed_at) "
        "VALUES ('a', 'b', 'old', 'INSERT', '2020-02-02')"
    )
    owner.execute(sql.SQL("ALTER TABLE audit.audit_log DETACH PARTITION {}").format(sql.Identifier("audit", leaf)))
    owner.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier("audit", leaf)))
    assert noted(owner, "old") == []


# ------------------------------------------------------------------------------------------------ who sees it


@pytest.mark.parametrize("role", ["worker", "operator", "reader"])
def test_a_bound_login_sees_its_tenants_log(shared: Database, ours: Factory, theirs: Factory, role: str) -> None:
    of_nobody = str(ours.row("identity.operators")["id"])
    users = {factory.tenant_id: str(factory.row("identity.users")["id"]) for factory in (ours, theirs)}
    for tenant_id, user_id in users.items():
        with acting(shared, role, tenant_id) as connection:
            assert column(connection, "SELECT record_id FROM audit.audit_log") == {user_id, str(tenant_id)}
    with acting(shared, role) as connection:
        tenants = column(connection, "SELECT tenant_id FROM audit.audit_log")
        assert tenants == ({None} if role == "operator" else set())
        assert (noted(connection, of_nobody) != []) == (role == "operator")


def test_the_system_sees_the_log_of_all(shared: Database, ours: Factory, theirs: Factory) -> None:
    with acting(shared, "system") as system:
        assert column(system, "SELECT tenant_id FROM audit.audit_log") >= {ours.tenant_id, theirs.tenant_id}


@pytest.mark.parametrize("table", [LOG, EVENTS])
@pytest.mark.parametrize("role", ["relay", "producer"])
def test_the_audit_is_no_relays_and_no_producers(shared: Database, ours: Factory, role: str, table: str) -> None:
    with acting(shared, role, ours.tenant_id) as connection, pytest.raises(Denied):
        rows(connection, LOOK.format(named(table)))


@pytest.mark.parametrize("role", ["worker", "operator"])
def test_who_acts_for_a_user_sees_what_that_user_changed(shared: Database, ours: Factory, role: str) -> None:
    mine, other = (ours.row("identity.users")["id"] for _ in "ab")
    with acting(shared, role, ours.tenant_id) as connection:
        for user_id in (mine, other):
            set_to(connection, current_user_id=user_id)
            changed(connection, RENAME, "Ada", user_id)
        set_to(connection, current_user_id=mine)
        assert column(connection, "SELECT record_id FROM audit.audit_log") == {str(mine)}
        assert [note["operation"] for note in noted(connection, mine)] == ["UPDATE"]
        set_to(connection, current_user_id="")
        assert column(connection, "SELECT record_id FROM audit.audit_log") >= {str(mine), str(other)}


# ------------------------------------------------------------------------------------------------ deeds


@pytest.mark.parametrize("role", ["worker", "system", "operator"])
def test_a_deed_is_written_and_stays(shared: Database, ours: Factory, role: str) -> None:
    with acting(shared, role, ours.tenant_id) as connection:
        event = Factory(connection, ours.tenant_id).row(EVENTS, tenant_id=ours.tenant_id)
        assert (event["actor"], event["id"] in ids(connection, EVENTS)) == (f"greenroom_{role}", True)
        for statement in ("UPDATE audit.audit_events SET actor = 'x'", "DELETE FROM audit.audit_events"):
            with pytest.raises(Denied), connection.transaction():
                changed(connection, statement)


def test_a_deed_is_its_tenants(shared: Database, ours: Factory, theirs: Factory) -> None:
    made = {factory.tenant_id: factory.row(EVENTS, tenant_id=factory.tenant_id)["id"] for factory in (ours, theirs)}
    for role in ("worker", "reader"):
        for tenant_id, event_id in made.items():
            with acting(shared, role, tenant_id) as connection:
                assert ids(connection, EVENTS) == {event_id}
    with acting(shared, "worker", ours.tenant_id) as worker, pytest.raises(Denied, match="row-level security"):
        Factory(worker, ours.tenant_id).row(EVENTS, tenant_id=theirs.tenant_id)
    with acting(shared, "operator") as operator:
        assert Factory(operator, ours.tenant_id).row(EVENTS)["tenant_id"] is None
