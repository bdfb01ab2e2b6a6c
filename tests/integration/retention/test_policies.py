"""What a policy takes is one condition: precedence, filters, ages, whole months."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from tests.support.database import Database
from tests.support.retention import CUTOFF, DOCUMENTS, OLD, Trial, trial
from tests.support.retention_runs import let_go
from tests.support.statements import changed, column, value

EVENTS, HISTORY = "governance.governance_events", "queue.tasks_history"
TITLED = {"title": "x"}
PAGED = TITLED | {"page_count": 1}
# Rows by name: whose, of which persona, and what they are.
ROWS: dict[str, tuple[str, str | None, dict[str, Any]]] = {
    "plain": ("ours", None, {}),
    "titled": ("ours", None, TITLED),
    "paged": ("ours", None, PAGED),
    "ada's": ("ours", "ada", TITLED),
    "bob's": ("ours", "bob", TITLED),
    "their plain": ("theirs", None, {}),
    "their titled": ("theirs", None, TITLED),
}
OURS, ADA = {"of": "ours"}, {"of": "ours", "persona": "ada"}
EVERY = set(ROWS)
# Policies by name, and the rows that each takes.
PRECEDENCE: dict[str, tuple[dict[str, dict[str, Any]], dict[str, set[str]]]] = {
    "one of all": ({"all": {}}, {"all": EVERY}),
    "one of a tenant": ({"ours": OURS}, {"ours": EVERY - {"their plain", "their titled"}}),
    "a tenant's before that of all": (
        {"all": {}, "ours": OURS},
        {"all": {"their plain", "their titled"}, "ours": EVERY - {"their plain", "their titled"}},
    ),
    "a persona's before its tenant's": (
        {"all": {}, "ours": OURS, "ada": ADA},
        {
            "all": {"their plain", "their titled"},
            "ours": {"plain", "titled", "paged", "bob's"},
            "ada": {"ada's"},
        },
    ),
    "a narrower filter before a wider one": (
        {"all": {}, "titled": {"filter": TITLED}, "paged": {"filter": PAGED}},
        {
            "all": {"plain", "their plain"},
            "titled": {"titled", "ada's", "bob's", "their titled"},
            "paged": {"paged"},
        },
    ),
    "a narrower scope before a narrower filter": (
        {"titled": {"filter": TITLED}, "ours": OURS},
        {"titled": {"their titled"}, "ours": EVERY - {"their plain", "their titled"}},
    ),
    "a narrower scope takes out what it speaks of": (
        {"all": {}, "ours": OURS | {"filter": TITLED}},
        {"all": {"plain", "their plain", "their titled"}, "ours": {"titled", "paged", "ada's", "bob's"}},
    ),
    "of whatever action and age": (
        {"all": {}, "titled": {"filter": TITLED, "action": "archive", "age": "90 years"}},
        {"all": {"plain", "their plain"}, "titled": EVERY - {"plain", "their plain"}},
    ),
    "filters that no row has both of": (
        {"titled": {"filter": TITLED}, "other": {"filter": {"title": "y"}}, "none": {"filter": {"title": None}}},
        {"titled": EVERY - {"plain", "their plain"}, "other": set(), "none": {"plain", "their plain"}},
    ),
    "one that is off takes nothing out": (
        {"all": {}, "ours": OURS | {"is_enabled": False}},
        {"all": EVERY},
    ),
}  # fmt: skip


@pytest.fixture
def made(shared: Database) -> Iterator[Trial]:
    with trial(shared) as made:
        yield made


def fill(made: Trial, **given: Any) -> tuple[dict[str, UUID], dict[str, UUID]]:
    """Write the rows; return their ids by name, and the personas'."""
    personas = {name: made.ours.row("assistants.personas")["id"] for name in ("ada", "bob")}
    ids = {}
    for name, (tenant, persona, is_so) in ROWS.items():
        values: dict[str, Any] = {"created_at": OLD, "persona_id": personas.get(persona or "")} | is_so | given
        ids[name] = getattr(made, tenant).row(DOCUMENTS, **values)["id"]
    return ids, personas


