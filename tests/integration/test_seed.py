"""Development data: it fits the schema, is written once, and a database that holds it goes up and down."""

import pytest

from core.credentials import hash_api_key, is_password
from core.errors import UnavailableError, UsageError
from db.connection import connect
from db.migrate import downgrade, migrate
from db.seed import seed
from db.seed.loading import id_of, keys
from tests.support.database import Database

PEPPER = b"for tests"


def test_every_row_is_written_and_a_second_run_changes_nothing(database: Database) -> None:
    with connect(database.owner_url, name="test") as owner:
        first, second = seed(owner, PEPPER), seed(owner, PEPPER)
    listed = list(keys())
    assert len(set(listed)) == len(listed) == sum(first.rows.values()) == 35
    assert sum(second.rows.values()) == 0
    assert (len(first.api_keys), len(second.api_keys)) == (2, 0)


def test_what_it_says_of_passwords_and_keys_fits_what_is_stored(database: Database) -> None:
    with connect(database.owner_url, name="test") as owner:
        made = seed(owner, PEPPER).api_keys
    stored = dict(database.rows("SELECT name, key_hash FROM identity.api_keys"))
    assert stored == {name: hash_api_key(key, PEPPER) for name, key in made.items()}
    for (password_hash,) in database.rows("SELECT password_hash FROM identity.operators"):
        assert is_password("greenroom development", password_hash)


def test_without_a_pepper_there_are_no_api_keys(database: Database) -> None:
    with connect(database.owner_url, name="test") as owner:
        assert seed(owner, None).api_keys == {}
        assert sum(seed(owner, PEPPER).rows.values()) == 2


def test_keys_that_were_there_are_told(database: Database) -> None:
    with connect(database.owner_url, name="test") as owner:
        first, second = seed(owner, PEPPER), seed(owner, b"another")
    assert first.kept_api_keys == ()
    assert sorted(second.kept_api_keys) == sorted(first.api_keys)


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        (
            "INSERT INTO identity.tenants (name, slug) VALUES ('Ours', 'studio-north')",
            r"identity\.tenants has a row of its own .* 'studio' would stand \(tenants_slug_key\): nothing is written",
        ),
        (
            "INSERT INTO identity.users (tenant_id, email)"
            " VALUES ('00000000-0000-7000-8000-000000000001', 'author@example.com')",
            r"identity\.users has a row of its own .* 'author' would stand \(users_email_key\): nothing is written",
        ),
    ],
)
def test_a_product_s_own_row_of_the_same_key_is_told_and_nothing_is_written(
    database: Database, statement: str, told: str
) -> None:
    database.rows(statement)
    with connect(database.owner_url, name="test") as owner, pytest.raises(UsageError, match=told):
        seed(owner, PEPPER)
    assert database.value("SELECT count(*) FROM identity.operators") == 0


def test_a_database_that_only_reads_is_told_as_such(database: Database) -> None:
    database.rows(f"ALTER DATABASE {database.name} SET default_transaction_read_only = on")
    with connect(database.owner_url, name="test") as owner, pytest.raises(UnavailableError, match="only reads"):
        seed(owner, PEPPER)


def test_what_refers_to_each_other_is_of_one_tenant_and_there(database: Database) -> None:
    with connect(database.owner_url, name="test") as owner:
        seed(owner, None)
    query = "SELECT t.name FROM tools.tool_dependencies d JOIN tools.tools t ON t.id = d.tool_id WHERE d.id = %s"
    assert database.value(query, (id_of("tools.tool_dependencies", "read after search"),)) == "read_document"
    active = "SELECT version FROM people.mapper_configs WHERE status = 'active'"
    assert database.rows(active) == [(2,)]


@pytest.mark.parametrize("revision", ["0013", "base"])
def test_a_filled_database_goes_down_and_up_again(database: Database, revision: str) -> None:
    with connect(database.owner_url, name="test") as owner:
        seed(owner, PEPPER)
    downgrade(database.owner_url, revision)
    migrate(database.owner_url)
    with connect(database.owner_url, name="test") as owner:
        assert sum(seed(owner, PEPPER).rows.values()) > 0
