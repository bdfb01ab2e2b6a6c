"""Tools: what an execution and a configuration may point to, and who sees and writes MCP servers."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql

from core.errors import ConstraintError, MissingRowError
from db.connection import Connection, bind_tenant, connect
from db.constraints import rules
from tests.support.database import Database
from tests.support.factory import Factory, Row
from tests.support.statements import changed, column, rows, value
from tests.support.tenants import acting, let_go, named
from tests.support.waiting import eventually

BOUND = ("worker", "operator", "reader")
EXECUTIONS = ("tools.tool_executions", "tools.mcp_tool_executions")
USERS = ("tools.mcp_server_configs", "tools.mcp_tool_executions")
SLUGS = "SELECT id FROM tools.mcp_servers WHERE id = ANY (%s)"
ADD = "INSERT INTO tools.mcp_servers (tenant_id, name, slug, server_type, is_public) VALUES (%s, 'S', 'new', 'sse', %s)"
RENAME = "UPDATE tools.mcp_servers SET name = 'x' WHERE id = ANY (%s)"
PUBLISH = "UPDATE tools.mcp_servers SET is_public = true WHERE id = %s"
MANY = """
INSERT INTO assistants.messages (tenant_id, conversation_id, created_at, role, content)
SELECT %s, %s, %s, 'user', 'hi' FROM generate_series(1, %s)
"""
CALL_OF_EACH = """
INSERT INTO tools.tool_executions (tenant_id, tool_name, input, message_id, message_created_at)
SELECT tenant_id, 'x', '{}', id, created_at FROM assistants.messages WHERE conversation_id = %s
"""
DELETE = "DELETE FROM tools.mcp_servers WHERE id = ANY (%s)"
Servers = dict[str, UUID]


def server(factory: Factory, **given: Any) -> UUID:
    made: UUID = factory.row("tools.mcp_servers", **({"tenant_id": factory.tenant_id, "server_type": "sse"} | given))[
        "id"
    ]
    return made


@pytest.fixture
def servers(ours: Factory, theirs: Factory) -> Servers:
    """A server of each kind."""
    return {
        "ours": server(ours),
        "ours, published": server(ours, is_public=True),
        "theirs": server(theirs),
        "theirs, published": server(theirs, is_public=True),
        "the installation's": server(ours, tenant_id=None, is_public=True),
    }


def message(factory: Factory) -> Row:
    persona_id = factory.row("assistants.voice_personas")["id"]
    conversation = factory.row("assistants.conversations", persona_id=persona_id, channel="email")
    return factory.row("assistants.messages", conversation_id=conversation["id"], role="user", content="hi")


def execution(factory: Factory, name: str, **given: Any) -> Row:
    """Return what an execution needs that points to nothing."""
    return factory.values(name, tool_name="x", **given)


def inserted(connection: Connection, name: str, values: Row) -> Row:
    return Factory(connection, values["tenant_id"]).insert(name, values)


# ------------------------------------------------------------------------------------------------ what rows point to


@pytest.mark.parametrize("name", EXECUTIONS)
def test_an_execution_belongs_to_a_message_of_its_tenant(shared: Database, ours: Factory, name: str) -> None:
    said = message(ours)
    key = {"message_id": said["id"], "message_created_at": said["created_at"]}
    with acting(shared, "worker", ours.tenant_id) as worker:
        assert inserted(worker, name, execution(ours, name, **key))
        assert inserted(worker, name, execution(ours, name)), "or to none"


@pytest.mark.parametrize("name", EXECUTIONS)
@pytest.mark.parametrize("role", ["worker", "system", "owner"])
@pytest.mark.parametrize("whose", ["theirs", "nobody's", "of another time"])
def test_an_execution_belongs_to_no_other_message(
    shared: Database, ours: Factory, theirs: Factory, name: str, role: str, whose: str
) -> None:
    said = message(theirs if whose == "theirs" else ours)
    moment = ours.row("identity.users")["created_at"] if whose == "of another time" else said["created_at"]
    key = {"message_id": uuid4() if whose == "nobody's" else said["id"], "message_created_at": moment}
    made = ours.row(name, tool_name="x")
    update = sql.SQL("UPDATE {} SET message_id = %s, message_created_at = %s WHERE id = %s").format(named(name))
    with acting(shared, role, ours.tenant_id) as connection:
        for write in (
            lambda: inserted(connection, name, execution(ours, name, **key)),
            lambda: changed(connection, update, *key.values(), made["id"]),
        ):
            with pytest.raises(MissingRowError) as caught, rules(), connection.transaction():
                write()
            assert caught.value.constraint == f"{name.split('.')[1]}_message_id_message_created_at_fkey"


@pytest.mark.parametrize("name", EXECUTIONS)
def test_an_execution_outlives_its_message(shared: Database, ours: Factory, name: str) -> None:
    said = message(ours)
    made = ours.row(name, tool_name="x", message_id=said["id"], message_created_at=said["created_at"])
    query = sql.SQL("SELECT message_id, message_created_at FROM {} WHERE id = %s").format(named(name))
    with acting(shared, "worker", ours.tenant_id) as worker:
        changed(worker, "DELETE FROM assistants.messages WHERE id = %s", said["id"])
        assert rows(worker, query, made["id"]) == [(None, None)]


def test_a_message_is_found_by_its_key_among_many_of_one_moment(shared: Database, ours: Factory) -> None:
    said, count = message(ours), 300
    shared.rows(MANY, (ours.tenant_id, said["conversation_id"], said["created_at"], count))
    with acting(shared, "worker", ours.tenant_id) as worker:
        assert changed(worker, CALL_OF_EACH, said["conversation_id"]) == count + 1
        read = "SELECT sum(idx_tup_fetch) FROM pg_stat_xact_all_tables WHERE relname ^@ 'messages_'"
        assert value(worker, read) < 5 * count


@pytest.mark.parametrize("name", USERS)
def test_a_tenant_uses_its_own_servers_and_public_ones(
    shared: Database, ours: Factory, servers: Servers, name: str
) -> None:
    with acting(shared, "worker", ours.tenant_id) as worker:
        for whose in servers.keys() - {"theirs"}:
            assert inserted(worker, name, ours.values(name, mcp_server_id=servers[whose])), whose


@pytest.mark.parametrize("name", USERS)
@pytest.mark.parametrize("role", ["worker", "system", "owner"])
@pytest.mark.parametrize("whose", ["theirs", "nobody's"])
def test_a_tenant_uses_no_other_server(
    shared: Database, ours: Factory, servers: Servers, name: str, role: str, whose: str
) -> None:
    wanted = servers.get(whose, uuid4())
    made = ours.row(name, mcp_server_id=servers["ours"])
    update = sql.SQL("UPDATE {} SET mcp_server_id = %s WHERE id = %s").format(named(name))
    with acting(shared, role, ours.tenant_id) as connection:
        for write in (
            lambda: inserted(connection, name, ours.values(name, mcp_server_id=wanted)),
            lambda: changed(connection, update, wanted, made["id"]),
        ):
            with pytest.raises(MissingRowError) as caught, rules(), connection.transaction():
                write()
            assert (caught.value.table, caught.value.constraint) == (name, f"{name.split('.')[1]}_mcp_server_id_fkey")


def test_an_execution_outlives_its_server_and_a_configuration_does_not(shared: Database, ours: Factory) -> None:
    made = server(ours)
    executed = ours.row("tools.mcp_tool_executions", mcp_server_id=made)["id"]
    ours.row("tools.mcp_server_configs", mcp_server_id=made)
    with acting(shared, "worker", ours.tenant_id) as worker:
        assert changed(worker, DELETE, [made]) == 1
        assert value(worker, "SELECT mcp_server_id FROM tools.mcp_tool_executions WHERE id = %s", executed) is None
        assert rows(worker, "SELECT 1 FROM tools.mcp_server_configs") == []


# ------------------------------------------------------------------------------------------------ MCP servers


@pytest.mark.parametrize("role", BOUND)
def test_everybody_sees_public_servers_and_those_of_the_tenant(
    shared: Database, ours: Factory, servers: Servers, role: str
) -> None:
    public = {"ours, published", "theirs, published", "the installation's"}
    for tenant_id, seen in ((ours.tenant_id, public | {"ours"}), (None, public)):
        with acting(shared, role, tenant_id) as connection:
            assert column(connection, SLUGS, list(servers.values())) == {servers[each] for each in seen}


@pytest.mark.parametrize("role", ["system", "owner"])
def test_system_and_owner_see_and_write_all_servers(shared: Database, servers: Servers, role: str) -> None:
    keys = list(servers.values())
    with acting(shared, role) as connection:
        assert column(connection, SLUGS, keys) == set(keys)
        assert changed(connection, RENAME, keys) == len(keys)
        assert changed(connection, ADD, None, True) == 1
        assert changed(connection, DELETE, keys) == len(keys)


@pytest.mark.parametrize("role", ["relay", "producer"])
def test_servers_are_no_relays_and_no_producers(shared: Database, role: str) -> None:
    with acting(shared, role) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("SELECT FROM tools.mcp_servers")


def refused(connection: Connection, statement: str, *values: Any) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
        changed(connection, statement, *values)


def test_a_reader_writes_no_server(shared: Database, ours: Factory, servers: Servers) -> None:
    with acting(shared, "reader", ours.tenant_id) as reader:
        refused(reader, ADD, ours.tenant_id, False)
        refused(reader, RENAME, [servers["ours"]])
        refused(reader, DELETE, [servers["ours"]])


def test_a_worker_adds_servers_of_its_tenant(shared: Database, ours: Factory, theirs: Factory) -> None:
    with acting(shared, "worker", ours.tenant_id) as worker:
        assert changed(worker, ADD, ours.tenant_id, False) == 1
        refused(worker, ADD, ours.tenant_id, True)
        refused(worker, ADD, theirs.tenant_id, False)
        refused(worker, ADD, None, True)
    with acting(shared, "worker") as worker:
        refused(worker, ADD, ours.tenant_id, False)
        refused(worker, ADD, None, True)


def test_a_worker_changes_servers_of_its_tenant_and_publishes_none(
    shared: Database, ours: Factory, theirs: Factory, servers: Servers
) -> None:
    with acting(shared, "worker", ours.tenant_id) as worker:
        assert changed(worker, RENAME, [servers["ours"]]) == 1
        refused(worker, PUBLISH, servers["ours"])
        refused(worker, RENAME, [servers["ours, published"]])
        refused(worker, "UPDATE tools.mcp_servers SET tenant_id = %s WHERE id = %s", theirs.tenant_id, servers["ours"])
        assert changed(worker, RENAME, [servers[each] for each in servers if not each.startswith("ours")]) == 0


def test_a_worker_deletes_servers_of_its_tenant(shared: Database, ours: Factory, servers: Servers) -> None:
    with acting(shared, "worker", ours.tenant_id) as worker:
        assert changed(worker, DELETE, [servers["ours"]]) == 1
        assert changed(worker, DELETE, [servers[each] for each in servers if not each.startswith("ours")]) == 0


@pytest.mark.parametrize("is_bound", [True, False])
def test_an_operator_writes_its_tenants_servers_or_the_installations(
    shared: Database, ours: Factory, servers: Servers, is_bound: bool
) -> None:
    own = {each for each in servers if each.startswith("ours" if is_bound else "the installation's")}
    for statement in (RENAME, DELETE):
        with acting(shared, "operator", ours.tenant_id if is_bound else None) as operator:
            assert changed(operator, statement, [servers[each] for each in servers.keys() - own]) == 0
            assert changed(operator, statement, [servers[each] for each in own]) == len(own)


def test_an_operator_adds_and_publishes_what_it_is_bound_to(
    shared: Database, ours: Factory, theirs: Factory, servers: Servers
) -> None:
    give = "UPDATE tools.mcp_servers SET tenant_id = %s WHERE id = %s"
    with acting(shared, "operator", ours.tenant_id) as operator:
        assert changed(operator, ADD, ours.tenant_id, True) == 1
        assert changed(operator, PUBLISH, servers["ours"]) == 1
        refused(operator, ADD, theirs.tenant_id, False)
        refused(operator, ADD, None, True)
        refused(operator, give, theirs.tenant_id, servers["ours"])
        refused(operator, give, None, servers["ours, published"])
    with acting(shared, "operator") as operator:
        assert changed(operator, ADD, None, True) == 1
        refused(operator, ADD, ours.tenant_id, False)
        refused(operator, give, ours.tenant_id, servers["the installation's"])


# ------------------------------------------------------------------------------------------------ servers in use


USED = "mcp_server_configs_mcp_server_id_fkey"
WITHDRAW = "UPDATE tools.mcp_servers SET is_public = false WHERE id = %s"


@pytest.mark.parametrize("role", ["worker", "operator", "system", "owner"])
@pytest.mark.parametrize("statement", [WITHDRAW, "DELETE FROM tools.mcp_servers WHERE id = %s"])
def test_a_server_that_others_have_configured_stays(
    shared: Database, ours: Factory, theirs: Factory, role: str, statement: str
) -> None:
    made = server(ours, is_public=True)
    used = theirs.row("tools.mcp_server_configs", mcp_server_id=made)["id"]
    with acting(shared, role, ours.tenant_id) as connection:
        with pytest.raises(MissingRowError) as caught, rules(), connection.transaction():
            changed(connection, statement, made)
        assert (caught.value.table, caught.value.constraint) == ("tools.mcp_server_configs", USED)
        cause = caught.value.__cause__
        assert isinstance(cause, psycopg.Error)
        assert "deprecated or disabled" in (cause.diag.message_hint or "")
    shared.rows("DELETE FROM tools.mcp_server_configs WHERE id = %s", (used,))
    with acting(shared, role, ours.tenant_id) as connection:
        assert changed(connection, statement, made) == 1


def test_a_server_in_use_stays_public_and_a_tenants_own_is_not_given_away(
    shared: Database, ours: Factory, theirs: Factory
) -> None:
    public, private = server(ours, is_public=True), server(ours)
    theirs.row("tools.mcp_server_configs", mcp_server_id=public)
    ours.row("tools.mcp_server_configs", mcp_server_id=private)
    give = "UPDATE tools.mcp_servers SET tenant_id = %s WHERE id = %s"
    with acting(shared, "system") as system:
        assert changed(system, PUBLISH, public) == 1
        assert changed(system, give, None, public) == 1
        with pytest.raises(psycopg.errors.ForeignKeyViolation, match="in use"):
            changed(system, give, theirs.tenant_id, private)


def test_the_installations_server_stays_while_anybody_has_configured_it(shared: Database, ours: Factory) -> None:
    made = server(ours, tenant_id=None, is_public=True)
    ours.row("tools.mcp_server_configs", mcp_server_id=made)
    with acting(shared, "operator") as operator, pytest.raises(psycopg.errors.ForeignKeyViolation, match="in use"):
        changed(operator, DELETE, [made])


@pytest.mark.parametrize("how", ["deletion", "erasure"])
def test_a_server_goes_with_its_tenant_whoever_has_configured_it(
    shared: Database, ours: Factory, theirs: Factory, how: str
) -> None:
    made = server(ours, is_public=True)
    theirs.row("tools.mcp_server_configs", mcp_server_id=made)
    if how == "deletion":
        let_go(shared.connect(), ours.tenant_id)
    else:
        shared.rows("UPDATE identity.tenants SET status = 'deleted' WHERE id = %s", (ours.tenant_id,))
        shared.rows(DELETE, ([made],))
    assert shared.rows("SELECT 1 FROM tools.mcp_server_configs WHERE mcp_server_id = %s", (made,)) == []


def test_a_server_that_is_being_withdrawn_is_not_configured_meanwhile(
    shared: Database, ours: Factory, theirs: Factory
) -> None:
    """Both wait for the server's row, and the later one sees what the other did."""
    made = server(ours, is_public=True)
    values = theirs.values("tools.mcp_server_configs", mcp_server_id=made)
    tenant, other = shared.connect("worker"), connect(shared.url("worker"), name="test other")
    with other, ThreadPoolExecutor(1) as pool:
        with tenant.transaction():
            bind_tenant(tenant, ours.tenant_id)
            assert changed(tenant, WITHDRAW, made) == 1
            later = pool.submit(configured, other, values)
            waiting = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"
            eventually(lambda: shared.value(waiting) or later.done())
        assert later.result(10) == "ForeignKeyViolation"


