"""The walk (I6): each login role tries what it must not do, in every table of the catalogue that tenants own."""

import itertools
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from db.connection import bind_tenant
from db.embedded import EmbeddedServer
from db.models import Base
from db.roles import ROLES
from tests.support.tenants import named
from tests.support.walk import LEAVES, Walk, permitted, point, reason, tenants, trespasses, walked

CATALOGUE = """
SELECT attrelid::regclass::text FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
WHERE attname = 'tenant_id' AND c.relkind NOT IN ('i', 'I', 'c') AND c.relnamespace::regnamespace::text !~ '^pg_'
"""
# Policies that bind a role to its tenant, and what they are for: one command, or all (*).
POLICIES = """
SELECT p.polrelid::regclass::text, p.polname, r.rolname, p.polcmd::text
FROM pg_policy p JOIN pg_roles r ON r.oid = ANY (p.polroles)
WHERE NOT p.polpermissive AND p.polrelid::regclass::text = ANY (%s)
    AND concat(pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)) ~ 'current_tenant_id'
ORDER BY 1, 2, 3
"""
TRIES = {"select", "insert", "update", "delete", "give away"}
COMMANDS = {"*": TRIES, "r": {"select"}, "a": {"insert"}, "w": {"update"}, "d": {"delete"}}
# Keys that do not hold the tenant: who may let a row refer to another tenant's, and why.
UNGUARDED = {
    ("system", "ops.archives (run_id) to ops.retention_runs"):
        "an archive is of its run's tenant or of none; nobody else writes archives, and system works across tenants",
    ("system", "ops.retention_runs (policy_id) to ops.retention_policies"):
        "a run may be of a tenant, its policy of none; nobody else writes runs, and system works across tenants",
}  # fmt: skip
# Keys of tables that triggers alone write, as the owner.
UNWRITTEN = {"knowledge.chunk_terms (chunk_id) to knowledge.chunks"}

# Keys whose rows something else refuses as well.
_BY_TRIGGER = "the key does not hold the tenant: a trigger compares it, and fails as the key would"
GUARDED_TOO = {
    "knowledge.chunk_terms (chunk_id) to knowledge.chunks": "each chunk has its terms already",
    "vault.provider_keys (user_id) to identity.users": "a secret stays under its label",
    "vault.secrets (persona_id) to assistants.personas": "a secret stays under its label",
    "ops.retention_policies (persona_id) to assistants.personas": "a trigger wants a table that has personas",
    "tools.mcp_server_configs (mcp_server_id) to tools.mcp_servers": _BY_TRIGGER,
    "tools.mcp_tool_executions (mcp_server_id) to tools.mcp_servers": _BY_TRIGGER,
    "tools.mcp_tool_executions (message_id, message_created_at) to assistants.messages": _BY_TRIGGER,
    "tools.tool_executions (message_id, message_created_at) to assistants.messages": _BY_TRIGGER,
}


@pytest.fixture(scope="module")
def shared(server_without_fsync: EmbeddedServer, template_database: str) -> Iterator[Walk]:
    """A database with rows of two tenants in every table; tests roll back what they write."""
    with walked(server_without_fsync, template_database) as walk:
        yield walk


def test_the_walk_leaves_no_table_out(shared: Walk) -> None:
    leaves = {name for (name,) in shared.database.rows(LEAVES)}
    catalogue = {name for (name,) in shared.database.rows(CATALOGUE)}
    assert set(shared.relations) == catalogue - leaves
    models = {f"{table.schema}.{table.name}" for table in Base.metadata.tables.values() if "tenant_id" in table.columns}
    assert models <= set(shared.relations)


def test_every_table_is_seen_by_a_bound_login(shared: Walk) -> None:
    """No refusal below is one for want of rows: who may look sees its own, and who is let off sees those of all."""
    looked, wrong = set(), []
    for role, tenant in itertools.product(ROLES, (shared.ours, None)):
        with shared.database.connect(role).transaction() as transaction:
            bind_tenant(transaction.connection, tenant)
            for relation in shared.relations.values():
                seen = tenants(transaction.connection, relation)
                if seen is None:
                    continue
                looked |= {relation.name} if tenant else set()
                if reason(role, relation.name, tenant):
                    is_right = seen >= {shared.ours, shared.theirs}
                else:
                    is_right = seen == {tenant} if tenant else seen <= {None}
                if not is_right:
                    wrong.append((role, tenant, relation.name, seen))
    assert wrong == []
    assert looked == set(shared.relations)


@pytest.mark.parametrize("is_bound", [True, False], ids=["bound", "unbound"])
@pytest.mark.parametrize("role", ROLES)
def test_a_login_has_nothing_of_another_tenants(shared: Walk, role: str, is_bound: bool) -> None:
    tenant = shared.ours if is_bound else None
    connection = shared.database.connect(role)
    with connection.transaction(force_rollback=True):
        found = {
            relation.name: passed
            for relation in shared.relations.values()
            if not reason(role, relation.name, tenant) and (passed := trespasses(connection, shared, relation, tenant))
        }
    assert found == {}


def test_no_row_refers_to_another_tenants(shared: Walk) -> None:
    """Row security does not look at foreign keys: they hold the tenant themselves, for whoever writes."""
    passed, refused = {}, set()
    for role in ROLES:
        connection = shared.database.connect(role)
        with connection.transaction(force_rollback=True):
            bind_tenant(connection, shared.ours)
            for key in shared.keys:
                ended = point(connection, shared, key)
                if ended == "ForeignKeyViolation":
                    refused.add(str(key))
                elif ended != "InsufficientPrivilege":
                    passed[role, str(key)] = ended
    assert passed.keys() == UNGUARDED.keys()
    assert {str(key) for key in shared.keys} - refused == UNWRITTEN | {key for _, key in UNGUARDED}


def test_each_policy_that_is_taken_away_is_missed(shared: Walk) -> None:
    """The walk turns red, and exactly there: each try that the role has a right to and that the policy was for."""
    wrong, count = [], 0
    with psycopg.connect(shared.database.superuser_url) as connection:
        for relation, policy, role, command in connection.execute(
            POLICIES.encode(), (list(shared.relations),)
        ).fetchall():
            with connection.transaction(force_rollback=True):
                connection.execute(sql.SQL("DROP POLICY {} ON {}").format(sql.Identifier(policy), named(relation)))
                connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))
                passed = trespasses(connection, shared, shared.relations[relation], shared.ours)
                meant = permitted(connection, shared.relations[relation]) & COMMANDS[command]
            if passed.keys() != meant:
                wrong.append((relation, policy, role, passed))
            count += 1
    assert wrong == []
    assert count > 200


def test_each_foreign_key_that_is_taken_away_is_missed(shared: Walk) -> None:
    """It was the key that refused, not something else by chance."""
    ends = {}
    with psycopg.connect(shared.database.superuser_url) as connection:
        for key in shared.keys:
            drop = sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}")
            with connection.transaction(force_rollback=True):
                connection.execute(drop.format(named(key.relation.name), sql.Identifier(key.name)))
                connection.execute("SET LOCAL ROLE greenroom_owner")
                ends[str(key)] = point(connection, shared, key)
    assert {key for key, ended in ends.items() if ended != "1"} == GUARDED_TOO.keys()
    assert len(ends) > 80
