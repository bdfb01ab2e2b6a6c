"""Fewer index entries a task, and a claim that goes by tenant (pre-deploy: stop the processes before it)."""

from db.migrations.script import run_sql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A claimed task keeps its mark while it runs, so that a take touches no index."""
    run_sql("0004_hot_path.up.sql")


def downgrade() -> None:
    """Go back to marks that a take moves."""
    run_sql("0004_hot_path.down.sql")
