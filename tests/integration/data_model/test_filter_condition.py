"""What a retention policy's filter says stands in SQL that indexes understand; what cannot be compared says nothing."""

import pytest

from tests.support.database import Database

CONDITION = "SELECT ops.filter_condition('governance.agent_sessions', %s::jsonb)"


@pytest.mark.parametrize(
    ("filter", "condition"),
    [
        ("{}", None),
        ('{"status": "completed"}', "r0.status = 'completed'"),
        ('{"status": "it\'s", "agent_type": "a"}', "r0.agent_type = 'a' AND r0.status = 'it''s'"),
        ('{"version": 1, "session_id": null}', "r0.session_id IS NULL AND r0.version = '1'"),
        ('{"agent_config": "x"}', "r0.agent_config = '\"x\"'"),
        ('{"nothing": "x", "user_id": "no uuid", "version": "1"}', "false AND false AND false"),
        ('{"status": 1, "version": 1.5, "session_id": ["x"]}', "false AND false AND false"),
    ],
)
def test_a_filter_says_what_columns_are(shared: Database, filter: str, condition: str | None) -> None:
    assert shared.value(CONDITION, (filter,)) == condition


@pytest.mark.parametrize("role", ["system", "operator", "worker"])
def test_no_login_asks_for_it(shared: Database, role: str) -> None:
    may = "SELECT has_function_privilege(%s, 'ops.filter_condition(regclass, jsonb, text)', 'EXECUTE')"
    assert shared.value(may, (f"greenroom_{role}",)) is False
