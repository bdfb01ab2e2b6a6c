"""The first release's schemas, tables, functions, row security and grants (pre-deploy)."""

from db.migrations.script import run_sql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create everything."""
    run_sql("0001_initial.up.sql")


def downgrade() -> None:
    """Drop everything."""
    run_sql("0001_initial.down.sql")
