"""Those who settle are rung by what is to be settled, and by nothing else (processes may go on meanwhile)."""

from db.migrations.script import run_sql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Let queue.settlements ring by itself."""
    run_sql("0008_settle_notice.up.sql")


def downgrade() -> None:
    """Let those who add to it ring, as before."""
    run_sql("0008_settle_notice.down.sql")
