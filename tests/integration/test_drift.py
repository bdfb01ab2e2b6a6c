"""db/catalogue.txt is what the migrations make, and each kind of change by hand is told in a sentence.

`python -m tests.integration.test_drift` writes the file anew from a database that it migrates.
"""

from pathlib import Path

import pytest

import db
from core.errors import SchemaError
from db import spaces
from db.drift import CATALOGUE, Object, catalogue_text, compared, differences
from db.migrate import downgrade
from tests.support.database import Database, cloned, fast_server, migrate_template

FILE = Path(db.__file__).with_name(CATALOGUE)


def test_the_packaged_catalogue_is_what_the_migrations_make(database: Database) -> None:
    assert catalogue_text(database.connect()) == FILE.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        (
            "ALTER TABLE vault.secrets DISABLE ROW LEVEL SECURITY",
            "row security of vault.secrets is off, not on and forced",
        ),
        (
            "ALTER TABLE vault.secrets NO FORCE ROW LEVEL SECURITY",
            "row security of vault.secrets is on, not on and forced",
        ),
        ("DROP POLICY tenant_binds ON identity.users", "policy tenant_binds is missing on identity.users"),
        (
            "CREATE POLICY mine ON vault.secrets FOR SELECT TO PUBLIC USING (true)",
            "policy mine on vault.secrets is in the database alone: permissive for select to PUBLIC using true",
        ),
        (
            "ALTER POLICY owner_passes ON vault.secrets TO PUBLIC",
            "policy owner_passes on vault.secrets is permissive to PUBLIC using true with check true,"
            " not permissive to the owner using true with check true",
        ),
        (
            "ALTER POLICY owner_passes ON vault.secrets USING (false)",
            "policy owner_passes on vault.secrets is permissive to the owner using false with check true,"
            " not permissive to the owner using true with check true",
        ),
        ("DROP TRIGGER log_change ON vault.secrets", "trigger log_change is missing on vault.secrets"),
        (
            "ALTER TABLE audit.audit_log DISABLE TRIGGER refuse_change",
            "trigger refuse_change on audit.audit_log is disabled, not enabled",
        ),
        (
            "DROP TRIGGER check_approval ON governance.agent_sessions",
            "trigger check_approval is missing on governance.agent_sessions",
        ),
        (
            "CREATE TRIGGER mine BEFORE UPDATE ON vault.secrets FOR EACH ROW EXECUTE FUNCTION ops.touch_updated_at()",
            "trigger mine on vault.secrets is in the database alone",
        ),
        (
            "GRANT SELECT ON vault.secrets TO PUBLIC",
            "grant to PUBLIC on vault.secrets is in the database alone: SELECT",
        ),
        (
            "GRANT TRUNCATE ON vault.secrets TO greenroom_worker",
            "grant to greenroom_worker on vault.secrets is DELETE, INSERT, SELECT, TRUNCATE, UPDATE,"
            " not DELETE, INSERT, SELECT, UPDATE",
        ),
        (
            "REVOKE SELECT ON assistants.agents FROM greenroom_reader",
            "grant to greenroom_reader is missing on assistants.agents",
        ),
        (
            "GRANT SELECT (encrypted_value) ON vault.secrets TO greenroom_relay",
            "grant to greenroom_relay on column vault.secrets.encrypted_value is in the database alone: SELECT",
        ),
        ("GRANT CREATE ON SCHEMA vault TO PUBLIC", "grant to PUBLIC on schema vault is in the database alone: CREATE"),
        (
            "GRANT EXECUTE ON FUNCTION ops.create_months TO PUBLIC",
            "grant to PUBLIC on ops.create_months() is in the database alone: EXECUTE",
        ),
        (
            "CREATE OR REPLACE FUNCTION identity.current_tenant_id() RETURNS uuid LANGUAGE sql STABLE"
            " AS $$ SELECT NULL::uuid $$",
            "function identity.current_tenant_id() is not what this program made",
        ),
        (
            "ALTER FUNCTION ops.create_months() RESET search_path",
            "function ops.create_months() is not what this program made",
        ),
        (
            "CREATE FUNCTION vault.mine() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
            "function vault.mine() is in the database alone",
        ),
        (
            "ALTER VIEW ops.connections SET (security_invoker = false)",
            "view ops.connections is not what this program made",
        ),
        (
            "CREATE OR REPLACE VIEW ops.connections WITH (security_invoker = true) AS"
            " SELECT datname, 1::bigint AS count FROM pg_stat_activity",
            "view ops.connections is not what this program made",
        ),
        ("DROP VIEW ops.unused_indexes", "view ops.unused_indexes is missing"),
        (
            "ALTER TABLE identity.users DROP CONSTRAINT users_role_check",
            "constraint users_role_check is missing on identity.users",
        ),
        (
            "ALTER TABLE people.feedback DROP CONSTRAINT feedback_rating_check,"
            " ADD CONSTRAINT feedback_rating_check CHECK (rating > -100)",
            "constraint feedback_rating_check on people.feedback is CHECK ((rating > '-100'::integer)),"
            " not CHECK (((rating >= 1) AND (rating <= 5)))",
        ),
        (
            "ALTER TABLE identity.users ADD CONSTRAINT tall CHECK (true)",
            "constraint tall on identity.users is in the database alone",
        ),
        ("DROP INDEX identity.users_role_idx", "index users_role_idx is missing on identity.users"),
        (
            "ALTER TABLE mail.mailboxes DROP COLUMN attachments_to_documents",
            "column attachments_to_documents is missing on mail.mailboxes",
        ),
        (
            "ALTER TABLE identity.users ADD COLUMN shoe integer",
            "column shoe on identity.users is in the database alone",
        ),
        (
            "ALTER TABLE identity.users ALTER COLUMN last_active_at DROP NOT NULL",
            "column last_active_at on identity.users is timestamp with time zone default now(),"
            " not timestamp with time zone not null default now()",
        ),
        ("CREATE TABLE vault.mine (id integer)", "table vault.mine is in the database alone"),
    ],
)
def test_what_somebody_changed_by_hand_is_told(database: Database, statement: str, told: str) -> None:
    database.rows(statement)
    assert differences(database.owner_url) == [told]


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("ALTER TABLE {} DISABLE ROW LEVEL SECURITY", "row security of partition {} is off, not on and forced"),
        ("ALTER TABLE {} NO FORCE ROW LEVEL SECURITY", "row security of partition {} is on, not on and forced"),
        ("GRANT SELECT ON {} TO PUBLIC", "grant to PUBLIC on partition {} is in the database alone: SELECT"),
        ("CREATE POLICY mine ON {} USING (true)", "policy mine on partition {} is in the database alone"),
        ("ALTER POLICY owner_passes ON {} TO PUBLIC", "policy owner_passes on partition {} is in the database alone"),
        ("ALTER TABLE {} DISABLE TRIGGER refuse_change", "trigger refuse_change on partition {} is disabled"),
    ],
)
def test_a_month_that_breaks_a_rule_is_told(database: Database, statement: str, told: str) -> None:
    months = "SELECT min(inhrelid::regclass::text) FROM pg_inherits WHERE inhparent = 'audit.audit_log'::regclass"
    month = database.value(months)
    database.rows(statement.format(month))
    assert differences(database.owner_url) == [told.format(month)]


