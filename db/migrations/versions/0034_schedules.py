"""Recurring work: schedules and their fires, and the login of the processes that fire them (pre-deploy)."""

from db.migrations.script import run_sql

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Keep schedules and each of their fires; a scheduler reads and fires them, and knows no more."""
    run_sql("0034_schedules.up.sql")


def downgrade() -> None:
    """Know no schedules."""
    run_sql("0034_schedules.down.sql")
