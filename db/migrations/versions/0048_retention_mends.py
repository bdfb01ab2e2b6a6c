"""Retention loses no equal row, heeds holds at any depth, and knows its own stores (pre-deploy)."""

from db.migrations.script import run_sql

revision = "0048"
down_revision = "0047"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Count equal rows, lock what goes along, name the installation, and drop what only tests called."""
    run_sql("0048_retention_mends.up.sql")


def downgrade() -> None:
    """Restore the functions of before; nothing that was archived changes."""
    run_sql("0048_retention_mends.down.sql")
