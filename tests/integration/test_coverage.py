"""Each design that the data model serves has its place in it, whole: the maps in docs/coverage, held against both."""

import copy
from typing import Any

import pytest

from tests.support.catalogue import KINDS, Catalogue
from tests.support.coverage import designs, faults, load, nowhere, sizes
from tests.support.database import Database

COUNTED = ("tables", "columns", "rules", "indexes", *KINDS)
# How much each design asks for, in that order: counted in the designs, so that nothing leaves a map unseen.
SIZES = {
    "000": (18, 170, 56, 58, 0, 0, 0, 0, 10, 14),
    "001": (10, 84, 22, 15, 0, 0, 3, 0, 2, 1),
    "002": (14, 85, 19, 21, 7, 3, 4, 3, 3, 11),
    "003": (12, 111, 22, 37, 4, 0, 2, 3, 5, 14),
    "004": (25, 310, 76, 85, 1, 0, 0, 22, 4, 46),
}


# What no object of ours stands for; its map says why: decisions, and what a later pipeline brings.
NOWHERE = {
    "000": {
        "FOREIGN KEY (user_id) REFERENCES users ON DELETE NO ACTION",
        "FOREIGN KEY (persona_id) REFERENCES personas ON DELETE NO ACTION",
        "FOREIGN KEY (run_id) REFERENCES runs ON DELETE NO ACTION",
    },
    "001": set(),
    "002": {"FOREIGN KEY (agent_session_id) REFERENCES agent_sessions ON DELETE CASCADE"},
    "003": {
        "FOREIGN KEY (user_id) REFERENCES users ON DELETE CASCADE",
        "idx_jobs_type (type)",
        "conversations: kept for ever",
        "audio files: deleted after 24 hours",  # to come: voices
    },
    "004": {
        "FOREIGN KEY (tenant_id) REFERENCES tenants ON DELETE CASCADE",
        "FOREIGN KEY (user_id) REFERENCES users ON DELETE SET NULL",
    },
}


def counted(design: dict[str, Any]) -> tuple[int, ...]:
    found = sizes(design)
    return tuple(found[kind] for kind in COUNTED)


def found(design: dict[str, Any], database: Database) -> list[str]:
    return list(faults(design, Catalogue(database)))


def test_every_design_has_its_map() -> None:
    assert {design: counted(load(design)) for design in designs()} == SIZES


def test_what_has_no_place_is_known() -> None:
    assert {design: nowhere(load(design)) for design in designs()} == NOWHERE


@pytest.mark.parametrize("design", designs())
def test_a_design_has_its_place(database: Database, design: str) -> None:
    assert found(load(design), database) == []


def test_a_table_that_leaves_a_map_and_a_column_that_leaves_the_database_are_missed(database: Database) -> None:
    design = copy.deepcopy(load("000"))
    database.rows("ALTER TABLE tools.tools DROP COLUMN category CASCADE")
    assert "tools: category: there is no column category" in found(design, database)
    del design["tables"]["tools"]
    assert counted(design) != SIZES["000"]


@pytest.mark.parametrize(
    ("column", "told"),
    [
        ("integer PRIMARY KEY", "is uuid, not integer, its default is ops.uuid_v7(), and no reason is given"),
        ({"was": "uuid PRIMARY KEY DEFAULT gen_random_uuid()", "why": "x"}, "a reason is given, and nothing differs"),
        ({"was": "uuid PRIMARY KEY", "is": "identity.users.key", "why": "x"}, "there is no identity.users.key"),
        ({"was": "uuid, whatever", "why": "x"}, "cannot read 'uuid, whatever'"),
    ],
)
def test_what_a_map_gets_wrong_is_said(database: Database, column: Any, told: str) -> None:
    design = {"tables": {"users": {"is": "identity.users", "columns": {"id": column}}}}
    assert found(design, database) == [f"users: id: {told}"]


def asked(table: str, kind: str, was: str, at: Any) -> dict[str, Any]:
    """A map that says one thing of a table, beside tables that it may point to."""
    tables = {"users": "identity.users", "tenants": "identity.tenants", "personas": "assistants.personas"}
    return {"tables": {name: {"is": at} for name, at in tables.items()} | {"it": {"is": table, kind: {was: at}}}}


