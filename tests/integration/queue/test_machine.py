"""The state machine of a task, driven at random: whatever the order of calls, the rows are where the model says."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.configuration import set_hypothesis_home_dir
from hypothesis.stateful import run_state_machine_as_test
from psycopg import sql

from db import queries
from tests.integration.queue.machine import Hands, Machine
from tests.support.database import Database
from tests.support.engine import Line

_STEPS = 50
# What each query that moves a task is guarded by, and does without in the test of the oracle itself.
GUARDS = {
    "queue.give_back": " AND live.claim_number = given.claim_number",
    "leases.take": " AND live.claim_number = given.claim_number",
    "queue.start_first": " AND live.claimed_until IS NULL",
    "leases.running": " AND lease_until > now()",
    "leases.finish": " AND live.claim_number = given.claim_number",
    "leases.reschedule": " AND live.worker_id = %(worker_id)s",
    "queue.rescue": " AND lease_until <= now()",
    "leases.renew": " AND lease_until > now()",
    "queue.claim": " AND live.claimed_until IS NULL",
    "tasks.replay": " AND status IN ('failed', 'cancelled')",
}


def interleave(line: Line, examples: int, phases: Sequence[Phase] = tuple(Phase)) -> None:
    """Run that many random sequences of calls."""
    hands = Hands.of(line)

    class Bound(Machine):
        def __init__(self) -> None:
            super().__init__(hands)

    run_state_machine_as_test(
        Bound,
        settings=settings(
            max_examples=examples,
            phases=phases,
            stateful_step_count=_STEPS,
            deadline=None,
            database=None,
            derandomize=not os.environ.get("FAULTS_SEED"),
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.fixture(autouse=True)
def hypothesis_home(tmp_path: Path) -> None:
    """What hypothesis keeps on disk is the test's: the tree stays clean."""
    set_hypothesis_home_dir(tmp_path)


@pytest.mark.timeout(240)
def test_rows_are_where_the_model_says(line: Line, effects: Database) -> None:
    interleave(line, 60)


@pytest.mark.faults
@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", sorted(GUARDS))
def test_the_oracle_sees_a_guard_that_is_gone(
    line: Line, effects: Database, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    file, _, query = name.partition(".")
    known = queries._load(file)
    text = known[query].as_string(None)
    assert GUARDS[name] in text, f"{name} has no {GUARDS[name]!r}: the guard was moved"
    monkeypatch.setitem(known, query, sql.SQL(text.replace(GUARDS[name], "")))
    with pytest.raises((AssertionError, KeyError)):
        interleave(line, 2_000, [Phase.generate])  # it ends with the first that the oracle sees


@pytest.mark.faults
@pytest.mark.timeout(1200)
def test_rows_are_where_the_model_says_thousands_of_times(line: Line, effects: Database) -> None:
    interleave(line, 2_000)
