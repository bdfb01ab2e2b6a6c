"""EXPLAIN guards: schedules are looked at, fired and told of beside 60,000 fires and as many tasks."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from db.embedded import EmbeddedServer
from tests.support.full import FEW, Full, full, key
from tests.support.plans import Guard, cases, faults

ID = {"id": key("schedules", 50)}
TIMES = [datetime.now(UTC) - timedelta(minutes=49 + n * 100, microseconds=n) for n in range(10)]
TWENTY = {"ids": [key("schedules", n) for n in range(50, 70)]}
SPAN = {"after": TIMES[-1], "before": TIMES[0], "limit": 10_000}
OLD = {"days": 30, "limit": 100}

GUARDS = [
    Guard("scheduler", "fires.times_between", ID | SPAN, ("fires_pkey",), 50, 60),
    Guard("scheduler", "fires.due_in", {"besides": []}, ("schedules_next_fire_at_idx",), 5, 20),
    Guard("scheduler", "fires.fires_at", ID | {"times": TIMES}, (), 20, 60),
    Guard("scheduler", "fires.live_tasks", ID, ("tasks_live_owner_idx",), 100, 200),
    Guard("scheduler", "fires.prune", OLD, ("fires_fire_at_idx",), 600, 1200),
    # a login that is bound to a tenant asks which of all schedules are its own
    *(
        Guard(role, "fires.history", ID | {"limit": 20, "before": None}, ("fires_pkey",), 1700, 800)
        for role in ("operator", "reader")
    ),
    # who lists asks for what it was told of: its own
    *(
        Guard(role, "fires.last_of_each", TWENTY, ("fires_pkey",), 1700, 800, tenants=(FEW,))
        for role in ("operator", "reader")
    ),
]  # fmt: skip


@pytest.fixture(scope="module")
def filled(server_without_fsync: EmbeddedServer, template_database: str) -> Iterator[Full]:
    """Schedules with what they fired, and tasks, most of which are a schedule's."""
    with full(server_without_fsync, template_database, "tasks", "schedules") as database:
        yield database


@pytest.mark.parametrize(("state", "guard"), cases(GUARDS), ids=str)
def test_the_statement_keeps_to_its_index(filled: Full, state: str, guard: Guard) -> None:
    assert faults(filled, state, guard) == []


@pytest.mark.parametrize(
    ("statement", "index", "told"),
    [("fires.prune", "queue.fires_fire_at_idx", "it does not use fires_fire_at_idx"),
     ("fires.live_tasks", "queue.tasks_live_owner_idx", "it does not use tasks_live_owner_idx")],
)  # fmt: skip
def test_an_index_that_is_gone_is_missed(filled: Full, statement: str, index: str, told: str) -> None:
    [guard] = [guard for guard in GUARDS if guard.statement == statement]
    with filled.without(index):
        found = faults(filled, filled.state, guard)
    assert [fault for fault in found if told in fault] != [], found
