"""Memory: what curation has considered, what it made of which chunks, and what becomes of that (pre-deploy)."""

from db.migrations.script import run_sql

revision = "0047"
down_revision = "0046"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add memories with their sources, and the triggers that follow chunks and documents."""
    run_sql("0047_memory.up.sql")


def downgrade() -> None:
    """Take memories away with the chunks that they are; what they were made of stays."""
    run_sql("0047_memory.down.sql")
