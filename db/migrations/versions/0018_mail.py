"""The data model: mailboxes, e-mails, attachments (pre-deploy)."""

from db.migrations.script import run_sql

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make mailboxes with their folders, e-mails and attachments."""
    run_sql("0018_mail.up.sql")


def downgrade() -> None:
    """Know no mail."""
    run_sql("0018_mail.down.sql")
