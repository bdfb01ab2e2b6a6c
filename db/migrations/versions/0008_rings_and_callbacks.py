"""Settlers are rung by what is to be settled; callbacks are their opener's to enqueue (pre-deploy: stop processes)."""

from db.migrations.script import run_sql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Let queue.settlements ring by itself, and check the types of callbacks."""
    run_sql("0008_rings_and_callbacks.up.sql")


def downgrade() -> None:
    """Let those who add to it ring, and check no scopes, as before."""
    run_sql("0008_rings_and_callbacks.down.sql")
