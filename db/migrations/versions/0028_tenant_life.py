"""A tenant's life: whose keys open, what a deletion leaves, and its erasure (pre-deploy)."""

from db.migrations.script import run_sql

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Find keys and sessions of active tenants, erase deleted ones by task; refuse what would lose or revive one."""
    run_sql("0028_tenant_life.up.sql")


def downgrade() -> None:
    """Let a tenant's status be a word: nothing looks at it but the queue."""
    run_sql("0028_tenant_life.down.sql")
