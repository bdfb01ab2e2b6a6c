"""Retention loses nothing where workers, restores and policies meet (pre-deploy)."""

from db.migrations.script import run_sql

revision = "0044"
down_revision = "0043"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Tell attempts by all that is never NULL; let restores take turns; heed a policy that became another."""
    run_sql("0044_retention_safety.up.sql")


def downgrade() -> None:
    """Restore the functions of before; nothing that was archived changes."""
    run_sql("0044_retention_safety.down.sql")
