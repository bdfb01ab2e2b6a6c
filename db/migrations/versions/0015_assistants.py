"""The data model, assistants: personas, agents, clients, conversations, runs, workflows (pre-deploy)."""

from db.migrations.script import run_sql

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make who answers, and what was said and done; give a persona's owner a foreign key."""
    run_sql("0015_assistants.up.sql")


def downgrade() -> None:
    """Know personas alone."""
    run_sql("0015_assistants.down.sql")
