"""The data model: vectors of further kinds, the clean-up, the revision in the audit (pre-deploy)."""

from db.migrations.script import run_sql

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Keep vectors of narratives, tools, products and transcripts; let go by policy; note changes of the revision."""
    run_sql("0025_vectors.up.sql")


def downgrade() -> None:
    """Keep vectors of chunks alone; let nothing go, note no revision."""
    run_sql("0025_vectors.down.sql")
