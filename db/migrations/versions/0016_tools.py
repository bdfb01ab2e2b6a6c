"""The data model: tools, who may use them, MCP servers, logs of calls (pre-deploy)."""

from db.migrations.script import run_sql

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make tools, MCP servers and the logs of their calls; a run's steps name their tool."""
    run_sql("0016_tools.up.sql")


def downgrade() -> None:
    """Know no tools."""
    run_sql("0016_tools.down.sql")
