"""Enqueue by SQL from any language: two functions that refuse, and a bare INSERT that is held when it is wrong."""

import json
from typing import Any, LiteralString
from uuid import UUID

import psycopg
import pytest

from db import queue
from db.connection import Connection, KeptConnection
from db.queries import Queries
from db.tasks import cancel, replay
from pipelines.enqueue import enqueue
from pipelines.outcomes import Done
from pipelines.payload import Payload
from pipelines.registry import Registry
from pipelines.task import Task
from tests.support import tasks
from tests.support.database import Database
from tests.support.engine import Line, publish
from workers.rescue import Caretaker

GOOD = {"word": "hello", "amount": 3, "ref": "3b1f6c1e-9d2a-4d0e-8a52-1f2f3a4b5c6d"}
WRONG: dict[str, Any] = {
    "missing field": {"word": "hello", "amount": 3},
    "extra field": GOOD | {"colour": "red"},
    "wrong type": GOOD | {"amount": "three"},
    "out of range": GOOD | {"amount": 101},
    "no uuid": GOOD | {"ref": "x"},
    "no object": [1, 2],
}


def bare(connection: Connection, task_type: str, payload: Any) -> UUID:
    query = "INSERT INTO queue.outbox_tasks (task_type, payload) VALUES (%s, %s) RETURNING id"
    [(task_id,)] = connection.execute(query, (task_type, json.dumps(payload))).fetchall()
    return UUID(str(task_id))


def release(line: Line, task_id: UUID) -> None:
    Queries("tasks").run(line.database.connect("operator"), "release", {"id": task_id})


def test_by_function(database: Database, line: Line) -> None:
    producer = database.connect("producer")
    [(one,)] = producer.execute("SELECT queue.enqueue('test.strict', %s)", (json.dumps(GOOD),)).fetchall()
    query = "SELECT queue.enqueue_many('test.noop', ARRAY['{}', '{\"n\": 2}']::jsonb[], '{\"priority\": 5}')"
    many = [row[0] for row in producer.execute(query).fetchall()]
    assert (line.task(one)["queue"], line.task(one)["payload_version"]) == ("strict", 2)
    assert [line.task(i)["priority"] for i in many] == [5, 5]
    assert line.run_once() == 3
    assert database.rows("SELECT DISTINCT status FROM queue.outbox_tasks") == [("done",)]


def test_by_bare_insert(database: Database, line: Line) -> None:
    task_id = bare(database.connect("producer"), "test.strict", GOOD)
    row = line.task(task_id)
    assert (row["queue"], row["priority"], row["max_attempts"], row["payload_version"]) == ("strict", 3, 7, 2)
    assert (row["hold_reason"], row["tenant_id"]) == (None, UUID("00000000-0000-7000-8000-000000000001"))
    line.run_once()
    assert line.task(task_id)["status"] == "done"


def test_by_bare_insert_with_a_date(database: Database, line: Line) -> None:
    columns = "INSERT INTO queue.outbox_tasks (task_type, payload, run_after)"
    database.connect("producer").execute(columns + " VALUES ('test.noop', '{}', now() + interval '1 day')")
    assert line.run_once() == 0


EXPLICIT = {"queue": "default", "priority": 0, "max_attempts": 5}  # what the house gives a type that says nothing


def said(line: Line, task_id: UUID) -> dict[str, Any]:
    return {name: line.task(task_id)[name] for name in EXPLICIT}


def bare_and_explicit(database: Database) -> UUID:
    query = (
        "INSERT INTO queue.outbox_tasks (task_type, payload, queue, priority, max_attempts)"
        " VALUES ('test.strict', %s, 'default', 0, 5) RETURNING id"
    )
    [(task_id,)] = database.connect("producer").execute(query, (json.dumps(GOOD),)).fetchall()
    return UUID(str(task_id))


def test_what_a_bare_insert_says_stands_against_its_type(database: Database, line: Line) -> None:
    assert said(line, bare_and_explicit(database)) == EXPLICIT


def test_what_a_bare_insert_says_stands_when_its_type_is_published_later(database: Database) -> None:
    explicit, silent = bare_and_explicit(database), bare(database.connect("producer"), "test.strict", GOOD)
    line = Line(database, Registry(tasks.TASKS))
    assert said(line, explicit) == said(line, silent) == EXPLICIT
    for task_id in (explicit, silent):
        release(line, task_id)
    assert said(line, explicit) == EXPLICIT
    assert said(line, silent) == {"queue": "strict", "priority": 3, "max_attempts": 7}
    line.close()


def test_what_its_producer_left_open_is_remembered_through_cancel_and_replay(database: Database) -> None:
    task_id = bare(database.connect("producer"), "test.strict", GOOD)
    operator = database.connect("operator")
    assert cancel(operator, task_id, "not yet")
    assert replay(operator, [task_id]) == [task_id]
    line = Line(database, Registry(tasks.TASKS))
    release(line, task_id)
    assert said(line, task_id) == {"queue": "strict", "priority": 3, "max_attempts": 7}
    line.close()


