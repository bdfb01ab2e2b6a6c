"""The graph of an index over vectors is built more carefully (pre-deploy)."""

from db.migrations.script import run_sql

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Let a search reach what stands in the graph."""
    run_sql("0013_density.up.sql")


def downgrade() -> None:
    """Build as pgvector does by itself."""
    run_sql("0013_density.down.sql")
