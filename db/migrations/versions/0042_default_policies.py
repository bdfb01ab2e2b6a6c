"""Default policies of retention; task types may say how long their tasks may be pending (pre-deploy)."""

from db.migrations.script import run_sql

revision = "0042"
down_revision = "0041"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the policies, the indexes that they go by, and the column of task types."""
    run_sql("0042_default_policies.up.sql")


def downgrade() -> None:
    """Take them away; a policy that an operator wrote or renamed stays."""
    run_sql("0042_default_policies.down.sql")