@pytest.mark.parametrize("moment", ["infinity", "-infinity", "12000-01-01", "0044-03-15 BC", "1969-12-31 23:59+00"])
@pytest.mark.parametrize(
    "statement",
    [
        "SELECT queue.enqueue('test.noop', '{}', jsonb_build_object('run_after', %s::text))",
        "INSERT INTO queue.outbox_tasks (task_type, payload, run_after) VALUES ('test.noop', '{}', %s)",
    ],
)
def test_a_time_that_clients_cannot_read_is_refused(
    database: Database, line: Line, moment: str, statement: LiteralString
) -> None:
    with pytest.raises(psycopg.Error, match=r"run_after.*between.the.years.1970.and.9998") as caught:
        database.connect("producer").execute(statement, (moment,))
    assert caught.value.sqlstate in {"GR003", "23514"}


def test_rolled_back_leaves_nothing(database: Database, line: Line) -> None:
    producer = database.connect("producer")
    with producer.transaction(force_rollback=True):
        bare(producer, "test.noop", {})
        producer.execute("SELECT queue.enqueue('test.noop', '{}')")
    assert database.value("SELECT count(*) FROM queue.outbox_tasks") == 0


@pytest.mark.parametrize("payload", WRONG.values(), ids=WRONG)
def test_a_wrong_payload_is_refused_by_the_function_and_held_in_a_bare_insert(
    database: Database, line: Line, payload: Any
) -> None:
    producer = database.connect("producer")
    with pytest.raises(psycopg.Error) as caught:
        producer.execute("SELECT queue.enqueue('test.strict', %s)", (json.dumps(payload),))
    assert caught.value.sqlstate == "GR002"
    task_id = bare(producer, "test.strict", payload)
    assert line.task(task_id)["hold_reason"].startswith("invalid payload: ")
    assert line.run_once() == 0
    release(line, task_id)
    assert line.task(task_id)["hold_reason"].startswith("invalid payload: "), "judged anew, and still wrong"


@pytest.mark.parametrize(
    "options", ['{"colour": 1}', '{"priority": 1000}', '{"tenant_id": "00000000-0000-4000-8000-000000000009"}']
)
def test_wrong_options_are_refused_by_the_function(database: Database, line: Line, options: str) -> None:
    with pytest.raises(psycopg.Error):
        database.connect("producer").execute("SELECT queue.enqueue('test.noop', '{}', %s)", (options,))
    assert database.value("SELECT count(*) FROM queue.outbox_tasks") == 0


def test_an_unknown_type_is_refused_by_the_function(database: Database, line: Line) -> None:
    with pytest.raises(psycopg.Error) as caught:
        database.connect("producer").execute("SELECT queue.enqueue('test.nobody', '{}')")
    assert caught.value.sqlstate == "GR001"


def test_an_unknown_type_is_held_until_it_is_published_and_released(database: Database) -> None:
    line = Line(database, Registry([task for task in tasks.TASKS if task.name != "test.strict"]))
    task_id = bare(database.connect("producer"), "test.strict", GOOD)
    held = line.task(task_id)
    assert held["status"] == "pending"
    assert "unknown task type test.strict" in held["hold_reason"]
    assert line.run_once() == 0
    release(line, task_id)
    assert "unknown task type" in line.task(task_id)["hold_reason"]
    line.close()

    line = Line(database, Registry(tasks.TASKS))
    assert line.run_once() == 0, "published is not released: an operator decides"
    release(line, task_id)
    row = line.task(task_id)
    assert (row["hold_reason"], row["queue"], row["priority"], row["max_attempts"], row["payload_version"]) == (
        None,
        "strict",
        3,
        7,
        2,
    )
    line.run_once()
    assert line.task(task_id)["status"] == "done"
    line.close()


@pytest.mark.parametrize("way", ["function", "insert", "held"])
def test_an_alias_leads_to_the_type(database: Database, way: str) -> None:
    producer = database.connect("producer")
    held = bare(producer, "test.stern", GOOD)
    line = Line(database, Registry(tasks.TASKS))
    if way == "function":
        [(task_id,)] = producer.execute("SELECT queue.enqueue('test.stern', %s)", (json.dumps(GOOD),)).fetchall()
    elif way == "insert":
        task_id = bare(producer, "test.stern", GOOD)
    else:
        task_id = held
        release(line, task_id)
    assert line.task(task_id)["task_type"] == "test.strict"
    line.run_once()
    assert line.task(task_id)["status"] == "done"
    line.close()


class Stern(Payload):
    """What `test.strict` was called before."""

    task_type = "test.stern"

    word: str
    amount: int
    ref: UUID


def test_tasks_of_the_old_name_run_after_a_rename(database: Database) -> None:
    publish(database, Registry([Task(payload=Stern, run=lambda context, payload: Done())]))
    task_id = bare(database.connect("producer"), "test.stern", GOOD)
    assert database.value("SELECT hold_reason FROM queue.outbox_tasks") is None
    line = Line(database, Registry(tasks.TASKS))
    line.run_once()
    assert line.task(task_id)["status"] == "done"
    line.close()


