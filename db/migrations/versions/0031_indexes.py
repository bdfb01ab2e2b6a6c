"""What queries lacked: indexes, retention that goes by them, tokens by user of large tenants (pre-deploy)."""

from db.migrations.script import run_sql

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the indexes; let retention and the view of tokens go by indexes."""
    run_sql("0031_indexes.up.sql")


def downgrade() -> None:
    """Drop the indexes; let both read what they read before."""
    run_sql("0031_indexes.down.sql")
