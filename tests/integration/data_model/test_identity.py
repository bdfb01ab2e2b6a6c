"""Who there is: how tables are bound to tenants, users and months; versions; what each role may do with its rows."""

from collections.abc import Iterator
from uuid import UUID

import psycopg
import pytest
from psycopg import sql

from db.connection import Connection
from db.roles import ROLES
from tests.support.database import Database
from tests.support.factory import Factory, table
from tests.support.statements import changed, column, rows, value
from tests.support.tenants import acting, named

BOUND = ("worker", "operator", "reader")
HIDDEN = {"identity.users": "password_hash", "identity.sessions": "token_hash", "identity.api_keys": "key_hash"}
LOGS = "CREATE TABLE identity.logs (id uuid, at timestamptz, PRIMARY KEY (id, at)) PARTITION BY RANGE (at)"
NOTES = """
CREATE TABLE IF NOT EXISTS identity.notes (tenant_id uuid NOT NULL, user_id uuid NOT NULL);
SELECT ops.bind_to_tenant('identity.notes'), ops.bind_to_user('identity.notes')
"""
ADD_NOTE = "INSERT INTO identity.notes VALUES (%s, %s)"
OWNERS_OWN = (
    "SELECT ops.bind_to_tenant('identity.operators')",
    "SELECT ops.bind_to_user('identity.sessions')",
    "SELECT ops.create_month('identity.users', '2031-01-01')",
    "SELECT ops.create_months()",
)


@pytest.fixture
def owner(shared: Database) -> Iterator[Connection]:
    """A transaction of the schema's owner, rolled back."""
    with acting(shared, "owner") as connection:
        yield connection


@pytest.fixture(scope="module")
def noted(shared: Database) -> Database:
    """The database with a table that is bound to tenants and users."""
    shared.connect().execute(NOTES)
    return shared


@pytest.fixture
def notes(noted: Database, ours: Factory, theirs: Factory) -> list[UUID]:
    """A note of each of two users of ours and of one of theirs."""
    users = [factory.row("identity.users") for factory in (ours, ours, theirs)]
    for user in users:
        noted.rows(ADD_NOTE, (user["tenant_id"], user["id"]))
    return [user["id"] for user in users]


def authors(connection: Connection) -> set[UUID]:
    return column(connection, "SELECT user_id FROM identity.notes")


# ------------------------------------------------------------------------------------------------ tenants and users


def test_a_transaction_acts_for_the_user_that_it_names(shared: Database, ours: Factory) -> None:
    user_id = ours.row("identity.users")["id"]
    with acting(shared, "worker", ours.tenant_id, user_id) as worker:
        assert value(worker, "SELECT identity.current_user_id()") == user_id
    worker = shared.connect("worker")
    with worker.transaction():
        worker.execute("SET LOCAL app.current_user_id = '00000000-0000-7000-8000-000000000009'")
    assert value(worker, "SELECT identity.current_user_id()") is None


def test_a_user_that_is_no_key_is_refused(shared: Database, ours: Factory) -> None:
    ours.row("identity.users")
    with acting(shared, "worker", ours.tenant_id) as worker:
        worker.execute("SET LOCAL app.current_user_id = 'ada'")
        with pytest.raises(psycopg.errors.InvalidTextRepresentation):
            worker.execute("SELECT FROM identity.users")


@pytest.mark.parametrize("role", BOUND)
def test_a_table_bound_to_tenants_shows_each_its_own(
    noted: Database, ours: Factory, theirs: Factory, notes: list[UUID], role: str
) -> None:
    for tenant_id, seen in ((ours.tenant_id, notes[:2]), (theirs.tenant_id, notes[2:]), (None, [])):
        with acting(noted, role, tenant_id) as connection:
            assert authors(connection) == set(seen)


@pytest.mark.parametrize("role", ["system", "owner"])
def test_system_and_owner_pass_what_binds_the_others(noted: Database, notes: list[UUID], role: str) -> None:
    with acting(noted, role, None, notes[0]) as connection:
        assert authors(connection) >= set(notes)


@pytest.mark.parametrize("role", BOUND)
def test_a_table_bound_to_tenants_takes_no_row_of_another(
    noted: Database, ours: Factory, theirs: Factory, notes: list[UUID], role: str
) -> None:
    with acting(noted, role, ours.tenant_id) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        changed(connection, ADD_NOTE, theirs.tenant_id, notes[2])


@pytest.mark.parametrize("role", ["relay", "producer"])
def test_a_table_bound_to_tenants_is_no_relays_and_no_producers(noted: Database, ours: Factory, role: str) -> None:
    with acting(noted, role, ours.tenant_id) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        authors(connection)


