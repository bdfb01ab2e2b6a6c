"""What a retention policy takes is said by one condition; policies that contradict are refused (pre-deploy)."""

from db.migrations.script import run_sql

revision = "0037"
down_revision = "0036"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Say what policies take, what holds and references keep, and when policies run."""
    run_sql("0037_policies.up.sql")


def downgrade() -> None:
    """Take the condition back; cadences, shares and what runs planned go."""
    run_sql("0037_policies.down.sql")
