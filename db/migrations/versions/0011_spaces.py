"""Spaces side by side: filled, switched to and dropped while searches go on (pre-deploy: stop processes)."""

from db.migrations.script import run_sql

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Let a space have its index when it is filled, of the precision that was asked for."""
    run_sql("0011_spaces.up.sql")


def downgrade() -> None:
    """Make each space with its index, as before."""
    run_sql("0011_spaces.down.sql")
