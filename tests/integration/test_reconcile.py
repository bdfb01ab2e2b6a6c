"""`counters.reconcile`: each cached count and time, made wrong, is right again, whoever writes meanwhile."""

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from psycopg import sql
from pydantic import ValidationError

from db import counters
from db.connection import Connection, bind_tenant, connect, tenant_transaction
from db.counters import Counter
from pipelines.care import counters as counting
from pipelines.care.counters import TASKS, ReconcileCounters
from pipelines.enqueue import enqueue
from pipelines.registry import Registry
from tests.support.database import Database
from tests.support.engine import publish
from tests.support.factory import Factory
from tests.support.statements import changed, rows, value
from tests.support.tenants import named, new_tenant
from tests.support.waiting import eventually
from workers.testing import drain

JANUARY = datetime(2026, 1, 1, tzinfo=UTC)
GREATEST = 2**63 - 1
SPOILED = 1_000_000
CONVERSATIONS, MESSAGES = "assistants.conversations", "assistants.messages"
SAY = "INSERT INTO assistants.messages (tenant_id, conversation_id, role, content) VALUES (%s, %s, 'user', 'hi')"
UNSAY = """
DELETE FROM assistants.messages WHERE id = (SELECT id FROM assistants.messages WHERE conversation_id = %s LIMIT 1)
"""
WAITS = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid = %s"
Parts = tuple[UUID, Any]
"""The row that holds a counter, and what it ought to hold."""


@pytest.fixture
def factory(database: Database) -> Iterator[Factory]:
    """The maker of a tenant's rows."""
    with new_tenant(database) as factory:
        yield factory


def _messages(factory: Factory) -> Parts:
    conversation = factory.row(CONVERSATIONS)["id"]
    for _ in range(3):
        factory.row(MESSAGES, conversation_id=conversation)
    return conversation, 3


def _contacts(factory: Factory) -> Parts:
    client = factory.row("assistants.clients")["id"]
    for day in (2, 1):
        factory.row(CONVERSATIONS, client_id=client, started_at=JANUARY + timedelta(days=day))
    return client, JANUARY + timedelta(days=2)


def _key_uses(factory: Factory) -> Parts:
    user = factory.row("identity.users")["id"]
    for day in (2, 1):
        factory.row("identity.api_keys", user_id=user, last_used_at=JANUARY + timedelta(days=day))
    return user, JANUARY + timedelta(days=2)


def _activities(factory: Factory) -> Parts:
    user = factory.row("identity.users", last_active_at=JANUARY)["id"]
    session = factory.row("identity.user_sessions", user_id=user)["id"]
    for day in (2, 1):
        done = JANUARY + timedelta(days=day)
        factory.row("identity.session_activities", user_session_id=session, created_at=done)
    return user, JANUARY + timedelta(days=2)


def _personas(factory: Factory) -> Parts:
    mapper = factory.row("people.mapper_configs")["id"]
    for given in ({"mapper_id": mapper}, {"mapper_id": mapper}, {}):
        factory.row("people.personas", **given)
    return mapper, 2


def _document(factory: Factory, collection: UUID | None = None, chunks: int = 2, **given: Any) -> UUID:
    """Make a document that readers see the second version of, and its chunks."""
    versions = {"current_version": 2, "next_version": 3, "chunk_count": chunks}
    document: UUID = factory.row("knowledge.documents", collection_id=collection, **versions, **given)["id"]
    for version, count in ((2, chunks), (3, 1)):
        for index in range(count):
            factory.row("knowledge.chunks", document_id=document, version=version, chunk_index=index)
    return document


def _chunks(factory: Factory) -> Parts:
    return _document(factory), 2


def _documents(factory: Factory) -> Parts:
    collection = factory.row("knowledge.collections")["id"]
    for deleted_at in (None, None, JANUARY):
        _document(factory, collection, deleted_at=deleted_at)
    return collection, 2


def _documents_chunks(factory: Factory) -> Parts:
    collection, _ = _documents(factory)
    return collection, 4


