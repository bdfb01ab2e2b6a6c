"""What a bare INSERT leaves out, who may enqueue, what a worker knows (pre-deploy: stop the processes before it)."""

from db.migrations.script import run_sql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go from the first release's functions and columns to these."""
    run_sql("0002_foreign_tasks.up.sql")


def downgrade() -> None:
    """Go back to the first release's."""
    run_sql("0002_foreign_tasks.down.sql")