def test_a_space_is_no_difference_and_goes_by_the_rules_of_months(database: Database) -> None:
    spaces.create_space(database.connect(), model="m", revision="1", dimensions=8, max_tokens=100)
    assert differences(database.owner_url) == []
    leaf = database.value(
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'knowledge.chunk_vectors'::regclass"
    )
    database.rows(f"GRANT SELECT ON {leaf} TO PUBLIC")
    assert differences(database.owner_url) == [
        f"grant to PUBLIC on partition {leaf} is in the database alone: SELECT",
    ]


def test_that_the_system_role_looks_after_tables_is_no_difference(database: Database) -> None:
    """Granted when it first does; before PostgreSQL 17 there is nothing to grant."""
    database.rows("SELECT ops.allow_maintenance()")
    assert differences(database.owner_url) == []


def test_a_table_that_is_missing_is_told_once_with_who_refers_to_it(database: Database) -> None:
    database.rows("DROP TABLE people.feedback CASCADE")
    assert "table people.feedback is missing" in differences(database.owner_url)
    assert not [line for line in differences(database.owner_url) if " on people.feedback" in line]


def test_who_could_read_a_column_that_is_missing_is_not_told() -> None:
    column, grant = Object("column", "s.t", "c"), Object("grant", "column s.t.c", "greenroom_worker")
    assert compared({column: "text", grant: "SELECT"}, {}) == ["column c is missing on s.t"]
    assert compared({column: "text", grant: "SELECT"}, {column: "text"}) == [
        "grant to greenroom_worker is missing on column s.t.c",
    ]


def test_what_a_product_has_beside_is_not_looked_at(database: Database) -> None:
    database.rows("CREATE SCHEMA shop")
    database.rows("CREATE TABLE shop.orders (id integer PRIMARY KEY)")
    database.rows("CREATE TABLE public.things (id integer PRIMARY KEY)")
    database.rows("CREATE FUNCTION public.thing() RETURNS integer LANGUAGE sql AS 'SELECT 1'")
    assert differences(database.owner_url) == []


def test_a_login_of_a_product_s_own_may_call_what_it_was_granted_and_read_no_table(database: Database) -> None:
    """A role of the server's stands for the product's."""
    database.rows("GRANT USAGE ON SCHEMA identity TO pg_monitor")
    database.rows("GRANT EXECUTE ON FUNCTION identity.current_tenant_id TO pg_monitor")
    assert differences(database.owner_url) == []
    database.rows("GRANT SELECT ON vault.secrets TO pg_monitor")
    assert differences(database.owner_url) == ["grant to pg_monitor on vault.secrets is in the database alone: SELECT"]


def test_any_login_may_ask(database: Database) -> None:
    database.rows("DROP POLICY tenant_binds ON identity.users")
    assert differences(database.url("reader")) == differences(database.owner_url) != []


def test_a_schema_of_another_revision_is_told_as_such(database: Database) -> None:
    downgrade(database.owner_url, "0024")
    with pytest.raises(SchemaError, match="0024 is older than this program"):
        differences(database.owner_url)


if __name__ == "__main__":
    with fast_server() as server, cloned(server, migrate_template(server)) as migrated:
        FILE.write_text(catalogue_text(migrated.connect()), encoding="utf-8")
