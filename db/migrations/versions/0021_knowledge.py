"""The data model: what documents lack, catalogues and transcripts (pre-deploy)."""

from db.migrations.script import run_sql

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Say whose documents are and how many; keep catalogues and transcripts."""
    run_sql("0021_knowledge.up.sql")


def downgrade() -> None:
    """Know documents alone."""
    run_sql("0021_knowledge.down.sql")
