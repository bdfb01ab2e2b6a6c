"""Erasure reaches the archives: whoever is deleted is forgotten there, too (pre-deploy)."""

from db.migrations.script import run_sql

revision = "0041"
down_revision = "0040"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Say whose archived rows are, and enqueue the erasure of who is deleted."""
    run_sql("0041_forget.up.sql")


def downgrade() -> None:
    """Deletions leave archives as they are; what archives say of their rows stays."""
    run_sql("0041_forget.down.sql")
