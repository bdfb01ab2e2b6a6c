"""What handlers and producers may do that no step expects: nothing is lost, doubled or kept for ever."""

import threading
import time
from contextlib import suppress
from datetime import timedelta
from typing import Any, cast
from uuid import uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb

from db import leases, queue
from pipelines.enqueue import enqueue
from pipelines.outcomes import Done, Outcome, Retry, Snooze
from pipelines.payload import Payload
from pipelines.registry import Registry
from pipelines.task import Task, TaskContext
from pipelines.transaction import Transaction
from tests.support.database import Database
from tests.support.engine import Line


class Odd(Payload):
    """Does what the test says."""

    task_type = "test.odd"
    secret_fields = ("pin",)
    pin: str = ""


def line_of(database: Database, run: Any, **options: Any) -> Line:
    """Return a line whose one task type runs `run`."""
    return Line(database, Registry([Task(payload=Odd, run=run, **options)]))


def test_system_exit_is_an_attempt_that_failed(database: Database) -> None:
    def run(context: TaskContext, payload: Odd) -> Outcome:
        raise SystemExit(3)

    line = line_of(database, run)
    task_id = enqueue(database.connect("producer"), Odd())
    line.run_once()

    task = line.task(task_id)
    assert (task["status"], task["attempts"]) == ("pending", 1)
    assert "SystemExit" in task["last_error"]
    line.close()


@pytest.mark.parametrize("outcome", [None, "done", Snooze(cast(timedelta, 5)), Retry("later", cast(timedelta, 30))])
def test_what_is_no_outcome_fails_the_task(database: Database, outcome: Any) -> None:
    line = line_of(database, lambda context, payload: outcome)
    task_id = enqueue(database.connect("producer"), Odd())
    line.run_once()

    assert line.task(task_id)["status"] == "failed"
    line.close()


def test_effects_for_another_tenant_still_complete_the_task_once(effects: Database) -> None:
    def apply(transaction: Transaction) -> None:
        transaction.execute("INSERT INTO effects (n) VALUES (1)")
        transaction.execute("SELECT set_config('app.current_tenant_id', %s, true)", (str(uuid4()),))

    line = line_of(effects, lambda context, payload: Done(apply=apply))
    task_id = enqueue(effects.connect("producer"), Odd())
    line.run_once()

    assert line.task(task_id)["status"] == "done"
    assert effects.value("SELECT count(*) FROM effects") == 1
    line.close()


@pytest.mark.parametrize("statement", ["SET app.current_tenant_id = 'x'", "RESET ALL", "DISCARD ALL", "LISTEN x"])
def test_a_handler_cannot_change_the_workers_session(database: Database, statement: str) -> None:
    line = line_of(database, lambda context, payload: Done(apply=lambda transaction: _ignore(transaction, statement)))
    task_id = enqueue(database.connect("producer"), Odd())
    line.run_once()

    assert line.task(task_id)["status"] == "failed"
    line.close()


def _ignore(transaction: Transaction, statement: str) -> None:
    transaction.execute(statement)


def test_a_permanent_error_of_the_database_is_the_tasks_own(database: Database) -> None:
    def apply(transaction: Transaction) -> None:
        transaction.execute("SELECT to_tsvector(repeat('a b c d ', 400000) || string_agg(n::text, ' ')) "
                            "FROM generate_series(1, 300000) AS n")  # fmt: skip

    line = line_of(database, lambda context, payload: Done(apply=apply))
    task_id = enqueue(database.connect("producer"), Odd())
    line.run_once()

    task = line.task(task_id)
    assert (task["status"], task["attempts"]) == ("pending", 1)
    assert "ProgramLimitExceeded" in task["last_error"]
    line.close()


def test_a_batch_that_exceeds_its_limit_is_not_run_again(database: Database) -> None:
    calls: list[int] = []

    def run_batch(items: Any) -> list[Outcome]:
        calls.append(len(items))
        from core.errors import TimeLimitError

        raise TimeLimitError

    registry = Registry([Task(payload=Odd, run_batch=run_batch, batch_size=10)])
    line = Line(database, registry)
    producer = database.connect("producer")
    line.executor.sizes.measured("test.odd", 1, 0.0, handling=0.0)
    ids = [enqueue(producer, Odd()) for _ in range(3)]
    line.run_once()

    assert calls == [3]
    assert {line.task(task_id)["attempts"] for task_id in ids} == {1}
    line.close()


