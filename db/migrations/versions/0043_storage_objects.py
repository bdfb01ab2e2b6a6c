"""Rows that go say which stored files they named (pre-deploy)."""

from db.migrations.script import run_sql

revision = "0043"
down_revision = "0042"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Note the files of rows that go; find files that no row names, and rows whose file is missing."""
    run_sql("0043_storage_objects.up.sql")


def downgrade() -> None:
    """Note nothing; files that wait for their removal stay."""
    run_sql("0043_storage_objects.down.sql")
