"""Requests to cancel what runs, and the logs of attempts (pre-deploy: programs of the version before know neither)."""

from db.migrations.script import run_sql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns that say so."""
    run_sql("0005_steering.up.sql")


def downgrade() -> None:
    """Drop them with what they hold."""
    run_sql("0005_steering.down.sql")
