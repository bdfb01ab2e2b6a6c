"""The data model: users keep to their own, erasure leaves no copy, approvals count once, labels stay (pre-deploy)."""

from db.migrations.script import run_sql

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bind what users refer to, erase without a copy, hold approvals, policies and the vault to stricter rules."""
    run_sql("0032_shield.up.sql")


def downgrade() -> None:
    """Leave open what was open before."""
    run_sql("0032_shield.down.sql")
