"""The data model: plans, quotas, usage, bills (pre-deploy)."""

from db.migrations.script import run_sql

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Say what tenants use and owe."""
    run_sql("0022_billing.up.sql")


def downgrade() -> None:
    """Bill nobody."""
    run_sql("0022_billing.down.sql")