@pytest.mark.parametrize("case", PRECEDENCE)
def test_a_row_is_the_most_specific_policys(made: Trial, case: str) -> None:
    said, expected = PRECEDENCE[case]
    ids, personas = fill(made)
    policies = {}
    for name, given in said.items():
        whose: dict[str, Any] = {"tenant_id": made.ours.tenant_id} if given.get("of") else {}
        if persona := given.get("persona"):
            whose["persona_id"] = personas[persona]
        rest = {key: each for key, each in given.items() if key not in ("of", "persona")}
        policies[name] = made.policy(**rest, **whose)
    names = {row_id: name for name, row_id in ids.items()}
    taken = {name: {names[each] for each in made.taken(policies[name])} for name in expected}
    assert taken == expected


def test_one_of_another_tenants_persona_outranks_nothing_of_ours(made: Trial) -> None:
    theirs = {"tenant_id": made.theirs.tenant_id, "persona_id": made.theirs.row("assistants.personas")["id"]}
    made.policy(**theirs, name="a persona's")
    for name, whose in (("ours", made.ours), ("theirs", made.theirs)):
        made.policy(tenant_id=whose.tenant_id, name=name)
    made.policy(name="all")
    query = """
    SELECT wide.name FROM ops.retention_policies narrow JOIN ops.retention_policies wide ON ops.outranks(narrow, wide)
    WHERE narrow.name = 'a persona''s'
    """
    assert column(made.connection, query) == {"theirs", "all"}


def test_what_is_off_or_a_hold_or_gone_takes_nothing(made: Trial) -> None:
    off, hold = made.policy(is_enabled=False), made.hold()
    assert [made.condition(each) for each in (off, hold, UUID(int=1))] == [None] * 3


@pytest.mark.parametrize(
    ("filter", "is_so", "is_not"),
    [
        ({"title": "it's 100%"}, {"title": "it's 100%"}, {"title": "its"}),
        ({"title": None}, {"title": None}, {"title": ""}),
        ({"title": ""}, {"title": ""}, {"title": None}),
        ({"page_count": 3}, {"page_count": 3}, {"page_count": None}),
        ({"page_count": None}, {"page_count": None}, {"page_count": 1}),
        (
            {"completed_at": "2020-01-01T02:00:00+02:00"},
            {"completed_at": "2020-01-01Z"},
            {"completed_at": "2020-01-02Z"},
        ),
        ({"title": "x", "page_count": 1}, {"title": "x", "page_count": 1}, {"title": "x", "page_count": 2}),
    ],
)  # fmt: skip
def test_a_filter_compares_values_as_their_columns_do(
    made: Trial, filter: dict[str, Any], is_so: dict[str, Any], is_not: dict[str, Any]
) -> None:
    wanted, other = (made.ours.row(DOCUMENTS, created_at=OLD, **given)["id"] for given in (is_so, is_not))
    assert made.taken(made.policy(filter=filter)) & {wanted, other} == {wanted}


def test_a_row_goes_that_has_no_value_where_a_narrower_policy_wants_one(made: Trial) -> None:
    row_id = made.ours.row(DOCUMENTS, created_at=OLD, title=None, page_count=1)["id"]
    wide = made.policy(filter={"page_count": 1})
    made.policy(filter={"page_count": 1, "title": "x"})
    assert row_id in made.taken(wide)


# ------------------------------------------------------------------------------------------------ ages


def test_what_is_as_old_as_the_cutoff_stays(made: Trial) -> None:
    exact, older = (made.ours.row(DOCUMENTS, created_at=at)["id"] for at in (CUTOFF, "2020-03-15 11:59:59.999999+00"))
    assert made.taken(made.policy()) & {exact, older} == {older}


def test_what_has_no_age_stays(made: Trial) -> None:
    row_id = made.ours.row(DOCUMENTS, created_at=OLD, completed_at=None)["id"]
    policy_id = made.policy(age_column="completed_at")
    assert row_id not in made.taken(policy_id, "infinity")


@pytest.mark.parametrize("action", ["delete", "archive"])
def test_a_cutoff_without_end_takes_all_or_nothing(made: Trial, action: str) -> None:
    ids = {made.ours.row(DOCUMENTS, created_at=at)["id"] for at in (OLD, "9998-01-01Z")}
    policy_id = made.policy(action=action)
    assert made.taken(policy_id, "infinity") & ids == ids
    assert made.taken(policy_id, "-infinity") == set()


# ------------------------------------------------------------------------------------------------ months


def test_an_archive_takes_whole_months_that_are_over(made: Trial) -> None:
    last, first = (made.ours.row(DOCUMENTS, created_at=at)["id"] for at in ("2020-02-29 23:59:59Z", "2020-03-01Z"))
    assert made.taken(made.policy(action="archive")) & {last, first} == {last}


