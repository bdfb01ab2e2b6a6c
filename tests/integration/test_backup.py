"""A backup by the owner, under row security that is forced: all tenants' rows, and what restores is the same."""

import subprocess
from pathlib import Path

import pytest
from psycopg import sql

from db.connection import connect
from db.drift import differences
from db.embedded import EmbeddedServer, binary
from db.seed import seed
from tests.support.database import Database, cloned
from tests.support.tenants import new_tenant

TABLES = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname NOT IN ('pg_catalog', 'information_schema')
"""


def counts(database: Database) -> dict[str, int]:
    """Return how many rows each table has, as the owner sees them."""
    count = sql.SQL("SELECT count(*) FROM {}")
    tables = [sql.Identifier(*names) for names in database.rows(TABLES)]
    return {table.as_string(): database.value(count.format(table).as_string()) for table in tables}


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([binary(program), *arguments], capture_output=True, text=True, check=False)


@pytest.fixture
def filled(database: Database) -> Database:
    """Development data, and rows of a tenant besides."""
    with connect(database.owner_url, name="test") as owner:
        seed(owner, None)
    with new_tenant(database) as theirs:
        for table in ("assistants.messages", "vault.secrets", "knowledge.documents", "governance.governance_events"):
            theirs.row(table)
    database.rows("INSERT INTO queue.outbox_tasks (task_type, payload) VALUES ('unknown', '{}')")
    return database


def test_a_backup_by_the_owner_restores_all_tenants_rows(
    filled: Database, server_without_fsync: EmbeddedServer, tmp_path: Path
) -> None:
    archive = str(tmp_path / "backup")
    dumped = run("pg_dump", "--enable-row-security", "--format=custom", f"--file={archive}", filled.owner_url)
    assert dumped.returncode == 0, dumped.stderr
    before = counts(filled)
    assert len([count for count in before.values() if count]) > 20
    # By a superuser: the extension is of one, and so are its settings that functions have.
    with cloned(server_without_fsync, "template0") as empty:
        restored = run("pg_restore", "--exit-on-error", f"--dbname={empty.superuser_url}", archive)
        assert restored.returncode == 0, restored.stderr
        assert counts(empty) == before
        assert differences(empty.owner_url) == []