@pytest.mark.parametrize("status", ["suspended", "deleted"])
def test_the_tasks_of_a_suspended_tenant_are_held(database: Database, line: Line, status: str) -> None:
    tenant = database.value(
        "INSERT INTO identity.tenants (name, slug, status) VALUES ('B', 'b', %s) RETURNING id", (status,)
    )
    ids = []
    producer = database.connect("producer")
    with producer.transaction():
        producer.execute("SELECT set_config('app.current_tenant_id', %s, true)", (str(tenant),))
        ids.append(bare(producer, "test.noop", {}))
        ids += [row[0] for row in producer.execute("SELECT queue.enqueue('test.noop', '{}')").fetchall()]
    assert {line.task(i)["hold_reason"] for i in ids} == {f"tenant is {status}"}
    assert line.run_once() == 0


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT queue.enqueue('test.noop', '{}')",
        "INSERT INTO queue.outbox_tasks (task_type, payload) VALUES ('test.noop', '{}')",
    ],
)
def test_a_task_that_was_not_committed_yet_is_released_with_its_tenant(
    database: Database, line: Line, statement: str
) -> None:
    tenant = database.value(
        "INSERT INTO identity.tenants (name, slug, status) VALUES ('B', 'b', 'suspended') RETURNING id"
    )
    producer, owner = database.connect("producer"), database.connect()
    owner.execute("SET lock_timeout = '5s'")
    with producer.transaction():
        producer.execute("SELECT set_config('app.current_tenant_id', %s, true)", (str(tenant),))
        producer.execute(statement.encode())
        # A producer that dawdles does not hold up its tenant's return.
        owner.execute("UPDATE identity.tenants SET status = 'active' WHERE id = %s", (tenant,))
    assert database.rows("SELECT hold_reason FROM queue.outbox_tasks") == [("tenant is suspended",)]
    caretaker = Caretaker(KeptConnection(database.url("relay"), name="caretaker"), 30.0)
    caretaker.run_once()
    caretaker.close()
    assert database.rows("SELECT hold_reason FROM queue.outbox_tasks") == [(None,)]
    assert line.run_once() == 1


def test_whoever_inserts_a_held_task_lets_it_go(database: Database, line: Line) -> None:
    task_id = database.value(
        "INSERT INTO queue.outbox_tasks (task_type, payload, hold_reason) VALUES ('test.noop', '{}', 'wait for legal')"
        " RETURNING id"
    )
    assert line.run_once() == 0
    assert line.task(task_id)["hold_reason"] == "wait for legal"
    assert Queries("tasks").count(database.connect("operator"), "release", {"id": task_id}) == 1
    assert line.run_once() == 1


def test_a_tenant_that_nobody_knows_is_refused_by_the_function_and_held_in_a_bare_insert(
    database: Database, line: Line
) -> None:
    nobody = "00000000-0000-4000-8000-000000000009"
    owner = database.connect()
    with pytest.raises(psycopg.Error, match=f"unknown tenant {nobody}") as caught:
        owner.execute("SELECT queue.enqueue('test.noop', '{}', %s)", (json.dumps({"tenant_id": nobody}),))
    assert caught.value.sqlstate == "GR003"
    query = "INSERT INTO queue.outbox_tasks (task_type, payload, tenant_id) VALUES ('test.noop', '{}', %s)"
    owner.execute(query, (nobody,))
    assert database.value("SELECT hold_reason FROM queue.outbox_tasks") == f"unknown tenant {nobody}"
    assert line.run_once() == 0


def test_suspending_a_tenant_holds_what_waits_and_what_comes_back(database: Database, line: Line) -> None:
    tenant = database.value("INSERT INTO identity.tenants (name, slug) VALUES ('B', 'b') RETURNING id")
    owner = database.connect()
    waiting, away = (enqueue(owner, tasks.Noop(n=n), tenant_id=tenant) for n in range(2))
    [claim] = [c for c in line.claim() if c.task_id == away]
    queue.give_back(line.relay, [(waiting, claim.claim_number)])
    database.rows("UPDATE identity.tenants SET status = 'suspended' WHERE id = %s", (tenant,))
    queue.give_back(line.relay, [(claim.task_id, claim.claim_number)])

    assert line.task(waiting)["hold_reason"] == "tenant is suspended"
    assert line.run_once() == 0
    database.rows("UPDATE identity.tenants SET status = 'active' WHERE id = %s", (tenant,))
    assert line.run_once() == 2


def test_a_system_task_belongs_to_no_tenant(database: Database, line: Line) -> None:
    [(task_id,)] = database.connect("operator").execute("SELECT queue.enqueue('test.roll', '{}')").fetchall()
    assert line.task(task_id)["tenant_id"] is None
    tenant = json.dumps({"tenant_id": "00000000-0000-7000-8000-000000000001"})
    with pytest.raises(psycopg.Error) as caught:
        database.connect("operator").execute("SELECT queue.enqueue('test.roll', '{}', %s)", (tenant,))
    assert caught.value.sqlstate == "GR003"
    line.run_once()
    assert line.task(task_id)["result"] == {"tenants": 1}
