"""Archives: aged rows in storage, verified before they are deleted, and whom they speak of (pre-deploy)."""

from db.migrations.script import run_sql

revision = "0039"
down_revision = "0038"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the archives' tables and the functions that gather, compare, delete and drop what they hold."""
    run_sql("0039_archives.up.sql")


def downgrade() -> None:
    """Drop them; the files stay in their storage."""
    run_sql("0039_archives.down.sql")
