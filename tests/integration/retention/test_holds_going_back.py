"""Holds that the schema before 0037 had no room for: what they keep stays kept on the way back."""

from db.migrate import downgrade
from tests.support.database import Database
from tests.support.retention_runs import add, hold

LEFT = "SELECT is_held, hold_reason FROM ops.retention_policies WHERE table_name = 'messages'"


def test_holds_of_one_scope_become_one_and_outlive_the_policy_beside_them(database: Database) -> None:
    database.rows("DELETE FROM ops.retention_policies WHERE table_name = 'messages'")
    add(database, "assistants.messages")
    for _ in range(2):
        hold(database, "assistants.messages")
    downgrade(database.owner_url, "0036")
    assert database.rows(LEFT) == [(True, "a court's order; a court's order")]
