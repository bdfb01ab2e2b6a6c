"""Archived rows come back as they were: triggers that alter, refuse or note are silent meanwhile (pre-deploy)."""

from db.migrations.script import run_sql

revision = "0040"
down_revision = "0039"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Let Greenroom restore rows of archives, and no trigger change them."""
    run_sql("0040_restore.up.sql")


def downgrade() -> None:
    """Take that back; what was restored stays."""
    run_sql("0040_restore.down.sql")