def test_what_was_given_up_is_rescued(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    line = line_of(database, lambda context, payload: Done())
    task_id = enqueue(database.connect("producer"), Odd())

    def breaks(*_: object) -> None:
        raise RuntimeError("no step expects this")

    monkeypatch.setattr(line.executor._recorder, "record", breaks)
    with pytest.raises(RuntimeError):
        line.run_once()
    line.executor.given_up.run_once()
    line.executor.given_up.close()

    assert leases.renew(line.worker, line.process.id, 30.0) == 0
    assert queue.rescue(line.relay, 10) == (1, 0, 0)
    assert line.task(task_id)["last_error"] == "the worker gave the attempt up"
    line.close()


def test_a_secret_field_is_scrubbed_however_short(database: Database) -> None:
    def run(context: TaskContext, payload: Odd) -> Outcome:
        raise ValueError(f"login with pin {payload.pin} refused")

    line = line_of(database, run)
    task_id = enqueue(database.connect("producer"), Odd(pin="4821"))
    line.run_once()

    assert "4821" not in line.task(task_id)["last_error"]
    line.close()


def test_a_foreign_version_that_is_no_version_stops_no_rescue(database: Database) -> None:
    line = line_of(database, lambda context, payload: Done(), max_attempts=1)
    producer = database.connect("producer")
    producer.execute(
        "INSERT INTO queue.outbox_tasks (task_type, payload, owner_kind, owner_id)"
        " VALUES ('test.odd', %s, 'document', %s)",
        (Jsonb({"version": 99999999999}), uuid4()),
    )
    innocent = enqueue(producer, Odd())
    database.rows("UPDATE queue.tasks_live SET hold_reason = NULL, payload_version = 1, max_attempts = 1")
    line.take(line.claim())
    database.rows("UPDATE queue.tasks_live SET lease_until = now() - interval '1 s'")

    assert queue.rescue(line.relay, 10) == (0, 2, 0)
    assert line.task(innocent)["status"] == "failed"
    line.close()


@pytest.mark.parametrize("column", ["payload_version", "rank", "is_due", "hold_reason", "status", "claim_number"])
def test_a_producer_cannot_write_the_machines_columns(database: Database, column: str) -> None:
    Line(database, Registry([Task(payload=Odd, run=lambda context, payload: Done())])).close()
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        database.connect("producer").execute(
            f"INSERT INTO queue.outbox_tasks (task_type, payload, {column}) VALUES ('test.odd', '{{}}', DEFAULT)"  # noqa: S608 - our own names
        )


def test_a_producer_reaches_no_other_tenant_through_enqueue(database: Database) -> None:
    Line(database, Registry([Task(payload=Odd, run=lambda context, payload: Done())])).close()
    other = database.value("INSERT INTO identity.tenants (name, slug) VALUES ('B', 'b') RETURNING id")
    with pytest.raises(Exception, match="not bound to the tenant"):
        enqueue(database.connect("producer"), Odd(), tenant_id=other)


class Free(Payload):
    """Takes whatever JSON there is."""

    task_type = "test.free"
    value: Any = None


def test_a_payload_that_is_no_object_fails_its_own_task(database: Database) -> None:
    line = line_of(database, lambda context, payload: Done())
    task_id = database.value(
        "INSERT INTO queue.outbox_tasks (task_type, payload, payload_version, tenant_id, queue, priority, max_attempts)"
        " VALUES ('test.odd', '[]', 1, identity.default_tenant_id(), 'default', 0, 5) RETURNING id"
    )
    line.run_once()

    task = line.task(task_id)
    assert (task["status"], task["last_error"]) == ("failed", "invalid payload: Input should be an object")
    line.close()


@pytest.mark.parametrize("value", ["1e5000", "[" * 3000 + "]" * 3000], ids=["digits", "depth"])
def test_json_that_python_refuses_fails_its_own_task_alone(database: Database, value: str) -> None:
    task: Task[Free] = Task(payload=Free, run=lambda context, payload: Done(), batch_size=10, max_attempts=1)
    line = Line(database, Registry([task]))
    producer = database.connect("producer")
    insert = "INSERT INTO queue.outbox_tasks (task_type, payload) VALUES ('test.free', %s::jsonb)"
    for text in ("1", value, "2"):
        producer.execute(insert, (f'{{"value": {text}}}',))
    while line.run_once():
        pass

    query = "SELECT status, last_error FROM queue.outbox_tasks ORDER BY id"
    first, second, third = database.rows(query)
    assert (first[0], third[0]) == ("done", "done")
    assert second[0] == "failed"
    assert second[1].startswith("invalid payload: Invalid JSON: ")
    line.close()


def test_a_result_that_the_row_has_no_room_for_is_computed_once(effects: Database) -> None:
    def apply(transaction: Transaction) -> None:
        transaction.execute("INSERT INTO effects (n) VALUES (1)")

    line = line_of(effects, lambda context, payload: Done(list(range(100_000)), apply))
    task_id = enqueue(effects.connect("producer"), Odd())
    line.run_once()

    task = line.task(task_id)
    assert (task["status"], task["attempts"]) == ("failed", 1)
    assert "store it elsewhere" in task["last_error"]
    assert effects.rows("SELECT n FROM effects") == []
    line.close()


def test_progress_reported_while_effects_are_written_waits_for_nothing(effects: Database) -> None:
    def run(context: TaskContext, payload: Odd) -> Outcome:
        return Done(apply=lambda transaction: context.progress(1.0, "written"))

    line = line_of(effects, run)
    task_id = enqueue(effects.connect("producer"), Odd())
    started = time.monotonic()
    line.run_once()

    assert line.task(task_id)["status"] == "done"
    assert time.monotonic() - started < 10, "it waited for its own lock until the statement timed out"
    line.close()


def test_a_handler_reads_on_after_its_connection_was_lost(database: Database) -> None:
    def run(context: TaskContext, payload: Odd) -> Outcome:
        with context.read() as transaction:
            [(pid,)] = transaction.execute("SELECT pg_backend_pid()").fetchall()
        with psycopg.connect(database.superuser_url) as superuser:
            superuser.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
        with suppress(psycopg.OperationalError), context.read() as transaction:
            transaction.execute("SELECT 1")
        with context.read() as transaction:
            return Done(transaction.execute("SELECT 2").fetchall()[0][0])

    line = line_of(database, run)
    task_id = enqueue(database.connect("producer"), Odd())
    line.run_once()

    task = line.task(task_id)
    assert (task["status"], task["attempts"], task["result"]) == ("done", 1, 2), task["last_error"]
    line.close()


def test_what_was_computed_stands_though_the_database_blinks_as_the_rest_goes_back(
    effects: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part is left half begun, at the moment in which its connection goes: the begun half pays no attempt."""

    def run(context: TaskContext, payload: Odd) -> Outcome:
        line.executor.drain()
        with psycopg.connect(effects.superuser_url) as superuser:
            name = "greenroom worker tenant"
            superuser.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE application_name = %s AND datname = %s",
                (name, effects.name),
            )
        return Done()

    line = line_of(effects, run, batch_size=2)
    monkeypatch.setattr(line.executor.sizes, "next_size", lambda name, waiting: waiting)
    for _ in range(2):
        enqueue(effects.connect("producer"), Odd())
    line.run_once()

    assert effects.rows("SELECT status, attempts FROM queue.outbox_tasks ORDER BY status") == [
        ("done", 1),
        ("pending", 0),
    ]
    assert effects.rows("SELECT * FROM queue.attempts") == []
    line.close()


def test_a_task_has_ended_by_the_time_its_effects_are_written(effects: Database) -> None:
    def run(context: TaskContext, payload: Odd) -> Outcome:
        def apply(transaction: Transaction) -> None:
            deleted = transaction.execute("DELETE FROM queue.tasks_live WHERE id = %s", (context.task_id,)).rowcount
            transaction.execute("INSERT INTO effects (n) VALUES (%s)", (deleted,))

        return Done(apply=apply)

    line = line_of(effects, run)
    task_id = enqueue(effects.connect("producer"), Odd())
    line.run_once()

    assert line.task(task_id)["status"] == "done"
    assert effects.rows("SELECT n FROM effects") == [(0,)], "there was nothing left to tamper with"
    line.close()


def test_the_threads_of_a_handler_open_no_connections_of_their_own(database: Database) -> None:
    def run(context: TaskContext, payload: Odd) -> Outcome:
        found: list[int] = []

        def look() -> None:
            with context.read() as transaction:
                found.append(transaction.execute("SELECT pg_backend_pid()").fetchall()[0][0])

        for _ in range(3):
            thread = threading.Thread(target=look)
            thread.start()
            thread.join()
        return Done(len(set(found)))

    line = line_of(database, run)
    task_id = enqueue(database.connect("producer"), Odd())
    line.run_once()

    assert line.task(task_id)["result"] == 1
    line.close()