def _usage(factory: Factory) -> Parts:
    quota = factory.row("billing.tenant_quotas", metric_type="tokens", period="day")["id"]
    this = factory.owner.execute("SELECT date_trunc('day', now(), 'UTC')").fetchone()
    assert this is not None
    for metric, start, used in (
        ("tokens", this[0], 20),
        ("tokens", this[0] + timedelta(hours=23), 3),
        ("tokens", this[0] - timedelta(seconds=1), 100),
        ("calls", this[0], 1000),
    ):
        period = {"period_start": start, "period_end": start + timedelta(hours=1)}
        factory.row("billing.usage_metrics", metric_type=metric, metric_value=used, **period)
    return quota, 23


CASES: dict[Counter, tuple[Callable[[Factory], Parts], Any]] = {
    Counter.MESSAGES: (_messages, 7),
    Counter.LAST_CONTACT: (_contacts, None),
    Counter.KEY_USE: (_key_uses, JANUARY),
    Counter.ACTIVITY: (_activities, JANUARY),
    Counter.MAPPER_USAGE: (_personas, 7),
    Counter.DOCUMENT_CHUNKS: (_chunks, 0),
    Counter.DOCUMENTS: (_documents, 7),
    Counter.COLLECTION_CHUNKS: (_documents_chunks, 7),
    Counter.QUOTA: (_usage, 7),
}
"""By counter: what makes a row with all that it counts, and a wrong value."""


def held(connection: Connection, counter: Counter, row_id: UUID) -> Any:
    """Return what a row holds."""
    table, _, column = counter.rpartition(".")
    query = sql.SQL("SELECT {} FROM {} WHERE id = %s").format(sql.Identifier(column), named(table))
    return value(connection, query, row_id)


def spoil(connection: Connection, counter: Counter, row_id: UUID, wrong: Any = 7) -> None:
    """Have a row hold what is wrong."""
    table, _, column = counter.rpartition(".")
    update = sql.SQL("UPDATE {} SET {} = %s WHERE id = %s").format(named(table), sql.Identifier(column))
    assert changed(connection, update, wrong, row_id) == 1


def reconciled(database: Database, *chosen: Counter) -> dict[str, Any]:
    """Run the task to its end and return its result, without the counters that nothing was wrong with."""
    registry = Registry(TASKS)
    publish(database, registry)
    task_id = enqueue(database.connect(), ReconcileCounters(counters=chosen))
    drain(database, registry)
    [(status, result)] = database.rows("SELECT status, result FROM queue.tasks_history WHERE id = %s", (task_id,))
    assert status == "done"
    assert set(result["mended"]) == {counter.value for counter in chosen or Counter}
    found: dict[str, Any] = result | {"mended": {each: rows for each, rows in result["mended"].items() if rows}}
    return found


def test_every_counter_has_its_case() -> None:
    assert set(CASES) == set(Counter)


@pytest.mark.parametrize("counter", Counter)
def test_a_counter_that_is_wrong_is_mended(database: Database, factory: Factory, counter: Counter) -> None:
    make, wrong = CASES[counter]
    row_id, right = make(factory)
    reconciled(database)  # what nobody else counts is counted now
    assert held(factory.owner, counter, row_id) == right
    spoil(factory.owner, counter, row_id, wrong)
    assert reconciled(database)["mended"] == {counter.value: 1}
    assert held(factory.owner, counter, row_id) == right


@pytest.mark.parametrize("counter", Counter)
def test_a_row_that_is_right_is_not_written(database: Database, factory: Factory, counter: Counter) -> None:
    row_id, _ = CASES[counter][0](factory)
    reconciled(database)
    stands = sql.SQL("SELECT xmin::text, ctid::text FROM {} WHERE id = %s").format(named(counter.rpartition(".")[0]))
    before = rows(factory.owner, stands, row_id)
    result = reconciled(database)
    assert (result["mended"], result["busy"]) == ({}, 0)
    assert rows(factory.owner, stands, row_id) == before


def test_a_time_that_was_of_something_gone_is_not_set_back(database: Database, factory: Factory) -> None:
    later = JANUARY + timedelta(days=30)
    made = {
        counter: CASES[counter][0](factory)[0] for counter in (Counter.LAST_CONTACT, Counter.KEY_USE, Counter.ACTIVITY)
    }
    for counter, row_id in made.items():
        spoil(factory.owner, counter, row_id, later)
    assert reconciled(database, *made)["mended"] == {}
    assert [held(factory.owner, *each) for each in made.items()] == [later] * 3


