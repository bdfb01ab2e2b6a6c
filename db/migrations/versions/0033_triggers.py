"""The data model: triggers keep counts by the statement; what poisons readers is refused (pre-deploy).

Adds CHECKs to nearly every table: each is locked against everybody and read through once, and stays locked to the end.
A row that breaks one stops the migration, which names the rule: mend it, and migrate again.
"""

from db.migrations.script import run_sql

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Keep counts and times by the statement, in one order of locks; take no NaN, no infinite time, no endless text."""
    run_sql("0033_triggers.up.sql")


def downgrade() -> None:
    """Keep counts and times row by row; take numbers and times as before."""
    run_sql("0033_triggers.down.sql")
