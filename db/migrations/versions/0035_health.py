"""Personas' health: where a persona runs, how far its measuring is, and its thresholds (pre-deploy)."""

from db.migrations.script import run_sql

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add host and process to personas, the state of measuring, thresholds, and the indexes that measuring reads by."""
    run_sql("0035_health.up.sql")


def downgrade() -> None:
    """Forget where personas run, how far their measuring is, and their thresholds; measures stay."""
    run_sql("0035_health.down.sql")
