"""The data model: the vault, of encrypted secrets and providers' keys (pre-deploy)."""

from db.migrations.script import run_sql

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the vault."""
    run_sql("0017_vault.up.sql")


def downgrade() -> None:
    """Drop the vault, with what is in it."""
    run_sql("0017_vault.down.sql")