def test_a_table_without_tenants_is_not_bound_to_them(owner: Connection) -> None:
    with pytest.raises(psycopg.errors.UndefinedColumn):
        owner.execute("SELECT ops.bind_to_tenant('identity.regions')")


@pytest.mark.parametrize("role", BOUND)
def test_a_table_bound_to_users_shows_each_its_own(
    noted: Database, ours: Factory, notes: list[UUID], role: str
) -> None:
    with acting(noted, role, ours.tenant_id, notes[0]) as connection:
        assert authors(connection) == {notes[0]}
    with acting(noted, role, ours.tenant_id, notes[2]) as connection:
        assert authors(connection) == set(), "a user of another tenant sees nothing"


@pytest.mark.parametrize("role", ["worker", "operator"])
def test_a_table_bound_to_users_takes_no_row_of_another(
    noted: Database, ours: Factory, notes: list[UUID], role: str
) -> None:
    with acting(noted, role, ours.tenant_id, notes[0]) as connection:
        assert changed(connection, ADD_NOTE, ours.tenant_id, notes[0]) == 1
        assert changed(connection, "DELETE FROM identity.notes WHERE user_id = %s", notes[1]) == 0
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            changed(connection, ADD_NOTE, ours.tenant_id, notes[1])


def test_a_table_without_users_is_not_bound_to_them(owner: Connection) -> None:
    with pytest.raises(psycopg.errors.UndefinedColumn):
        owner.execute("SELECT ops.bind_to_user('identity.tenant_regions')")


@pytest.mark.parametrize("statement", OWNERS_OWN)
@pytest.mark.parametrize("role", ROLES)
def test_binding_and_parting_tables_is_the_owners(shared: Database, role: str, statement: str) -> None:
    refused = pytest.raises(
        psycopg.errors.InsufficientPrivilege, match="for schema" if role == "scheduler" else "for function"
    )
    with acting(shared, role) as connection, refused:
        value(connection, statement)


# ------------------------------------------------------------------------------------------------ months


def test_a_month_is_made_once_and_begins_in_utc(owner: Connection) -> None:
    owner.execute("SET LOCAL timezone = 'America/New_York'")
    owner.execute(LOGS)
    create = "SELECT ops.create_month('identity.logs', %s)"
    assert value(owner, create, "2031-05-31 23:30-02") == "logs_2031_06"
    assert value(owner, create, "2031-06-30 23:59:59+00") is None
    insert = "INSERT INTO identity.logs VALUES (gen_random_uuid(), %s) RETURNING tableoid::regclass::text"
    for moment in ("2031-06-01 00:00+00", "2031-06-30 23:59:59.999999+00"):
        assert value(owner, insert, moment) == "identity.logs_2031_06"


@pytest.mark.parametrize("moment", ["2031-05-31 23:59:59+00", "2031-07-01 00:00+00"])
def test_a_month_that_is_not_made_takes_no_row(owner: Connection, moment: str) -> None:
    owner.execute(LOGS)
    owner.execute("SELECT ops.create_month('identity.logs', '2031-06-15')")
    with pytest.raises(psycopg.errors.CheckViolation, match="no partition"):
        owner.execute("INSERT INTO identity.logs VALUES (gen_random_uuid(), %s)", (moment,))


def test_a_table_that_is_not_parted_gets_no_month(owner: Connection) -> None:
    with pytest.raises(psycopg.Error):
        owner.execute("SELECT ops.create_month('identity.users', now())")


@pytest.mark.parametrize("role", ROLES)
def test_a_month_itself_is_nobodys(shared: Database, role: str) -> None:
    leaf = shared.value("SELECT min(relid::text) FROM pg_partition_tree('tools.tool_executions') WHERE isleaf")
    with acting(shared, role) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(sql.SQL("SELECT FROM {}").format(named(leaf)))


def test_this_month_and_the_next_two_are_made_where_they_are_missing(owner: Connection) -> None:
    owner.execute(LOGS)
    assert value(owner, "SELECT ops.create_months()") == 3
    assert value(owner, "SELECT ops.create_months()") == 0


def test_a_products_own_tables_get_no_months(owner: Connection) -> None:
    owner.execute("CREATE TEMPORARY TABLE logs (at timestamptz) PARTITION BY RANGE (at)")
    assert value(owner, "SELECT ops.create_months()") == 0


def test_the_relay_of_before_still_makes_the_months_of_all_tables(database: Database) -> None:
    database.rows(LOGS)
    assert value(database.connect("relay"), "SELECT queue.create_months()") == 3
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        value(database.connect("worker"), "SELECT queue.create_months()")


# ------------------------------------------------------------------------------------------------ what roles may do


