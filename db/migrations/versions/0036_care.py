"""The system role looks after tables and indexes; a month that lacks is an alert (pre-deploy)."""

from db.migrations.script import run_sql

revision = "0036"
down_revision = "0035"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Let the system role vacuum, analyse and rebuild; raise an alert of a month that lacks."""
    run_sql("0036_care.up.sql")


def downgrade() -> None:
    """Take the system role's rights back; the alerts of months go."""
    run_sql("0036_care.down.sql")
