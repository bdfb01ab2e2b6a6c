"""Watchers of mailboxes are processes that say that they live (pre-deploy)."""

from db.migrations.script import run_sql

revision = "0049"
down_revision = "0048"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Let the system role beat, and a process be a watcher."""
    run_sql("0049_watchers.up.sql")


def downgrade() -> None:
    """Forget watchers."""
    run_sql("0049_watchers.down.sql")
