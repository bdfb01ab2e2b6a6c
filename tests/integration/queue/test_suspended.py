"""A suspended tenant: what runs comes to its end, and nothing of the tenant's is begun until it is active again."""

from uuid import UUID

import pytest

from db import dependencies, tenants
from pipelines.batches import close_batch, open_batch
from pipelines.enqueue import enqueue
from tests.support.database import Database
from tests.support.engine import Line
from tests.support.tasks import Answer, Noop, Report, Spawn

HELD = """
SELECT task_type FROM queue.tasks_live WHERE tenant_id = %s AND hold_reason = 'tenant is suspended' ORDER BY task_type
"""


@pytest.fixture
def tenant(database: Database, line: Line) -> UUID:
    """A tenant of the test's own."""
    return tenants.add(database.connect("operator"), "ours")


def set_to(database: Database, tenant: UUID, status: tenants.Status) -> None:
    operator = database.connect("operator")
    assert tenants.set_status(operator, tenants.find(operator, str(tenant)), status)


def go_on(line: Line) -> None:
    """Run and settle until nothing moves."""
    while line.run_once() or not dependencies.settle(line.relay, 100).is_idle:
        pass


def held(database: Database, tenant: UUID) -> list[str]:
    return [task_type for (task_type,) in database.rows(HELD, (tenant,))]


def test_what_runs_ends_and_what_follows_from_it_waits(
    database: Database, effects: Database, line: Line, tenant: UUID
) -> None:
    """Tasks that it enqueues, a child that waited for it and its batch's callback are held, and go on later."""
    owner = database.connect()
    batch = open_batch(owner, "b", on_ended=Report(text="ended"), tenant_id=tenant)
    parent = enqueue(owner, Spawn(count=2), tenant_id=tenant, batch_id=batch)
    child = enqueue(owner, Answer(outcome="done"), tenant_id=tenant, depends_on=[parent])
    close_batch(owner, batch)
    claims = line.claim()
    set_to(database, tenant, "suspended")
    line.run(claims)
    go_on(line)
    assert line.task(parent)["status"] == "done"
    assert held(database, tenant) == ["test.answer", "test.noop", "test.noop", "test.report"]
    assert line.task(child)["status"] == "pending"

    set_to(database, tenant, "active")
    go_on(line)
    assert database.rows("SELECT DISTINCT status FROM queue.outbox_tasks") == [("done",)]
    assert held(database, tenant) == []


def test_an_attempt_that_fails_meanwhile_is_not_repeated_before(database: Database, line: Line, tenant: UUID) -> None:
    task_id = enqueue(database.connect(), Answer(outcome="retry"), tenant_id=tenant)
    claims = line.claim()
    set_to(database, tenant, "suspended")
    line.run(claims)
    database.rows("UPDATE queue.tasks_live SET run_after = now(), is_due = true")
    assert line.run_once() == 0
    assert (line.task(task_id)["status"], line.task(task_id)["attempts"]) == ("pending", 1)
    set_to(database, tenant, "active")
    assert line.run_once() == 1


def test_another_tenants_tasks_go_on(database: Database, line: Line, tenant: UUID) -> None:
    set_to(database, tenant, "suspended")
    ours, others = enqueue(database.connect(), Noop(), tenant_id=tenant), enqueue(database.connect(), Noop())
    assert line.run_once() == 1
    assert [line.task(task_id)["status"] for task_id in (ours, others)] == ["pending", "done"]
