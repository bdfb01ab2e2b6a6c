"""Enqueue from Python: over every kind of connection, in the caller's transaction, refused early with a typed error."""

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from core.errors import InvalidOptionsError, InvalidPayloadError, UnknownTaskTypeError
from pipelines.enqueue import enqueue, enqueue_async, enqueue_many
from pipelines.payload import Payload
from tests.support.database import Database
from tests.support.engine import Line
from tests.support.tasks import Noop, Report, Strict
from tests.support.waiting import eventually

pytestmark = pytest.mark.usefixtures("line")  # which publishes the task types
GOOD = {"word": "hello", "amount": 3, "ref": "3b1f6c1e-9d2a-4d0e-8a52-1f2f3a4b5c6d"}


def count(database: Database) -> int:
    return int(database.value("SELECT count(*) FROM queue.outbox_tasks"))


def sqlalchemy_url(database: Database) -> str:
    return database.url("producer").replace("postgresql://", "postgresql+psycopg://")


class Nobody(Payload):
    task_type = "test.nobody"


@pytest.mark.parametrize("commits", [True, False])
def test_over_a_psycopg_connection(database: Database, commits: bool) -> None:
    with psycopg.connect(database.url("producer")) as connection:
        ids = [enqueue(connection, Noop(n=1)), *enqueue_many(connection, [Noop(n=n) for n in range(10)])]
        connection.cursor().execute("SELECT 1")
        assert count(database) == 0, "nobody sees it before the commit"
        if not commits:
            connection.rollback()
    assert len(set(ids)) == 11
    assert count(database) == (11 if commits else 0)


@pytest.mark.parametrize("commits", [True, False])
def test_over_a_cursor_and_a_sqlalchemy_session_and_connection(database: Database, commits: bool) -> None:
    engine = create_engine(sqlalchemy_url(database), poolclass=NullPool)
    with psycopg.connect(database.url("producer")) as plain, Session(engine) as session, engine.connect() as connection:
        enqueue(plain.cursor(), Noop())
        enqueue(session, Noop())
        enqueue_many(connection, [Noop(), Noop()])
        for each in (plain, session, connection):
            each.commit() if commits else each.rollback()
    engine.dispose()
    assert count(database) == (4 if commits else 0)


@pytest.mark.parametrize("commits", [True, False])
def test_over_an_async_session(database: Database, commits: bool) -> None:
    async def produce() -> None:
        engine = create_async_engine(sqlalchemy_url(database), poolclass=NullPool)
        async with AsyncSession(engine) as session:
            await enqueue_async(session, Noop())
            await (session.commit() if commits else session.rollback())
        await engine.dispose()

    asyncio.run(produce())
    assert count(database) == (1 if commits else 0)


def test_ids_come_in_the_order_of_the_payloads(database: Database) -> None:
    ids = enqueue_many(database.connect("producer"), [Noop(n=n) for n in range(300)])
    rows = dict(database.rows("SELECT id, (payload->>'n')::integer FROM queue.outbox_tasks"))
    assert [rows[i] for i in ids] == list(range(300))
    assert enqueue_many(database.connect("producer"), []) == []


def test_a_task_follows_its_type_and_its_options(database: Database, line: Line) -> None:
    producer = database.connect("producer")
    plain = line.task(enqueue(producer, Strict.model_validate(GOOD)))
    assert (plain["queue"], plain["priority"], plain["max_attempts"], plain["payload_version"]) == ("strict", 3, 7, 2)
    assert plain["tenant_id"] == database.value("SELECT identity.default_tenant_id()")
    moment, owner = datetime.now(UTC) + timedelta(hours=1), uuid4()
    given = line.task(
        enqueue(
            producer, Noop(), queue="own", priority=-7, run_after=moment, unique_key="k", max_attempts=1,
            owner_kind="thing", owner_id=owner, metadata={"a": [1]},
        )
    )  # fmt: skip
    assert (given["queue"], given["priority"], given["run_after"], given["unique_key"]) == ("own", -7, moment, "k")
    assert (given["max_attempts"], given["owner_kind"], given["owner_id"]) == (1, "thing", owner)
    assert (given["metadata"], given["is_due"]) == ({"a": [1]}, False)