@pytest.fixture
def people(ours: Factory) -> list[tuple[UUID, UUID]]:
    """Two users of ours, each with a session in which something was done."""
    found = []
    for _ in range(2):
        user_id = ours.row("identity.users")["id"]
        session_id = ours.row("identity.user_sessions", user_id=user_id)["id"]
        ours.row("identity.session_activities", user_session_id=session_id)
        found.append((user_id, session_id))
    return found


@pytest.mark.parametrize("role", BOUND)
def test_who_acts_for_a_user_sees_that_user_alone(
    shared: Database, ours: Factory, people: list[tuple[UUID, UUID]], role: str
) -> None:
    (ada, session), _ = people
    with acting(shared, role, ours.tenant_id, ada) as connection:
        assert rows(connection, "SELECT id FROM identity.users") == [(ada,)]
        assert rows(connection, "SELECT id FROM identity.user_sessions") == [(session,)]
        assert rows(connection, "SELECT user_session_id FROM identity.session_activities") == [(session,)]
    with acting(shared, role, ours.tenant_id) as connection:
        assert column(connection, "SELECT id FROM identity.users") == {user_id for user_id, _ in people}


def test_who_acts_for_a_user_changes_nothing_of_anothers(
    shared: Database, ours: Factory, people: list[tuple[UUID, UUID]]
) -> None:
    (ada, hers), (bob, his) = people
    act = "INSERT INTO identity.session_activities (user_session_id, tenant_id, activity_type) VALUES (%s, %s, 'x')"
    with acting(shared, "worker", ours.tenant_id, ada) as worker:
        assert changed(worker, act, hers, ours.tenant_id) == 1
        assert changed(worker, "UPDATE identity.users SET name = 'x' WHERE id = %s", bob) == 0
        assert changed(worker, "DELETE FROM identity.user_sessions WHERE id = %s", his) == 0
        assert changed(worker, "DELETE FROM identity.session_activities WHERE user_session_id = %s", his) == 0
        for statement, values in (
            ("UPDATE identity.user_sessions SET user_id = %s WHERE id = %s", (bob, hers)),
            ("INSERT INTO identity.user_sessions (user_id, tenant_id) VALUES (%s, %s)", (bob, ours.tenant_id)),
            (act, (his, ours.tenant_id)),
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege), worker.transaction():
                changed(worker, statement, *values)


@pytest.mark.parametrize(("name", "hidden"), HIDDEN.items())
def test_a_reader_sees_all_but_hashes(shared: Database, ours: Factory, name: str, hidden: str) -> None:
    row = ours.row(name)
    shown = sql.SQL(", ").join(sql.Identifier(each.name) for each in table(name).columns if each.name != hidden)
    select = sql.SQL("SELECT {} FROM {} WHERE id = %s")
    with acting(shared, "reader", ours.tenant_id) as reader:
        assert len(rows(reader, select.format(shown, named(name)), row["id"])) == 1
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            rows(reader, select.format(sql.Identifier(hidden), named(name)), row["id"])


@pytest.mark.parametrize("role", [role for role in ROLES if role != "operator"])
def test_operators_are_known_to_operators_alone(shared: Database, ours: Factory, role: str) -> None:
    made = ours.row("identity.operators")["id"]
    with acting(shared, "operator") as operator:
        assert changed(operator, "UPDATE identity.operators SET is_active = false WHERE id = %s", made) == 1
    with acting(shared, role) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("SELECT FROM identity.operators")


def test_regions_are_everybodys_and_an_operators_to_change(shared: Database, ours: Factory) -> None:
    region_id = ours.row("identity.regions")["id"]
    update = "UPDATE identity.regions SET status = 'draining' WHERE id = %s"
    with acting(shared, "operator") as operator:
        assert changed(operator, update, region_id) == 1
    for role in ("worker", "system", "reader"):
        with acting(shared, role) as connection:
            assert rows(connection, "SELECT code FROM identity.regions WHERE id = %s", region_id)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                changed(connection, update, region_id)


def test_who_looks_for_a_tenant_knows_that_one_and_an_operator_all(
    shared: Database, ours: Factory, theirs: Factory
) -> None:
    both = {ours.tenant_id, theirs.tenant_id}
    for role, tenant_id, known in (
        ("reader", ours.tenant_id, {ours.tenant_id}),
        ("reader", None, both),
        ("worker", ours.tenant_id, {ours.tenant_id}),
        ("worker", None, set()),
        ("operator", ours.tenant_id, both),
        ("relay", None, both),
        ("system", None, both),
    ):
        with acting(shared, role, tenant_id) as connection:
            query = "SELECT id FROM identity.tenants WHERE id = ANY (%s)"
            assert column(connection, query, list(both)) == known, (role, tenant_id)
