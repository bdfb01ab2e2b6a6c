"""The models and the migrated database say the same: every table, column, key, index, check and comment."""

import pytest

from db.models import Base
from tests.support.database import Clones, Database
from tests.support.models import differences_of_models

TABLES = """
SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
    AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'public')
"""
WITHOUT_COMMENT = """
SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND obj_description(c.oid, 'pg_class') IS NULL
    AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'public')
"""


def names(database: Database, query: str) -> set[str]:
    return {str(name) for (name,) in database.rows(query)}


def test_the_models_are_the_database(database: Database) -> None:
    assert differences_of_models(database.owner_url) == []


def test_every_table_has_its_model_and_every_model_its_table(database: Database) -> None:
    assert {f"{table.schema}.{table.name}" for table in Base.metadata.tables.values()} == names(database, TABLES)


def test_every_table_says_what_a_row_is(database: Database) -> None:
    assert names(database, WITHOUT_COMMENT) == set()


CHANGES = [
    ("ALTER TABLE identity.tenants DROP COLUMN contact_name", "add column: identity tenants contact_name"),
    ("ALTER TABLE identity.users ADD COLUMN shoe integer", "remove column: identity users shoe"),
    ("DROP INDEX identity.users_role_idx", "add index: users_role_idx"),
    (
        "ALTER TABLE identity.users DROP CONSTRAINT users_role_check",
        "the check identity.users.users_role_check is missing",
    ),
    (
        "ALTER TABLE identity.users ADD CONSTRAINT tall CHECK (true)",
        "the check identity.users.tall is in the database alone",
    ),
]
"""A statement, and what is told of it."""


@pytest.fixture(scope="module")
def told_of_all(clones: Clones) -> list[str]:
    """What is told of a database with all of these changes: to compare takes seconds."""
    with clones.one() as database:
        for statement, _ in CHANGES:
            database.rows(statement)
        return differences_of_models(database.owner_url)


@pytest.mark.parametrize("told", [told for _, told in CHANGES])
def test_what_the_models_do_not_say_is_told(told_of_all: list[str], told: str) -> None:
    assert told in told_of_all
