"""Functions leave the planner one index to go by (pre-deploy: stop processes)."""

from db.migrations.script import run_sql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Find rows by arrays of ids."""
    run_sql("0010_one_index.up.sql")


def downgrade() -> None:
    """Find rows by joins, as before."""
    run_sql("0010_one_index.down.sql")
