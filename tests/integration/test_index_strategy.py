"""docs/indexes.md says of each index of the database what it serves.

`python -m tests.integration.test_index_strategy` writes it anew.
"""

import re
from collections import defaultdict
from pathlib import Path

from tests.integration.queue import test_dependency_plans, test_limit_plans, test_plans
from tests.integration.test_plans_of_all_statements import GUARDS
from tests.support.database import Database, cloned, fast_server, migrate_template
from tests.support.index_strategy import Strategy, page

PAGE = Path(__file__).resolve().parents[2] / "docs" / "indexes.md"
# Guards of the queue name an index by a part of its name, or of its name in a month.
_PARTS = {
    "_id_idx": ["tasks_history_id_idx"],
    "owner_i": ["tasks_live_owner_idx", "tasks_history_owner_idx"],
    "completed_at_idx1": ["tasks_history_failed_idx"],
}
# Made with their tables for what is to come: neither a rule, nor a query, nor a design asks for them.
IDLE = {
    "agent_interactions_correlation_id_idx",
    "archives_writing_idx",  # a trigger asks, with each deletion of somebody: ops.forget_deleted
    "audit_log_changed_by_changed_at_idx",
    "audit_log_correlation_id_idx",
    "backups_expires_at_idx",
    "backups_status_started_at_idx",
    "emails_content_hash_idx",
    "emails_message_id_idx",
    "emails_outgoing_idx",  # tests/integration/mail/out/test_plans.py holds statements to it
    "emails_persona_id_created_at_idx",
    "emails_persona_id_received_at_idx",  # held by tests/integration/mail/test_plans.py
    "emails_sending_at_idx",
    "emails_status_idx",
    "governance_events_user_idx",
    "mailboxes_due_idx",
    "memories_persona_id_idx",  # an operator asks: memory.list, by a plan of its own
    "messages_external_id_idx",
    "retention_runs_running_idx",
    "retention_runs_started_at_idx",
    "retention_runs_table_schema_table_name_started_at_idx",
    "validation_results_failed_idx",
}


def queries() -> dict[str, set[str]]:
    """Return, by index, the statements that are held to it."""
    found: dict[str, set[str]] = defaultdict(set)
    for guard in GUARDS:
        for name in guard.indexes:
            found[name].add(guard.name)
    for module in (test_plans, test_limit_plans, test_dependency_plans):
        for guarded in module.GUARDS:
            for name in _PARTS.get(guarded.expected, [guarded.expected]):
                found[name].add(guarded.name)
    return found


def test_the_page_says_what_each_index_serves(database: Database) -> None:
    assert PAGE.read_text(encoding="utf-8") == page(Strategy(database, queries()))


def test_indexes_that_nothing_asks_for_are_known(database: Database) -> None:
    assert set(Strategy(database, queries()).idle()) == IDLE


def test_an_index_that_comes_and_one_that_goes_are_missed(database: Database) -> None:
    database.rows("DROP INDEX identity.users_role_idx")
    database.rows("CREATE INDEX users_shoe_idx ON identity.users (name)")
    texts = page(Strategy(database, queries())), PAGE.read_text(encoding="utf-8")
    there, written = ({*re.findall(r"^\| `(\w+)`", text, re.MULTILINE)} for text in texts)
    assert written - there == {"users_role_idx"}
    assert there - written == {"users_shoe_idx"}


if __name__ == "__main__":
    with fast_server() as server, cloned(server, migrate_template(server)) as migrated:
        PAGE.write_text(page(Strategy(migrated, queries())), encoding="utf-8")
