"""The data model: individuals and the personas generated from what is known about them (pre-deploy)."""

from db.migrations.script import run_sql

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make what people's pipelines work on."""
    run_sql("0019_people.up.sql")


def downgrade() -> None:
    """Know nobody but users."""
    run_sql("0019_people.down.sql")
