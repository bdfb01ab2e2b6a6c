"""Months come and go one by one, beside the work; history goes by months (pre-deploy)."""

from db.migrations.script import run_sql

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make and drop a month a transaction, each under a short lock; tasks and attempts go by whole months."""
    run_sql("0029_partitions.up.sql")


def downgrade() -> None:
    """Make and drop all months together; ended tasks go by rows, attempts are kept."""
    run_sql("0029_partitions.down.sql")
