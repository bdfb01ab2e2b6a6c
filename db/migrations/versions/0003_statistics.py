"""Statistics by minute, and alerts (pre-deploy: programs of the version before know neither)."""

from db.migrations.script import run_sql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables that relays write, and the index that a minute's attempts are found by."""
    run_sql("0003_statistics.up.sql")


def downgrade() -> None:
    """Drop them with what they hold."""
    run_sql("0003_statistics.down.sql")