def configured(connection: Connection, values: Row) -> str:
    """Add a configuration as its tenant; return the error's name, or nothing."""
    try:
        with connection.transaction():
            bind_tenant(connection, values["tenant_id"])
            inserted(connection, "tools.mcp_server_configs", values)
    except psycopg.Error as error:
        return type(error).__name__
    return ""


@pytest.mark.parametrize("missing", ["mcp_server_id", "tenant_id"])
def test_a_configuration_says_which_value_is_missing(shared: Database, ours: Factory, missing: str) -> None:
    values = ours.values("tools.mcp_server_configs", mcp_server_id=server(ours)) | {missing: None}
    with pytest.raises(ConstraintError) as caught, rules():
        ours.insert("tools.mcp_server_configs", values)
    assert (type(caught.value), caught.value.constraint) == (ConstraintError, missing)


@pytest.mark.parametrize("name", EXECUTIONS)
def test_an_execution_says_that_it_lacks_its_tenant(shared: Database, ours: Factory, name: str) -> None:
    said = message(ours)
    key = {"message_id": said["id"], "message_created_at": said["created_at"], "tenant_id": None}
    with pytest.raises(ConstraintError) as caught, rules():
        ours.insert(name, execution(ours, name) | key)
    assert caught.value.constraint == "tenant_id"
