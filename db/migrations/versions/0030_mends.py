"""The data model: rules that were left open, tools by their words, servers in use, rows of users (pre-deploy)."""

from db.migrations.script import run_sql

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bind keys, sessions and conversations to users, keep servers that others use, find tools, hold further rules."""
    run_sql("0030_mends.up.sql")


def downgrade() -> None:
    """Leave open what was open before."""
    run_sql("0030_mends.down.sql")
