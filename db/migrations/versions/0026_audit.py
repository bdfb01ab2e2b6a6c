"""The data model: deeds by months, and who writes them (pre-deploy)."""

from db.migrations.script import run_sql

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Part the deeds by months, only ever to be added to; note calls of tools, searches, mail and agents by trigger."""
    run_sql("0026_audit.up.sql")


def downgrade() -> None:
    """Keep the deeds in one table; note none but what the program notes itself."""
    run_sql("0026_audit.down.sql")
