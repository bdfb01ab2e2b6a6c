"""The data model: the audit's log of changed rows, by trigger (pre-deploy)."""

from db.migrations.script import run_sql

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Note what changes in users, keys, personas, secrets, policies and sessions of agents."""
    run_sql("0024_audit.up.sql")


def downgrade() -> None:
    """Note nothing, and forget what was noted."""
    run_sql("0024_audit.down.sql")
