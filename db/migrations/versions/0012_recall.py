"""A search by vectors looks further, and counts nothing where nothing is filtered (pre-deploy)."""

from db.migrations.script import run_sql

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Let a search find what it should among a million chunks."""
    run_sql("0012_recall.up.sql")


def downgrade() -> None:
    """Search as before."""
    run_sql("0012_recall.down.sql")
