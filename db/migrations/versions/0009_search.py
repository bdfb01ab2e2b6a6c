"""Search by BM25 beside the vectors, with filters and languages (pre-deploy: stop processes)."""

from db.migrations.script import run_sql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Keep terms of chunks and their statistics, and search by them."""
    run_sql("0009_search.up.sql")


def downgrade() -> None:
    """Search by ts_rank, as before."""
    run_sql("0009_search.down.sql")