def test_months_are_those_of_utc_whatever_the_sessions_zone(made: Trial) -> None:
    policy_id = made.policy(action="archive")
    before = made.condition(policy_id)
    changed(made.connection, "SET LOCAL timezone = 'Pacific/Kiritimati'")
    changed(made.connection, "SET LOCAL datestyle = 'German'")
    assert made.condition(policy_id) == before
    assert before is not None
    assert "2020-03-01 00:00:00+00" in before


def events(made: Trial, *moments: str) -> list[UUID]:
    """Write events, each in a month of its own where there is none."""
    session = made.ours.row("governance.agent_sessions")["id"]
    found = []
    for moment in moments:
        value(made.connection, "SELECT ops.create_month(%s::regclass, %s)", EVENTS, moment)
        found.append(made.ours.row(EVENTS, created_at=moment, agent_session_id=session)["id"])
    return found


def test_a_drop_takes_months_that_end_before_the_cutoff(made: Trial) -> None:
    first, second, third = events(made, OLD, "2020-02-28Z", "2020-03-02Z")
    policy_id = made.policy(EVENTS, action="drop_partition")
    assert made.taken(policy_id) == {first, second}
    assert made.taken(policy_id, "2020-03-01Z") == {first, second}
    assert made.taken(policy_id, "2020-02-29Z") == set()
    assert made.taken(policy_id, "2020-04-01Z") == {first, second, third}


def test_a_month_stays_whole_for_one_row_that_is_held(made: Trial) -> None:
    first, second, other = events(made, OLD, "2020-02-28Z", "2020-01-02Z")
    policy_id = made.policy(EVENTS, action="drop_partition")
    made.hold(EVENTS, filter={"id": str(first)})
    assert made.taken(policy_id) == {other}
    assert made.taken(policy_id, holds=False) == {first, second, other}


def test_a_partition_of_ones_own_goes_as_it_is(made: Trial) -> None:
    changed(made.connection, "CREATE TABLE governance.events_of_2019 (LIKE governance.governance_events INCLUDING ALL)")
    changed(
        made.connection,
        "ALTER TABLE governance.governance_events ATTACH PARTITION governance.events_of_2019 "
        "FOR VALUES FROM ('2019-01-01Z') TO ('2020-01-10Z')",
    )
    session = made.ours.row("governance.agent_sessions")["id"]
    first, last = (
        made.ours.row(EVENTS, created_at=at, agent_session_id=session)["id"] for at in ("2019-01-02Z", "2020-01-09Z")
    )
    policy_id = made.policy(EVENTS, action="drop_partition")
    assert made.taken(policy_id, "2020-01-09Z") == set()
    assert made.taken(policy_id, "2020-01-10Z") == {first, last}
    made.hold(EVENTS, filter={"id": str(last)})
    assert made.taken(policy_id, "2020-01-10Z") == set()


def test_months_take_along_what_a_narrower_policy_speaks_of(made: Trial) -> None:
    policy_id = made.policy(HISTORY, age_column="completed_at", action="drop_partition")
    before = made.condition(policy_id)
    made.policy(HISTORY, age_column="completed_at", age="1 month", filter={"status": "failed"})
    assert made.condition(policy_id) == before


# ------------------------------------------------------------------------------------------------ who goes by it


def test_a_run_takes_what_the_condition_says(made: Trial) -> None:
    ids, _ = fill(made)
    policy_id = made.policy(name="wide", filter={"title": "x"})
    made.policy(name="narrow", filter={"title": "x", "page_count": 1})
    young = made.ours.row(DOCUMENTS, title="x")["id"]
    taken = made.taken(policy_id)
    assert taken == {ids[name] for name in ("titled", "ada's", "bob's", "their titled")}
    assert let_go(made.connection, "wide") == len(taken)
    assert made.ids(DOCUMENTS) == {*ids.values(), young} - taken


@pytest.mark.parametrize(
    ("role", "may"), [("system", True), ("operator", True), ("worker", False), ("reader", False), ("relay", False)]
)
def test_the_condition_is_for_plans_and_runs(shared: Database, role: str, may: bool) -> None:
    query = "SELECT has_function_privilege(%s, 'ops.retention_condition(uuid, timestamptz, boolean)', 'EXECUTE')"
    assert shared.value(query, (f"greenroom_{role}",)) is may