@pytest.mark.parametrize(
    "options",
    [
        {"colour": "red"},
        {"priority": 101},
        {"priority": True},
        {"priority": "high"},
        {"max_attempts": 0},
        {"max_attempts": 101},
        {"queue": ""},
        {"queue": "q" * 101},
        {"unique_key": "k" * 201},
        {"unique_key": 5},
        {"owner_kind": "document"},
        {"owner_id": UUID(int=7)},
        {"run_after": datetime(2030, 1, 1)},  # noqa: DTZ001 - the missing zone is what is refused
        {"run_after": "tomorrow"},
        {"run_after": datetime(9999, 1, 1, tzinfo=UTC)},
        {"run_after": datetime(1969, 12, 31, tzinfo=UTC)},
        {"tenant_id": UUID(int=7)},
        {"tenant_id": "no uuid"},
        {"metadata": {"a": object()}},
        {"metadata": "text"},
    ],
    ids=lambda options: f"{next(iter(options))}-{next(iter(options.values()))!s:.12}",
)
def test_wrong_options_are_refused_before_the_commit(database: Database, options: Any) -> None:
    with psycopg.connect(database.url("producer")) as connection, pytest.raises(InvalidOptionsError):
        enqueue(connection, Noop(), **options)
    assert count(database) == 0


def test_a_unique_key_for_several_tasks_is_refused(database: Database) -> None:
    with pytest.raises(InvalidOptionsError):
        enqueue_many(database.connect("producer"), [Noop(), Noop()], unique_key="k")


def test_an_unknown_type_and_a_mixed_bag_are_refused(database: Database) -> None:
    with pytest.raises(UnknownTaskTypeError, match=r"test\.nobody") as caught:
        enqueue(database.connect("producer"), Nobody())
    assert caught.value.task_type == "test.nobody"
    with pytest.raises(InvalidPayloadError):
        enqueue_many(database.connect("producer"), [Noop(), Nobody()])
    assert count(database) == 0


def test_errors_are_the_same_over_sqlalchemy(database: Database) -> None:
    engine = create_engine(sqlalchemy_url(database), poolclass=NullPool)
    with Session(engine) as session, pytest.raises(UnknownTaskTypeError):
        enqueue(session, Nobody())
    engine.dispose()


@pytest.mark.parametrize("text", ["a\0b", "\ud800 alone"], ids=["nul", "surrogate"])
def test_text_that_postgres_cannot_store_is_refused_with_a_typed_error(database: Database, text: str) -> None:
    with pytest.raises(InvalidPayloadError):
        enqueue(database.connect("producer"), Report(text=text))


def test_a_payload_above_its_limit_is_refused_with_a_typed_error(database: Database) -> None:
    large = database.value("SELECT string_agg(md5(n::text), '') FROM generate_series(1, 40000) n")
    with pytest.raises(InvalidPayloadError):
        enqueue(database.connect("producer"), Report(text=large))


def test_a_unique_key_keeps_the_live_task(database: Database, line: Line) -> None:
    producer = database.connect("producer")
    first = enqueue(producer, Noop(n=1), unique_key="k")
    assert enqueue(producer, Noop(n=2), unique_key="k") == first
    assert enqueue(producer, Noop(n=2), unique_key="other") != first
    assert line.task(first)["payload"] == {"n": 1}
    while line.run_once():
        pass
    again = enqueue(producer, Noop(n=3), unique_key="k")
    assert again != first, "an ended task has given its key back"


@pytest.mark.parametrize("commits", [True, False])
def test_a_second_transaction_waits_for_the_first_of_a_unique_key(database: Database, commits: bool) -> None:
    found: list[Any] = []
    with psycopg.connect(database.url("producer")) as one:
        first = enqueue(one, Noop(), unique_key="k")
        other = database.connect("producer")
        thread = threading.Thread(target=lambda: found.append(enqueue(other, Noop(), unique_key="k")))
        thread.start()
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid = %s"
        eventually(lambda: database.value(waiting, (other.info.backend_pid,)))
        one.commit() if commits else one.rollback()
        thread.join(10)
    assert (found == [first]) is commits
    assert count(database) == 1


def test_a_unique_key_is_the_tenants_own(database: Database) -> None:
    other = database.value("INSERT INTO identity.tenants (name, slug) VALUES ('B', 'b') RETURNING id")
    first = enqueue(database.connect("producer"), Noop(), unique_key="k")
    connection = database.connect("producer")
    with connection.transaction():
        connection.execute("SELECT set_config('app.current_tenant_id', %s, true)", (str(other),))
        second = enqueue(connection, Noop(), unique_key="k")
    assert first != second
