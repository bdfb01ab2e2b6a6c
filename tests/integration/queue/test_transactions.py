"""Compute, then apply: effects and completion are one transaction, which is not the handler's to end (I2)."""

from datetime import timedelta
from typing import Literal

import psycopg
import pytest

from db import tasks
from db.connection import is_pooled
from pipelines.enqueue import enqueue, enqueue_many
from pipelines.outcomes import Done, Outcome, Snooze
from pipelines.payload import Payload
from pipelines.registry import Registry
from pipelines.task import Task, TaskContext
from pipelines.transaction import Transaction
from tests.support.database import Database
from tests.support.engine import Line
from tests.support.tasks import Insert, Misbehave, Noop, Orm, Roll, Spawn, Write, WriteMany
from workers.testing import run_task

ENDINGS = [
    "COMMIT",
    "commit work",
    "ROLLBACK",
    "END",
    "ABORT",
    "BEGIN",
    "PREPARE TRANSACTION 'x'",
    "  -- a remark\n COMMIT",
    "/* a /* nested */ remark */ COMMIT",
    ";COMMIT",
    "SELECT 1; COMMIT",
    "SELECT 1; COMMIT; BEGIN",
    "DO $$ BEGIN COMMIT; END $$",
    "method:commit",
    "method:rollback",
    "session:commit",
    "session:rollback",
]


@pytest.mark.parametrize("how", ENDINGS)
def test_a_handler_cannot_end_the_transaction(effects: Database, line: Line, how: str) -> None:
    task_id = enqueue(effects.connect("producer"), Misbehave(how=how))
    while line.run_once():
        pass
    row = line.task(task_id)
    assert row["status"] == "failed", row["last_error"]
    assert effects.rows("SELECT * FROM effects") == []
    # and the worker's connection still works for others
    other = enqueue(effects.connect("producer"), Write(n=1))
    line.run_once()
    assert line.task(other)["status"] == "done"
    assert effects.rows("SELECT n FROM effects") == [(1,)]


def test_one_bad_apply_in_a_hundred_leaves_ninety_nine_effects(effects: Database, line: Line) -> None:
    ids = enqueue_many(effects.connect("producer"), [WriteMany(n=n, bad=n == 37) for n in range(100)])
    assert line.run(line.claim()) == 1, "they travel in one message"
    assert {n for (n,) in effects.rows("SELECT n FROM effects")} == set(range(100)) - {37}
    assert effects.value("SELECT count(*) FROM effects") == 99
    bad = line.task(ids[37])
    assert (bad["status"], bad["attempts"]) == ("pending", 1)
    assert "DivisionByZero" in bad["last_error"]
    assert effects.rows("SELECT status, count(*) FROM queue.outbox_tasks GROUP BY 1 ORDER BY 1") == [
        ("done", 99),
        ("pending", 1),
    ]


@pytest.mark.parametrize(
    "constraint", ["UNIQUE (n)", "UNIQUE (n) DEFERRABLE INITIALLY DEFERRED"], ids=["at once", "at the commit"]
)
def test_when_the_common_transaction_fails_each_runs_alone(database: Database, line: Line, constraint: str) -> None:
    database.rows("CREATE TABLE public.checked (n integer)")
    database.rows(f"ALTER TABLE public.checked ADD CONSTRAINT once {constraint}")
    database.rows("GRANT INSERT ON public.checked TO greenroom_worker")
    ids = enqueue_many(database.connect("producer"), [Insert(n=n) for n in (1, 2, 3, 2, 4)])
    line.run_once()
    assert database.rows("SELECT n FROM public.checked ORDER BY n") == [(1,), (2,), (3,), (4,)]
    assert [line.task(i)["status"] for i in ids].count("done") == 4
    [loser] = [line.task(i) for i in ids if line.task(i)["status"] == "failed"]
    assert "once" in loser["last_error"]


def test_tasks_enqueued_in_an_apply_come_with_its_commit(effects: Database, line: Line) -> None:
    task_id = enqueue(effects.connect("producer"), Spawn(count=3))
    line.run_once()
    assert line.task(task_id)["status"] == "done"
    assert effects.value("SELECT count(*) FROM queue.tasks_live WHERE task_type = 'test.noop'") == 3


def test_tasks_enqueued_in_an_apply_that_fails_do_not_come(effects: Database, line: Line) -> None:
    effects.rows("ALTER TABLE effects ADD CHECK (n <> 3)")
    enqueue(effects.connect("producer"), Spawn(count=3))
    line.run_once()
    assert effects.value("SELECT count(*) FROM queue.outbox_tasks WHERE task_type = 'test.noop'") == 0


def test_a_task_may_enqueue_its_successor_under_its_own_key(effects: Database) -> None:
    """It has ended by then, so that its key is free."""

    def run(context: TaskContext, payload: Noop) -> Outcome:
        def apply(transaction: Transaction) -> None:
            transaction.enqueue(Noop(n=payload.n + 1), unique_key="k")

        return Done(apply=apply)

    line = Line(effects, Registry([Task(payload=Noop, run=run)]))
    first = enqueue(effects.connect("producer"), Noop(n=1), unique_key="k")
    line.run_once()
    [(second, n)] = effects.rows("SELECT id, payload->>'n' FROM queue.tasks_live WHERE unique_key = 'k'")
    assert (line.task(first)["status"], second != first, n) == ("done", True, "2")
    line.close()


