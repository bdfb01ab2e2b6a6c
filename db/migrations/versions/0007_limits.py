"""Limits of concurrency and rate, by queue, task type, tenant and key (pre-deploy: stop the processes before it)."""

from db.migrations.script import run_sql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add limits and the keys of tasks, by which the claim goes too; a pause may end by itself."""
    run_sql("0007_limits.up.sql")


def downgrade() -> None:
    """Drop limits, and with them the keys of all tasks."""
    run_sql("0007_limits.down.sql")
