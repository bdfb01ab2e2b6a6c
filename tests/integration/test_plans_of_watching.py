"""EXPLAIN guards: what relays count and look at beside 60,000 tasks with their past, and what operators ask of it."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from psycopg.types.json import Jsonb

from db.embedded import EmbeddedServer
from tests.support.full import Full, Whose, full, key
from tests.support.plans import Guard, Own, cases, faults

WORKER = UUID("00000000-0000-4000-8000-000000000001")
LOOK = {
    "window": 3600.0, "failures": 5, "process_timeout": 30.0, "stalled": 60.0, "late": 60.0, "calm": 60.0, "days": 30,
}  # fmt: skip
ATTEMPTS = {
    "ids": Own("tasks", 1), "tenants": lambda whose: [whose.tenant], "claims": [1], "numbers": [1],
    "outcomes": ["retry"], "errors": ["x"], "tracebacks": [None], "logs": [None], "workers": [WORKER], "seconds": [1.0],
}  # fmt: skip
TENANT = {"id": lambda whose: whose.tenant}
STANDING = {"standing": Jsonb({}), "of": "erasure"}
MINUTE = {"minute": datetime(2026, 1, 1, tzinfo=UTC)}
ENQUEUE = "SELECT queue.enqueue('test.noop', '{}'::jsonb, %(options)s)"
CLAIM, OCCUPIED = "tasks_live_claim_idx", "tasks_live_occupied_idx"


def a_later_minute(_whose: Whose) -> datetime:
    """Return one in which tasks end: they do for hours to come."""
    return (datetime.now(UTC) + timedelta(hours=8)).replace(second=0, microsecond=0)


GUARDS = [
    Guard("relay", "alerts.sight", LOOK, ("tasks_history_failed_idx", CLAIM, OCCUPIED, "statistics_pkey"), 1500, 500),
    Guard("relay", "alerts.resolve", LOOK, ("alerts_raised_key", "alerts_resolved_at_idx"), 150, 200),
    Guard("relay", "alerts.lend", {"seconds": 10.0}, ("alerts_next_try_at_idx",), 10, 50),
    Guard("relay", "alerts.told", {"id": Own("alerts"), "state": "raised"}, ("alerts_pkey",), 10, 50),
    Guard("relay", "alerts.put_off", {"id": Own("alerts"), "delay": 10.0}, ("alerts_pkey",), 10, 20),
    *(Guard(role, "alerts.raised", {}, ("alerts_raised_key",), 150, 150) for role in ("operator", "relay")),
    Guard(
        "relay", "statistics.count",
        {"minute": a_later_minute},
        ("tasks_history_completed_at_idx", "attempts_ended_at_idx", "tasks_live_id_key"), 250, 400,
    ),
    Guard("relay", "statistics.gauge", MINUTE | {"most": 100}, (CLAIM, OCCUPIED), 150, 100),
    Guard("relay", "statistics.prune", {"days": 6, "limit": 100}, ("statistics_pkey", "gauges_pkey"), 500, 1500),
    *(
        Guard(role, "statistics.standing", {"minutes": 5}, ("gauges_pkey",), 20, 30)
        for role in ("operator", "relay")
    ),
    *(
        Guard("operator", f"statistics.{name}", {"minutes": 15}, (index,), 150, 150, plan=plan)
        for name, index in (("minutes", "statistics_pkey"), ("gauges", "gauges_pkey"))
        for plan in ("force_generic_plan", "force_custom_plan")
    ),
    Guard("operator", "tasks.attempts_of", {"id": Own("tasks")}, ("attempts_task_id_idx",), 10, 20),
    Guard("operator", "tasks.release", {"id": key("tasks", 600)}, ("tasks_live_id_key",), 10, 50),
    Guard("operator", "limits.list", {}, ("limit_tokens_pkey", OCCUPIED), 600, 2000, blind=False),
    Guard("operator", "limits.set", {"kind": "key", "name": "x", "concurrency": 5}, ("limits_pkey",), 10, 20),
    Guard("operator", "limits.remove", {"kind": "key", "name": "7"}, ("limit_tokens_pkey", "limits_pkey"), 10, 20),
    Guard("operator", "limits.has_tenant", TENANT, ("tenants_pkey",), 10, 20),
    Guard("relay", "queue.is_occupied", {}, (), 10, 20),
    Guard("system", "tenants.count_running", TENANT, (), 10, 20),
    Guard("system", "tenants.request_ends", TENANT, (), 10, 20),
    # between the pages of retention
    Guard("system", "retention_runs.waiting", {"own_queue": "retention"}, (CLAIM,), 150, 150),
    # where a task stands that goes on page by page
    Guard("system", "standings.read", {"task_id": Own("tasks"), "of": "erasure"}, ("tasks_live_id_key",), 10, 20),
    Guard("system", "standings.note", {"task_id": Own("tasks")} | STANDING, ("tasks_live_id_key",), 10, 50),
    # all that is held, of whatever tenants
    Guard("relay", "queue.release_active", {}, ("tasks_live_held_idx", "tenants_pkey"), 300, 2500),
    # a page of tasks, of types that may be pending for as long as it takes
    Guard("relay", "stale.cancel", {"after": key("tasks", 30_000), "most": 200}, ("tasks_live_id_key",), 600, 700),
    Guard(
        "relay", "dependencies.call_back",
        {"batches": Own("batches", 5)}, ("batches_pkey", "settlements_added_idx"), 50, 100,
    ),
    Guard("producer", "SELECT queue.close_batch(%(id)s)", {"id": Own("batches")}, ("batches_pkey",), 20, 100),
    Guard("worker", "leases.record_attempts", ATTEMPTS, (), 10, 50),
    Guard("producer", ENQUEUE, {"options": Jsonb({})}, (), 10, 50),
    Guard("producer", ENQUEUE, {"options": Jsonb({"unique_key": "k"})}, ("tasks_live_unique_key",), 20, 50),
]  # fmt: skip


@pytest.fixture(scope="module")
def filled(server_without_fsync: EmbeddedServer, template_database: str) -> Iterator[Full]:
    """Tasks that wait and tasks that ended, attempts, statistics, alerts and limits."""
    with full(server_without_fsync, template_database, "tasks", "noted") as database:
        yield database


@pytest.mark.parametrize(("state", "guard"), cases(GUARDS), ids=str)
def test_the_statement_keeps_to_its_index(filled: Full, state: str, guard: Guard) -> None:
    assert faults(filled, state, guard) == []


def test_an_index_that_is_gone_is_missed(filled: Full) -> None:
    """What a relay asks each minute reads all alerts then."""
    [guard] = [guard for guard in GUARDS if guard.statement == "alerts.resolve"]
    with filled.without("queue.alerts_resolved_at_idx"):
        assert "few: it reads all of alerts" in faults(filled, filled.state, guard)
    assert faults(filled, filled.state, guard) == []
