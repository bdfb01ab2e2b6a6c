"""The data model: each cached count and time has one owner, and none of them is a change of its row (pre-deploy)."""

from db.migrations.script import run_sql

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Count whatever a login may see, from nothing on; note when users and their keys were last heard of."""
    run_sql("0027_counters.up.sql")


def downgrade() -> None:
    """Count what a login may see; leave users' times to whoever writes them."""
    run_sql("0027_counters.down.sql")
