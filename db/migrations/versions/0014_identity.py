"""The data model, first part: users, sessions, keys, operators, regions (pre-deploy)."""

from db.migrations.script import run_sql

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make who there is, and what binds a table to its tenants and parts it by months."""
    run_sql("0014_identity.up.sql")


def downgrade() -> None:
    """Know tenants alone."""
    run_sql("0014_identity.down.sql")