def test_a_snooze_that_was_cancelled_meanwhile_keeps_what_its_effects_say_of_the_task(effects: Database) -> None:
    """As a replay notes where it stands: the row goes to history after that, not before."""

    def run(context: TaskContext, payload: Noop) -> Outcome:
        def apply(transaction: Transaction) -> None:
            note = "UPDATE queue.tasks_live SET metadata = '{\"stands\": 7}' WHERE id = %s"
            transaction.execute(note, (context.task_id,))

        assert tasks.cancel(operator, context.task_id, "not wanted") == "requested"
        return Snooze(timedelta(0), apply)

    operator = effects.connect("operator")
    line = Line(effects, Registry([Task(payload=Noop, run=run)]))
    task_id = enqueue(effects.connect("producer"), Noop())
    line.run_once()
    row = line.task(task_id)
    assert (row["status"], row["metadata"]) == ("cancelled", {"stands": 7})
    line.close()


def test_what_a_handler_reads_with_refuses_to_write(effects: Database) -> None:
    refusals: list[str | None] = []

    def refusal(statement: str, context: TaskContext) -> str | None:
        try:
            with context.read() as transaction:
                transaction.execute("SELECT count(*) FROM effects")
                transaction.execute(statement)
        except psycopg.Error as error:
            return error.sqlstate
        return None

    def run(context: TaskContext, payload: Noop) -> Outcome:
        refusals.append(refusal("INSERT INTO effects (n) VALUES (1)", context))
        refusals.append(refusal("SET TRANSACTION READ WRITE", context))
        return Done()

    line = Line(effects, Registry([Task(payload=Noop, run=run)]))
    enqueue(effects.connect("producer"), Noop())
    line.run_once()
    assert refusals == ["25006", "25001"]
    line.close()


def test_a_session_writes_into_the_same_transaction(effects: Database, line: Line) -> None:
    ids = enqueue_many(effects.connect("producer"), [Orm(n=n) for n in range(3)])
    line.run_once()
    assert [line.task(i)["last_error"] for i in ids] == [None] * 3
    assert effects.rows("SELECT n FROM effects ORDER BY n") == [(0,), (1,), (2,)]


@pytest.mark.parametrize("ending", ENDINGS[:6])
def test_what_a_system_task_does_outside_stays_whatever_becomes_of_it(effects: Database, ending: str) -> None:
    def run(context: TaskContext, payload: Roll) -> Outcome:
        with context.outside() as connection:
            connection.execute("INSERT INTO public.effects (n) VALUES (1)")
            connection.execute(ending.encode())
        return Done()

    outward = Task(payload=Roll, run=run, scope="system", outside=True, batch_size=1)
    ended = run_task(effects, outward, Roll())
    assert (ended.status, ended.error) == (
        "failed",
        "PermanentError: a handler cannot begin or end a transaction, nor change its session but by SET LOCAL",
    )
    assert effects.rows("SELECT n FROM effects") == [(1,)]


@pytest.mark.parametrize(("payload", "scope"), [(Noop, "tenant"), (Roll, "system")])
def test_a_type_that_is_not_declared_so_has_no_outside(
    effects: Database, payload: type[Payload], scope: Literal["tenant", "system"]
) -> None:
    def run(context: TaskContext, payload: Payload) -> Outcome:
        with context.outside() as connection:
            connection.execute("INSERT INTO public.effects (n) VALUES (1)")
        return Done()

    ended = run_task(effects, Task(payload=payload, run=run, scope=scope), payload())
    assert ended.status == "failed"
    assert "declare it with Task(…, outside=True)" in (ended.error or "")
    assert effects.rows("SELECT n FROM effects") == []


def test_outside_waits_as_long_as_the_task_may_take_on_a_connection_of_its_own(effects: Database) -> None:
    seen = []

    def run(context: TaskContext, payload: Roll) -> Outcome:
        with context.read() as reading, context.outside() as connection:
            [inside] = reading.execute("SELECT pg_backend_pid()").fetchall()
            [beside] = connection.execute("SELECT pg_backend_pid()").fetchall()
            seen.append((inside == beside, getattr(connection, "answer_seconds", None), is_pooled(connection)))
        return Done()

    limit = timedelta(hours=6)
    run_task(effects, Task(payload=Roll, run=run, scope="system", outside=True, batch_size=1, time_limit=limit), Roll())
    assert seen == [(False, 6 * 3600.0, False)]


def test_a_lost_connection_at_the_commit_is_made_good(effects: Database, line: Line) -> None:
    """The backend is killed between two messages: the next attempt connects anew."""
    enqueue(effects.connect("producer"), Write(n=1))
    line.run_once()
    with psycopg.connect(effects.superuser_url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'greenroom worker tenant'"
            " AND datname = current_database()"
        )
    task_id = enqueue(effects.connect("producer"), Write(n=2))
    while line.task(task_id)["status"] != "done":
        line.run_once()
        effects.rows(
            "UPDATE queue.tasks_live SET claimed_until = now() - interval '1 s' WHERE claimed_until IS NOT NULL"
        )
        effects.rows("UPDATE queue.tasks_live SET claimed_until = NULL WHERE claimed_until IS NOT NULL")
    assert effects.rows("SELECT n FROM effects ORDER BY n") == [(1,), (2,)]
