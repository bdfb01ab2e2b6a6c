"""`personas.expire` and `api_keys.expire`: what has a time to live is marked when it is over, and nothing else is."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from db import expiry
from db.embedded import EmbeddedServer
from db.expiry import Kind
from pipelines.enqueue import enqueue
from pipelines.payload import Payload
from pipelines.registry import Registry
from pipelines.retention import expiry as expiring
from pipelines.retention.expiry import TASKS, ExpireApiKeys, ExpirePersonas
from tests.support.database import Database, cloned
from tests.support.engine import publish
from tests.support.factory import Factory
from tests.support.tenants import acting, new_tenant
from workers.testing import drain

TABLES: dict[Kind, str] = {"persona": "people.personas", "api_key": "identity.api_keys"}
MARKED: dict[Kind, str] = {
    "persona": "SELECT id FROM people.personas WHERE tenant_id = %s AND expired_at IS NOT NULL",
    "api_key": "SELECT id FROM identity.api_keys WHERE tenant_id = %s AND status = 'expired'",
}
EVENTS = (
    "SELECT resource_id FROM audit.audit_events WHERE event_type = %s AND tenant_id = %s AND event_category = 'system'"
)
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
KINDS = sorted(TABLES)


@pytest.fixture(scope="module")
def shared(server_without_fsync: EmbeddedServer, template_database: str) -> Iterator[Database]:
    with cloned(server_without_fsync, template_database) as database:
        publish(database, Registry(TASKS))
        yield database


@pytest.fixture
def ours(shared: Database) -> Iterator[Factory]:
    with new_tenant(shared) as factory:
        yield factory


def made(ours: Factory, kind: Kind, count: int = 1, **given: Any) -> list[UUID]:
    return [ours.row(TABLES[kind], **{"expires_at": LONG_AGO} | given)["id"] for _ in range(count)]


def marked(shared: Database, ours: Factory, kind: Kind) -> set[UUID]:
    return {row[0] for row in shared.rows(MARKED[kind], (ours.tenant_id,))}


def work(shared: Database, payload: Payload) -> Any:
    """Run a task to its end; return its result."""
    task_id = enqueue(shared.connect("system"), payload)
    drain(shared, Registry(TASKS))
    [(status, result)] = shared.rows("SELECT status, result FROM queue.outbox_tasks WHERE id = %s", (task_id,))
    assert status == "done"
    return result


@pytest.mark.parametrize("kind", KINDS)
def test_what_expires_is_marked_from_its_time_on_and_not_before(shared: Database, ours: Factory, kind: Kind) -> None:
    with acting(shared, "system") as system:
        [(now,)] = system.execute("SELECT now()").fetchall()
        own = Factory(system, ours.tenant_id)
        [over], [young] = made(own, kind, expires_at=now), made(own, kind, expires_at=now + timedelta(microseconds=1))
        [endless] = made(own, kind, expires_at=None)
        found = expiry.due(system, kind, 1000)
        assert over in found
        expiry.mark(system, kind, [over, young, endless])
        seen = {row[0] for row in system.execute(MARKED[kind].encode(), (ours.tenant_id,))}
        assert seen == {over}
        assert not {young, endless} & set(found)


@pytest.mark.parametrize(
    ("payload", "kind"), [(ExpirePersonas(), "persona"), (ExpireApiKeys(), "api_key")], ids=["personas", "api keys"]
)
@pytest.mark.parametrize("count", [2, 3])
def test_all_are_marked_page_by_page_and_each_is_noted(
    shared: Database, ours: Factory, payload: Payload, kind: Kind, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expiring, "_PAGE", 2)
    rows = set(made(ours, kind, count))
    assert work(shared, payload) == {"marked": count}
    assert marked(shared, ours, kind) == rows
    noted = {UUID(row[0]) for row in shared.rows(EVENTS, (f"{kind}.expired", ours.tenant_id))}
    assert noted == rows
    assert work(shared, payload) == {"marked": 0}


def test_personas_are_kept_with_what_they_were(shared: Database, ours: Factory) -> None:
    [persona] = made(ours, "persona")
    before = "SELECT to_jsonb(p) - 'expired_at' FROM people.personas p WHERE id = %s"
    kept = shared.value(before, (persona,))
    work(shared, ExpirePersonas())
    assert shared.value(before, (persona,)) == kept


def test_a_key_that_was_revoked_stays_revoked(shared: Database, ours: Factory) -> None:
    made(ours, "api_key", status="revoked", revoked_at=LONG_AGO)
    assert work(shared, ExpireApiKeys()) == {"marked": 0}
    assert marked(shared, ours, "api_key") == set()


@pytest.mark.parametrize("kind", KINDS)
def test_a_mark_is_made_once(shared: Database, ours: Factory, kind: Kind) -> None:
    [row_id] = made(ours, kind)
    system = shared.connect("system")
    for _ in range(2):
        with system.transaction():
            expiry.mark(system, kind, [row_id])
    assert len(shared.rows(EVENTS, (f"{kind}.expired", ours.tenant_id))) == 1
