"""`greenroom db`: fill a database for development, compare it with what is expected, take it back."""

import base64
import json
import os
from pathlib import Path

import pytest

from tests.support.command import Greenroom
from tests.support.database import Database

KEY = base64.urlsafe_b64encode(os.urandom(32)).decode()


@pytest.fixture
def owner(database: Database, tmp_path: Path) -> Greenroom:
    settings = {"GREENROOM_DATABASE_URL": database.owner_url, "GREENROOM_ENCRYPTION_KEYS": KEY}
    return Greenroom(tmp_path, settings)


def test_development_data_is_written_once_and_keys_are_shown_once(owner: Greenroom) -> None:
    first = owner.json("db", "seed", "--yes")
    assert sum(first["rows"].values()) == 35
    assert all(key.startswith("gr_") for key in first["api_keys"].values())
    assert len(first["api_keys"]) == 2
    second = owner.run("db", "seed", "--yes")
    assert "0 rows written" in second.stdout
    assert "API keys that were there are left as they are" in second.stderr


def test_a_server_of_ones_own_gets_known_passwords_only_where_that_is_meant(
    owner: Greenroom, database: Database
) -> None:
    refused = owner.run("db", "seed")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "repeat with --yes" in refused.stderr
    assert database.value("SELECT count(*) FROM identity.operators") == 0


def test_api_keys_that_are_left_out_are_told(database: Database, tmp_path: Path) -> None:
    done = Greenroom(tmp_path, {"GREENROOM_DATABASE_URL": database.owner_url}).run("db", "seed", "--yes")
    assert "33 rows written" in done.stdout
    assert "API keys are left out: GREENROOM_ENCRYPTION_KEYS" in done.stderr


def test_a_database_is_compared_with_what_the_program_expects(owner: Greenroom, database: Database) -> None:
    assert "the database is what this program expects" in owner.ok("db", "check")
    assert owner.json("db", "check") == {"differences": []}
    database.rows("DROP POLICY tenant_binds ON identity.users")
    told = "policy tenant_binds is missing on identity.users"
    plain, done = owner.run("db", "check"), owner.run("db", "check", "--json")
    assert (plain.returncode, plain.stdout) == (1, f"{told}\n")
    assert (done.returncode, json.loads(done.stdout)) == (1, {"differences": [told]})


def test_a_schema_goes_back_where_it_is_meant(owner: Greenroom, database: Database) -> None:
    refused = owner.run("db", "downgrade", "0013")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "repeat with --yes" in refused.stderr
    unknown = owner.run("db", "downgrade", "0100", "--yes")
    assert unknown.returncode == 1
    assert "there is no revision 0100 below" in unknown.stderr
    assert "the schema is at 0013" in owner.ok("db", "downgrade", "0013", "--yes")
    assert database.value("SELECT to_regclass('identity.users')") is None
    assert owner.run("db", "seed", "--yes").returncode == 1
    assert "the schema is at" in owner.ok("db", "migrate")
