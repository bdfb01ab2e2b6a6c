"""Mailboxes are polled: what was wrong with a mail, polls that failed, documents that are made of mail (pre-deploy)."""

from db.migrations.script import run_sql

revision = "0045"
down_revision = "0044"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns, the index that mail ages by, and its policy, which is off."""
    run_sql("0045_mail_in.up.sql")


def downgrade() -> None:
    """Take them away; a policy that an operator renamed stays."""
    run_sql("0045_mail_in.down.sql")