@pytest.mark.parametrize(
    ("table", "was", "at", "told"),
    [
        (
            "assistants.agents",
            "CHECK (temperature BETWEEN 0.0 AND 1.0)",
            "agents_temperature_check",
            "does not hold temperature <= 1, holds besides temperature <= 2",
        ),
        (
            "assistants.agents",
            "CHECK (max_tokens >= 0)",
            "agents_max_tokens_check",
            "does not hold max_tokens >= 0, holds besides max_tokens > 0",
        ),
        (
            "people.feedback",
            "CHECK (rating >= 1)",
            "feedback_rating_check",
            "holds besides rating <= 5",
        ),
        (
            "identity.users",
            "CHECK (role IN ('admin', 'king'))",
            "users_role_check",
            "does not name 'king', names 'user', 'viewer' besides",
        ),
        (
            "identity.users",
            "CHECK (email ~ '@')",
            "users_email_check",
            "does not hold email ~ '@', holds besides email ~* '^[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\\.[A-Za-z]{2,}$'",
        ),
        (
            "queue.tasks_live",
            "CHECK (status IN ('pending', 'in_progress'))",
            {"is": ["queue.tasks_live", "queue.tasks_history"]},
            "names 'cancelled', 'done', 'failed' besides",
        ),
        ("queue.tasks_live", "CHECK (progress <= 1)", "queue.share", "holds besides progress >= 0"),
        (
            "identity.users",
            "UNIQUE (email)",
            "users_email_key",
            "users_email_key holds rows WHERE (deleted_at IS NULL)",
        ),
        (
            "people.mapper_configs",
            "UNIQUE (config_id) WHERE status = 'draft'",
            "mapper_configs_active_key",
            "mapper_configs_active_key holds rows WHERE (status = 'active'::text)",
        ),
        (
            "vault.secrets",
            "UNIQUE (persona_id, secret_type, key_name)",
            "secrets_key_name_key",
            "secrets_key_name_key takes NULL once",
        ),
        ("identity.sessions", "UNIQUE (user_id)", "sessions_user_id_idx", "sessions_user_id_idx is not unique"),
        ("identity.api_keys", "UNIQUE (name)", "api_keys_key_hash_key", "api_keys_key_hash_key is over key_hash"),
        (
            "identity.sessions",
            "FOREIGN KEY (user_id) REFERENCES personas",
            "sessions_user_id_tenant_id_fkey",
            "sessions_user_id_tenant_id_fkey points to identity.users (id, tenant_id)",
        ),
        (
            "identity.sessions",
            "FOREIGN KEY (id) REFERENCES users",
            "sessions_user_id_tenant_id_fkey",
            "sessions_user_id_tenant_id_fkey is over user_id, tenant_id",
        ),
        (
            "identity.sessions",
            "FOREIGN KEY (user_id) REFERENCES users ON DELETE SET NULL",
            "sessions_user_id_tenant_id_fkey",
            "sessions_user_id_tenant_id_fkey does CASCADE at a deletion",
        ),
        (
            "identity.users",
            "FOREIGN KEY (role) REFERENCES users",
            "users_role_check",
            "users_role_check is no foreign key",
        ),
    ],
)
def test_a_rule_that_is_another_one_is_said(database: Database, table: str, was: str, at: Any, told: str) -> None:
    assert found(asked(table, "rules", was, at), database) == [f"it: {was}: {told}, and no reason is given"]


@pytest.mark.parametrize(
    ("table", "was", "at", "told"),
    [
        ("assistants.agents", "i (status)", "agents_active_idx", "holds rows WHERE (deleted_at IS NULL)"),
        (
            "assistants.agents",
            "i (status) WHERE deleted_at IS NOT NULL",
            "agents_active_idx",
            "holds rows WHERE (deleted_at IS NULL)",
        ),
        ("assistants.agents", "i (status) WHERE deleted_at IS NULL", "agents_status_idx", "holds all rows"),
        ("assistants.agents", "i (name)", "agents_status_idx", "is over tenant_id, status"),
    ],
)
def test_an_index_that_is_another_one_is_said(database: Database, table: str, was: str, at: str, told: str) -> None:
    assert found(asked(table, "indexes", was, at), database) == [f"it: {was}: {at} {told}, and no reason is given"]


