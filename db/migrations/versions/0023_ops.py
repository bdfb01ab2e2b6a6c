"""The data model: health, retention, backups, the health check and views; comments of the queue (pre-deploy)."""

from db.migrations.script import run_sql

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make what takes care of the installation, and say in the database what the queue's tables are."""
    run_sql("0023_ops.up.sql")


def downgrade() -> None:
    """Measure, keep and back up nothing by rows."""
    run_sql("0023_ops.down.sql")