def test_a_user_whose_time_is_mended_was_not_changed(database: Database, factory: Factory) -> None:
    user, _ = _key_uses(factory)
    spoil(factory.owner, Counter.KEY_USE, user, JANUARY)
    assert reconciled(database)["mended"] == {Counter.KEY_USE: 1}
    assert value(factory.owner, "SELECT version FROM identity.users WHERE id = %s", user) == 1


def test_all_tenants_are_counted_page_by_page(
    database: Database, factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counters, "_QUERIES", {each: (name, 2) for each, (name, _) in counters._QUERIES.items()})
    monkeypatch.setattr(counting, "_PAGES", 2)
    with new_tenant(database) as other:
        wrong = [each.row(CONVERSATIONS)["id"] for each in (factory, other) for _ in range(7)]
        right = [_messages(each)[0] for each in (factory, other) for _ in range(7)]
        for row_id in wrong:
            spoil(factory.owner, Counter.MESSAGES, row_id)
        result = reconciled(database, Counter.MESSAGES, Counter.QUOTA)
    assert result == {"looked_at": 28, "mended": {Counter.MESSAGES: 14}, "busy": 0}
    assert {held(factory.owner, Counter.MESSAGES, row_id) for row_id in wrong} == {0}
    assert {held(factory.owner, Counter.MESSAGES, row_id) for row_id in right} == {3}


def test_only_what_is_named_is_counted(database: Database, factory: Factory) -> None:
    made = {counter: CASES[counter][0](factory)[0] for counter in (Counter.MESSAGES, Counter.DOCUMENTS)}
    for counter, row_id in made.items():
        spoil(factory.owner, counter, row_id)
    assert reconciled(database, Counter.DOCUMENTS)["mended"] == {Counter.DOCUMENTS: 1}
    assert held(factory.owner, Counter.MESSAGES, made[Counter.MESSAGES]) == 7


def test_a_counter_that_is_not_there_is_refused() -> None:
    for told in (["nothing"], "all", 1):
        with pytest.raises(ValidationError, match="counters"):
            ReconcileCounters.model_validate_json(json.dumps({"counters": told}))


# ------------------------------------------------------------------------------------------------ what is counted


def test_messages_of_a_month_that_was_dropped_are_not_counted(database: Database, factory: Factory) -> None:
    conversation, _ = _messages(factory)
    month = "SELECT to_char((now() + interval '1 month') AT TIME ZONE 'UTC', 'YYYY_MM')"
    next_month = "SELECT date_trunc('month', now() + interval '1 month', 'UTC')"
    factory.row(MESSAGES, conversation_id=conversation, created_at=database.value(next_month))
    assert held(factory.owner, Counter.MESSAGES, conversation) == 4
    leaf = f"assistants.messages_{database.value(month)}"
    database.rows(f"ALTER TABLE assistants.messages DETACH PARTITION {leaf}")
    assert reconciled(database)["mended"] == {Counter.MESSAGES: 1}
    assert held(factory.owner, Counter.MESSAGES, conversation) == 3


@pytest.mark.parametrize(("period", "used"), [("day", 1), ("month", 11), ("total", 111)])
def test_a_quotas_use_is_that_of_its_period(database: Database, factory: Factory, period: str, used: int) -> None:
    quota = factory.row("billing.tenant_quotas", metric_type="tokens", period=period)["id"]
    since = database.value("SELECT date_trunc(NULLIF(%s, 'total'), now(), 'UTC')", (period,))
    starts = "SELECT date_trunc('day', now(), 'UTC'), date_trunc('month', now(), 'UTC')"
    [(day, month)] = database.rows(starts)
    for start, metric_value in ((day, 1), (month, 10), (month - timedelta(seconds=1), 100)):
        measure = {"metric_type": "tokens", "period_end": start + timedelta(hours=1)}
        factory.row("billing.usage_metrics", metric_value=metric_value, period_start=start, **measure)
    reconciled(database, Counter.QUOTA)
    found = rows(factory.owner, "SELECT used_value, used_since FROM billing.tenant_quotas WHERE id = %s", quota)
    assert found == [(used + (10 if period == "day" and day == month else 0), since)]