@pytest.mark.parametrize(
    ("design", "statement", "told"),
    [
        (
            "004",
            "ALTER TABLE assistants.agents DROP CONSTRAINT agents_temperature_check,"
            " ADD CONSTRAINT agents_temperature_check CHECK (temperature BETWEEN 0 AND 3)",
            "agents: CHECK (temperature BETWEEN 0.0 AND 2.0): does not hold temperature <= 2, holds besides"
            " temperature <= 3",
        ),
        (
            "001",
            "ALTER TABLE people.feedback DROP CONSTRAINT feedback_rating_check,"
            " ADD CONSTRAINT feedback_rating_check CHECK (rating BETWEEN 0 AND 5)",
            "feedback: CHECK (rating >= 1 AND rating <= 5): does not hold rating >= 1, holds besides rating >= 0",
        ),
        (
            "000",
            "ALTER TABLE assistants.runs DROP CONSTRAINT runs_status_check,"
            " ADD CONSTRAINT runs_status_check CHECK (status IN ('pending', 'running', 'completed', 'failed', 'lost'))",
            "runs: CHECK (status IN ('pending', 'running', 'completed', 'failed', 'cancelled')): does not name"
            " 'cancelled', names 'lost' besides",
        ),
        (
            "003",
            "DROP INDEX assistants.conversations_active_idx;"
            "CREATE INDEX conversations_active_idx ON assistants.conversations (persona_id) WHERE ended_at IS NOT NULL",
            "conversations: idx_conversations_active (persona_id) WHERE ended_at IS NULL: conversations_active_idx"
            " holds rows WHERE (ended_at IS NOT NULL)",
        ),
        (
            "001",
            "DROP INDEX people.mapper_configs_active_key;"
            "CREATE UNIQUE INDEX mapper_configs_active_key ON people.mapper_configs (tenant_id, config_id)"
            " WHERE status = 'draft'",
            "mapper_configs: UNIQUE (config_id) WHERE status = 'active': mapper_configs_active_key holds rows WHERE"
            " (status = 'draft'::text)",
        ),
        (
            "003",
            "ALTER TABLE assistants.voice_personas DROP CONSTRAINT voice_personas_user_id_tenant_id_fkey,"
            " ADD CONSTRAINT voice_personas_user_id_tenant_id_fkey FOREIGN KEY (user_id, tenant_id)"
            " REFERENCES identity.users (id, tenant_id)",
            "personas: FOREIGN KEY (user_id) REFERENCES users ON DELETE CASCADE: voice_personas_user_id_tenant_id_fkey"
            " does NO ACTION at a deletion",
        ),
        (
            "000",
            "ALTER TABLE tools.persona_tools DROP CONSTRAINT persona_tools_persona_id_tenant_id_fkey,"
            " ADD CONSTRAINT persona_tools_persona_id_tenant_id_fkey FOREIGN KEY (persona_id, tenant_id)"
            " REFERENCES assistants.voice_personas (id, tenant_id) ON DELETE CASCADE",
            "persona_tools: FOREIGN KEY (persona_id) REFERENCES personas ON DELETE CASCADE:"
            " persona_tools_persona_id_tenant_id_fkey points to assistants.voice_personas (id, tenant_id)",
        ),
        (
            "003",
            "ALTER TABLE assistants.conversations DROP CONSTRAINT conversations_client_id_tenant_id_fkey,"
            " ADD CONSTRAINT conversations_client_id_tenant_id_fkey FOREIGN KEY (client_id, tenant_id)"
            " REFERENCES assistants.clients (id, tenant_id) ON DELETE SET NULL",
            "conversations: FOREIGN KEY (client_id) REFERENCES clients ON DELETE SET NULL:"
            " conversations_client_id_tenant_id_fkey does SET NULL at a deletion",
        ),
    ],
)
def test_a_rule_that_is_changed_in_the_database_is_missed(
    database: Database, design: str, statement: str, told: str
) -> None:
    database.rows(statement)
    assert f"{told}, and no reason is given" in found(load(design), database)


