"""Mail out: a queued mail is completed and has its task, whoever writes it (pre-deploy)."""

from db.migrations.script import run_sql

revision = "0046"
down_revision = "0045"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the recipients that a server refused; complete and enqueue what is queued; count what nobody knows."""
    run_sql("0046_mail_out.up.sql")


def downgrade() -> None:
    """Take them back; what was refused is forgotten."""
    run_sql("0046_mail_out.down.sql")
