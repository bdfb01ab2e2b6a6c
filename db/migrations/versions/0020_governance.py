"""The data model: agents' sessions, and what was decided about them (pre-deploy)."""

from db.migrations.script import run_sql

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Let no agent run without approval."""
    run_sql("0020_governance.up.sql")


def downgrade() -> None:
    """Govern no agents."""
    run_sql("0020_governance.down.sql")