@pytest.mark.parametrize(
    ("design", "statement", "told"),
    [
        (
            "000",
            "DROP INDEX identity.users_email_key;"
            "CREATE UNIQUE INDEX users_email_key ON identity.users (tenant_id, email) WHERE status = 'active'",
            "users: UNIQUE (email): users_email_key holds rows WHERE (status = 'active'::text), and its map says:"
            " users_email_key holds rows WHERE (deleted_at IS NULL)",
        ),
        (
            "004",
            "ALTER TABLE knowledge.collections DROP CONSTRAINT collections_chunk_size_check,"
            " ADD CONSTRAINT collections_chunk_size_check CHECK (chunk_size BETWEEN 1 AND 8192)",
            "collections: CHECK (chunk_size > 0): does not hold chunk_size > 0, holds besides chunk_size <= 8192, holds"
            " besides chunk_size >= 1, and its map says: does not hold chunk_size > 0, holds besides chunk_size <="
            " 8192, holds besides chunk_size >= 16",
        ),
        (
            "000",
            "ALTER TABLE tools.tools DROP CONSTRAINT tools_created_by_tenant_id_fkey,"
            " ADD CONSTRAINT tools_created_by_tenant_id_fkey FOREIGN KEY (created_by, tenant_id)"
            " REFERENCES identity.users (id, tenant_id) ON DELETE CASCADE",
            "tools: FOREIGN KEY (created_by) REFERENCES users ON DELETE NO ACTION: tools_created_by_tenant_id_fkey does"
            " CASCADE at a deletion, and its map says: tools_created_by_tenant_id_fkey does SET NULL (created_by) at a"
            " deletion",
        ),
        (
            "004",
            "DROP INDEX tools.tool_executions_started_at_idx;"
            "CREATE INDEX tool_executions_started_at_idx ON tools.tool_executions (started_at)",
            "tool_executions: idx_tool_executions_tenant_id (tenant_id): tool_executions_started_at_idx is over"
            " started_at, and its map says: tool_executions_started_at_idx is over tenant_id, started_at",
        ),
    ],
)
def test_a_difference_is_the_one_that_its_map_gives_a_reason_for(
    database: Database, design: str, statement: str, told: str
) -> None:
    database.rows(statement)
    assert told in found(load(design), database)


@pytest.mark.parametrize(
    ("kind", "was", "at", "told"),
    [
        ("rules", "CHECK (no such column > 0)", "users_role_check", "cannot read 'no such column > 0'"),
        ("rules", "email is an address", "users_email_check", "cannot read 'email is an address'"),
        ("rules", "CHECK (role <> '')", "identity.users_role_check", "there is no rule identity.users_role_check"),
        ("rules", "FOREIGN KEY (tenant_id) REFERENCES towns", "users_tenant_id_fkey", "no table towns is in the map"),
        ("rules", "UNIQUE (email)", {"why": "x"}, "there is no test named"),
        (
            "rules",
            "UNIQUE (email)",
            {"why": "x", "test": "tests/no.py::test_it"},
            "there is no test tests/no.py::test_it",
        ),
        ("indexes", "i (role) WHERE of a king", "users_role_idx", "cannot read 'of a king'"),
        ("indexes", "i (role)", {"why": "x"}, "there is no test named"),
        ("columns", "shoe_size", {"was": "integer", "is": "-", "why": "x"}, "there is no test named"),
    ],
)
def test_what_no_reason_excuses_is_said(database: Database, kind: str, was: str, at: Any, told: str) -> None:
    assert found(asked("identity.users", kind, was, at), database) == [f"it: {was}: {told}"]


def test_rules_indexes_and_objects_that_are_not_there_are_said(database: Database) -> None:
    table = {
        "is": "identity.users",
        "rules": {
            "UNIQUE (email)": "users_nothing_key",
            "CHECK (role IN ('admin', 'king'))": "users_role_check",
        },
        "indexes": {"idx_role (role)": "users_role_idx", "idx_name (name)": "users_role_idx", "odd": "users_role_idx"},
    }
    views = {"users_view": {"is": "identity.users_view", "test": "tests/integration/test_coverage.py::test_nothing"}}
    places = ["db.nothing", "db/sql/nothing.sql", "GREENROOM_NOTHING", "greenroom nothing", "nothing.rotate", "nothing"]
    query = {"is": places, "test": "tests/integration/test_coverage.py::test_every_design_has_its_map"}
    said = found({"tables": {"users": table}, "views": views, "queries": {"q": query}}, database)
    assert said == [
        "users: UNIQUE (email): there is no rule users_nothing_key",
        "users: CHECK (role IN ('admin', 'king')): does not name 'king', names 'user', 'viewer' besides,"
        " and no reason is given",
        "users: idx_name (name): users_role_idx is over tenant_id, role, and no reason is given",
        "users: odd: cannot read 'odd'",
        "views: users_view: there is no identity.users_view",
        "views: users_view: there is no test tests/integration/test_coverage.py::test_nothing",
        *(f"queries: q: there is no {place}" for place in places),
    ]
