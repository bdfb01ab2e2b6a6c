"""Enqueue at its INSERT's cost, keys that replace, tasks that wait for tasks, batches (pre-deploy: stop processes)."""

from db.migrations.script import run_sql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Move bounds into domains, redefine enqueue, add dependencies and batches. Rewrites the tasks' tables once."""
    run_sql("0006_dependencies.up.sql")


def downgrade() -> None:
    """Drop them with what they hold; a task that waited for others is held."""
    run_sql("0006_dependencies.down.sql")