def test_a_use_that_no_number_holds_stops_nobody(database: Database, factory: Factory) -> None:
    quota = factory.row("billing.tenant_quotas", metric_type="tokens", period="total")["id"]
    start = database.value("SELECT date_trunc('day', now(), 'UTC')")
    for _ in range(2):
        measure = {"metric_type": "tokens", "period_start": start, "period_end": start + timedelta(hours=1)}
        factory.row("billing.usage_metrics", metric_value=GREATEST, **measure)
    document = _document(factory, factory.row("knowledge.collections")["id"])
    spoil(factory.owner, Counter.DOCUMENT_CHUNKS, document, 2**31 - 1)
    assert reconciled(database, Counter.QUOTA, Counter.DOCUMENTS)["mended"] == {Counter.QUOTA: 1, Counter.DOCUMENTS: 1}
    assert held(factory.owner, Counter.QUOTA, quota) == GREATEST


def test_chunks_that_no_number_holds_stop_nobody(database: Database, factory: Factory) -> None:
    collection = factory.row("knowledge.collections")["id"]
    for _ in range(2):
        spoil(factory.owner, Counter.DOCUMENT_CHUNKS, _document(factory, collection), 2**31 - 1)
    reconciled(database, Counter.COLLECTION_CHUNKS)
    assert held(factory.owner, Counter.COLLECTION_CHUNKS, collection) == 2**31 - 1
    reconciled(database)
    assert held(factory.owner, Counter.COLLECTION_CHUNKS, collection) == 4


# ------------------------------------------------------------------------------------------------ while others write


@contextmanager
def writing(database: Database, factory: Factory, conversation: UUID) -> Iterator[Connection]:
    """A worker's transaction that has added a message to a conversation, committed behind the block."""
    with connect(database.url("worker"), name="test writer") as worker, worker.transaction():
        bind_tenant(worker, factory.tenant_id)
        changed(worker, SAY, factory.tenant_id, conversation)
        yield worker


def test_what_somebody_writes_is_left_and_said(database: Database, factory: Factory) -> None:
    conversation, right = _messages(factory)
    spoil(factory.owner, Counter.MESSAGES, conversation)
    with ThreadPoolExecutor(1) as threads, writing(database, factory, conversation):
        result = threads.submit(reconciled, database, Counter.MESSAGES).result(20)
        assert (result["mended"], result["busy"]) == ({}, 1)
    assert reconciled(database)["mended"] == {Counter.MESSAGES: 1}
    assert held(factory.owner, Counter.MESSAGES, conversation) == right + 1


def test_who_writes_what_is_being_mended_waits_and_adds_to_it(database: Database, factory: Factory) -> None:
    conversation, right = _messages(factory)
    spoil(factory.owner, Counter.MESSAGES, conversation)
    system, worker = database.connect("system"), database.connect("worker")

    def write() -> None:
        with tenant_transaction(worker, factory.tenant_id):
            changed(worker, SAY, factory.tenant_id, conversation)

    with ThreadPoolExecutor(1) as threads:
        with system.transaction():
            assert counters.mend(system, Counter.MESSAGES, [conversation]) == counters.Mended(1, 0)
            waiting = threads.submit(write)
            eventually(lambda: database.value(WAITS, (worker.info.backend_pid,)))
        waiting.result(10)
    assert held(factory.owner, Counter.MESSAGES, conversation) == right + 1


def test_what_is_mended_is_right_at_every_moment_of_a_race_with_writers(database: Database, factory: Factory) -> None:
    conversations = [_messages(factory)[0] for _ in range(4)]
    is_over = threading.Event()

    def write(own: int) -> int:
        writes = 0
        with connect(database.url("worker"), name="test writer") as worker:
            while not is_over.is_set():
                conversation = conversations[(own + writes) % 4]
                with tenant_transaction(worker, factory.tenant_id):
                    for _ in range(3):
                        changed(worker, SAY, factory.tenant_id, conversation)
                    changed(worker, UNSAY, conversation)
                writes += 1
        return writes

    system, mended = database.connect("system"), 0
    with ThreadPoolExecutor(3) as threads:
        writers = [threads.submit(write, own) for own in range(3)]
        try:
            while mended < 200:
                spoil(system, Counter.MESSAGES, conversations[mended % 4], SPOILED)
                with system.transaction():
                    mended += counters.mend(system, Counter.MESSAGES, conversations).rows
                wrong = counters.look(system, Counter.MESSAGES, UUID(int=0)).wrong
                assert [row_id for row_id in wrong if held(system, Counter.MESSAGES, row_id) < SPOILED] == []
        finally:
            is_over.set()
    assert sum(writer.result() for writer in writers) > 100
