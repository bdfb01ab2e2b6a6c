"""Indexes that queries lack: documents by stored file, page and name, alerts by their end (pre-deploy)."""

from db.migrations.script import run_sql

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the indexes."""
    run_sql("0031_indexes.up.sql")


def downgrade() -> None:
    """Drop the indexes."""
    run_sql("0031_indexes.down.sql")
