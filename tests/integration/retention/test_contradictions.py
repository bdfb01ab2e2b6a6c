"""Policies that contradict are refused when they are written, by name; so are those that make no sense alone."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import psycopg
import pytest

from db.connection import connect
from tests.support.database import Database
from tests.support.factory import Factory
from tests.support.retention import DOCUMENTS, POLICIES, Trial, trial
from tests.support.statements import changed, rows
from tests.support.tenants import acting

EVENTS, HISTORY, MEASURES = "governance.governance_events", "queue.tasks_history", "ops.persona_health_metrics"
CONTRADICTION = "retention_policies_contradiction_check"
TITLED, PAGED = {"filter": {"title": "x"}}, {"filter": {"page_count": 1}}
BOTH = {"filter": {"title": "x", "page_count": 1}}
OURS = {"of": "ours"}
MONTHS = {"table": HISTORY, "age_column": "completed_at", "action": "drop_partition", "age": "30 days"}
FAILED = {"table": HISTORY, "age_column": "completed_at", "filter": {"status": "failed"}, "age": "7 days"}
TALK = {"table": "assistants.messages", "action": "drop_partition"}
# Two policies, in either order, and whether they contradict.
PAIRS: dict[str, tuple[dict[str, Any], dict[str, Any], bool]] = {
    "filters of which neither says what the other says": (TITLED, PAGED, True),
    "a filter that says more": (TITLED, BOTH, False),
    "filters that no row has both of": (TITLED, {"filter": {"title": "y"}}, False),
    "a value and none": (TITLED, {"filter": {"title": None}}, False),
    "one of a tenant and one of all": (TITLED, PAGED | OURS, False),
    "both of one tenant": (TITLED | OURS, PAGED | OURS, True),
    "one is off": (TITLED, PAGED | {"is_enabled": False}, False),
    "one is a hold": (TITLED, PAGED | {"is_held": True, "hold_reason": "why"}, False),
    "of two tables": (TITLED, {"table": "identity.users", "filter": {"name": "x"}}, False),
    "months and what goes earlier": (MONTHS, FAILED, False),
    "months and what is kept longer": (MONTHS, FAILED | {"age": "31 days"}, True),
    "months and what a tenant keeps longer": (MONTHS, FAILED | OURS | {"filter": {}, "age": "1 year"}, True),
    "months and what is archived": (TALK, TALK | {"action": "archive", "filter": {"role": "user"}}, True),
    "months and what goes by another time": (MONTHS, FAILED | {"age_column": "created_at"}, True),
    "months and what is kept longer, but is off": (MONTHS, FAILED | {"age": "1 year", "is_enabled": False}, False),
}  # fmt: skip
# Policies that are refused by themselves, and the column that is wrong.
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "an age under an hour": ({"age": "59 minutes"}, "age"),
    "a text for a number": ({"filter": {"page_count": "1"}}, "filter"),
    "a fraction for a whole number": ({"filter": {"page_count": 1.5}}, "filter"),
    "a number for a text": ({"filter": {"title": 1}}, "filter"),
    "no key": ({"filter": {"collection_id": "x"}}, "filter"),
    "a value of what is not compared": ({"table": "identity.users", "filter": {"permissions": ["x"]}}, "filter"),
    "an archive of secrets": ({"table": "vault.secrets", "action": "archive"}, "action"),
    "an archive of users": ({"table": "identity.users", "action": "archive"}, "action"),
    "an archive that secrets would go along into": ({"table": "assistants.personas", "action": "archive"}, "action"),
    "an archive without a key": ({"table": "tools.keyless", "action": "archive"}, "action"),
    "a roll-up of what is no measure": ({"action": "roll_up"}, "action"),
}


@pytest.fixture
def made(shared: Database) -> Iterator[Trial]:
    with trial(shared) as made:
        yield made


def write(made: Trial, given: dict[str, Any]) -> UUID:
    """Write a policy of a table, of our tenant where it says so."""
    whose = {"tenant_id": made.ours.tenant_id} if given.get("of") else {}
    rest = {key: each for key, each in given.items() if key not in ("of", "table")}
    return made.policy(given.get("table", DOCUMENTS), **rest, **whose)


@pytest.mark.parametrize("turned", [False, True], ids=["", "turned"])
@pytest.mark.parametrize("case", PAIRS)
def test_the_later_of_two_that_contradict_is_refused_and_names_the_other(made: Trial, case: str, turned: bool) -> None:
    first, second, is_refused = PAIRS[case]
    if turned:
        first, second = second, first
    write(made, first | {"name": "there before"})
    if not is_refused:
        assert write(made, second) in made.ids(POLICIES)
        return
    with pytest.raises(psycopg.errors.CheckViolation, match="policy new contradicts the policy there before") as caught:
        write(made, second | {"name": "new"})
    assert caught.value.diag.constraint_name == CONTRADICTION


def test_what_is_switched_on_or_changed_is_looked_at_again(made: Trial) -> None:
    write(made, TITLED)
    other = write(made, PAGED | {"is_enabled": False})
    enable = "UPDATE ops.retention_policies SET is_enabled = true WHERE id = %s"
    with pytest.raises(psycopg.errors.CheckViolation, match="contradicts"), made.connection.transaction():
        changed(made.connection, enable, other)
    narrow = 'UPDATE ops.retention_policies SET filter = filter || \'{"title": "x"}\' WHERE id = %s'
    assert changed(made.connection, narrow, other) == changed(made.connection, enable, other) == 1


@pytest.mark.parametrize("reason", REFUSED)
def test_a_policy_that_makes_no_sense_is_refused(made: Trial, reason: str) -> None:
    given, broken = REFUSED[reason]
    changed(made.connection, "CREATE TABLE tools.keyless (created_at timestamptz NOT NULL)")
    with pytest.raises(psycopg.errors.CheckViolation) as caught:
        write(made, given)
    assert caught.value.diag.constraint_name == f"retention_policies_{broken}_check"


@pytest.mark.parametrize(
    "given",
    [
        {"age": "1 hour"},
        {"table": "identity.users", "is_held": True, "hold_reason": "why", "age": "1 second"},
        {"table": "vault.secrets", "is_held": True, "hold_reason": "why"},
        {"table": "identity.tenants", "is_held": True, "hold_reason": "why", "of": "ours"},
        {"table": "vault.secrets"},
        {"table": MEASURES, "age_column": "measured_at", "action": "roll_up"},
    ],
    ids=["an hour", "a hold of no age", "held secrets", "a held tenant", "secrets", "measures"],
)
def test_what_is_beside_that_is_taken(made: Trial, given: dict[str, Any]) -> None:
    assert write(made, given) in made.ids(POLICIES)


def test_one_of_a_tenant_is_held_against_those_of_all_that_its_operator_does_not_see(
    shared: Database, ours: Factory
) -> None:
    longer = {"table_schema": "queue", "table_name": "tasks_history", "age_column": "completed_at", "age": "1 year"}
    with acting(shared, "operator", ours.tenant_id) as operator:
        assert rows(operator, "SELECT name FROM ops.retention_policies WHERE name = 'tasks'") == []
        with pytest.raises(psycopg.errors.CheckViolation, match="contradicts the policy tasks"):
            Factory(operator, ours.tenant_id).row(POLICIES, tenant_id=ours.tenant_id, filter={}, **longer)


def test_two_that_are_written_at_once_wait_for_each_other(shared: Database, ours: Factory) -> None:
    """The second waits for the first to be written, and sees it then."""
    theirs_too = {"table_schema": "knowledge", "table_name": "documents", "age_column": "created_at", "age": "1 year"}
    whose = theirs_too | {"tenant_id": ours.tenant_id}
    with connect(shared.url("operator"), name="second") as second, acting(shared, "operator") as first:
        second.execute("SET lock_timeout = '50ms'")
        Factory(first, ours.tenant_id).row(POLICIES, filter={"title": "x"}, **whose)
        with pytest.raises(psycopg.errors.LockNotAvailable):
            Factory(second, ours.tenant_id).row(POLICIES, filter={"page_count": 1}, **whose)
        other = {"table_schema": "identity", "table_name": "users", "name": "elsewhere", "filter": {}}
        Factory(second, ours.tenant_id).row(POLICIES, **whose | other)


def test_the_first_rule_of_a_row_is_its_own(made: Trial) -> None:
    """A contradiction is looked for in what makes sense: the first thing that is wrong is said."""
    write(made, TITLED)
    with pytest.raises(psycopg.errors.CheckViolation, match=r"this age of knowledge\.documents"):
        write(made, PAGED | {"age": "1 minute"})
