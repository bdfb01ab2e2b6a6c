"""Runs of retention policies, page by page, and the plan of what they would take (pre-deploy)."""

from db.migrations.script import run_sql

revision = "0038"
down_revision = "0037"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Let runs be planned, begun, asked for, and worked off page by page."""
    run_sql("0038_retention_engine.up.sql")


def downgrade() -> None:
    """Take the functions away; what went along with a run's rows is forgotten."""
    run_sql("0038_retention_engine.down.sql")
