"""What a retention policy's filter says of texts stands in SQL of its own, so that partial indexes are used."""

import pytest

from tests.support.database import Database

CONDITION = "SELECT ops.filter_condition('governance.agent_sessions', %s::jsonb)"


@pytest.mark.parametrize(
    ("filter", "condition"),
    [
        ("{}", None),
        ('{"status": "completed"}', "r0.status = 'completed'"),
        ('{"status": "it\'s", "agent_type": "a"}', "r0.agent_type = 'a' AND r0.status = 'it''s'"),
        ('{"version": 1, "session_id": null, "user_id": "no uuid", "nothing": "x"}', None),
    ],
)
def test_a_filter_says_of_texts_what_they_are(shared: Database, filter: str, condition: str | None) -> None:
    assert shared.value(CONDITION, (filter,)) == condition


@pytest.mark.parametrize("role", ["system", "operator", "worker"])
def test_no_login_asks_for_it(shared: Database, role: str) -> None:
    may = "SELECT has_function_privilege(%s, 'ops.filter_condition(regclass, jsonb)', 'EXECUTE')"
    assert shared.value(may, (f"greenroom_{role}",)) is False
