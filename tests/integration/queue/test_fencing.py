"""Leases and fencing: who lost its lease writes nothing (I2, I3), and the guard is shown to be what prevents it."""

from collections.abc import Callable

import pytest
from psycopg import sql

from core import events
from db import leases, queue
from db.queries import Queries, _load
from pipelines.enqueue import enqueue
from pipelines.outcomes import Done, Outcome
from pipelines.registry import Registry
from pipelines.task import Task, TaskContext
from tests.support.database import Database
from tests.support.engine import Line
from tests.support.tasks import Noop, Write, effect

OPERATOR = Queries("tasks")


def line_with(database: Database, meanwhile: Callable[[], object]) -> Line:
    """A line whose handler of `test.write` lets `meanwhile` happen once, while its attempt runs."""
    pending = [meanwhile]

    def run(context: TaskContext, payload: Write) -> Outcome:
        if pending:
            pending.pop()()
        return Done(apply=effect(payload.n))

    return Line(database, Registry([Task(payload=Write, run=run), Task(payload=Noop, run=lambda c, p: Done())]))


def lose_the_lease(database: Database) -> None:
    relay = database.connect("relay")
    database.rows("UPDATE queue.tasks_live SET lease_until = now() - interval '1 s' WHERE status = 'in_progress'")
    assert queue.rescue(relay, 10) == (1, 0, 0)


def run_twice(database: Database) -> Line:
    """A worker loses its lease while it computes; another runs the task; then the first comes to its end."""

    def meanwhile() -> None:
        lose_the_lease(database)
        other = line_with(database, lambda: None)
        assert other.run_once() == 1
        other.close()

    line = line_with(database, meanwhile)
    enqueue(database.connect("producer"), Write(n=1))
    line.run_once()
    line.close()
    return line


def test_who_lost_its_lease_writes_nothing(effects: Database, recorded: list[events.Event]) -> None:
    run_twice(effects)
    assert effects.rows("SELECT n FROM effects") == [(1,)]
    assert effects.rows("SELECT status, attempts FROM queue.outbox_tasks") == [("done", 2)]
    assert any(isinstance(event, events.AttemptLost) for event in recorded)


def test_without_the_guard_the_effect_happens_twice(effects: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above would be red without the guard: here it is taken out, and the effect doubles (I2, I3)."""
    monkeypatch.setitem(
        _load("leases"), "finish",
        sql.SQL("SELECT id FROM unnest(%(ids)s::uuid[], %(claims)s::integer[]) AS given (id, claim_number)"),
    )  # fmt: skip
    run_twice(effects)
    assert effects.rows("SELECT n FROM effects") == [(1,), (1,)]


def test_without_the_claim_number_an_old_message_starts_a_task_again(
    effects: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same for the compare-and-set of the take: without it an old message runs what another claim is for."""
    line = line_with(effects, lambda: None)
    task_id = enqueue(effects.connect("producer"), Write(n=1))
    old = line.claim(claim_seconds=-1)
    queue.reclaim(line.relay, 10)
    assert line.claim() != old
    line.run(old)
    assert line.task(task_id)["status"] == "pending"
    text = Queries("leases").text("take").as_string(None)
    loose = text.replace("AND live.claim_number = given.claim_number", "")
    assert loose != text
    monkeypatch.setitem(_load("leases"), "take", sql.SQL(loose))
    line.run(old)
    assert line.task(task_id)["attempts"] == 1
    line.close()


@pytest.mark.parametrize("statement", ["finish", "reschedule"])
def test_a_late_end_touches_no_row(database: Database, line: Line, statement: str) -> None:
    task_id = enqueue(database.connect("producer"), Noop())
    [attempt] = line.take(line.claim())
    lose_the_lease(database)
    if statement == "finish":
        assert leases.finish(line.worker, [leases.Ending(attempt, "done")], line.process.id) == set()
    else:
        assert leases.reschedule(line.worker, [leases.Rescheduling(attempt, 5)], line.process.id) == set()
    assert (line.task(task_id)["status"], line.task(task_id)["is_due"]) == ("pending", True)


def test_rescue_counts_the_attempt_and_fails_the_last(database: Database, line: Line) -> None:
    task_id = enqueue(database.connect("producer"), Noop(), max_attempts=2)
    for expected in ((1, 0, 0), (0, 1, 0)):
        assert len(line.take(line.claim())) == 1
        leases.expire_leases(line.worker, line.process.id)
        assert queue.rescue(line.relay, 10) == expected
    row = line.task(task_id)
    assert (row["status"], row["attempts"]) == ("failed", 2)
    assert "lease ran out" in row["last_error"]
    assert [kept[:2] for kept in line.attempts(task_id)] == [(1, "lost"), (2, "lost")]


def test_a_lease_is_renewed_but_never_past_the_time_limit(database: Database, line: Line) -> None:
    enqueue(database.connect("producer"), Noop())
    line.take(line.claim(), lease_seconds=1, time_limit=20)
    assert leases.renew(line.worker, line.process.id, 10) == 1
    assert database.value("SELECT lease_until > now() + interval '8 s' FROM queue.tasks_live")
    assert leases.renew(line.worker, line.process.id, 1000) == 1
    assert database.value("SELECT lease_until = deadline_at FROM queue.tasks_live")
    assert leases.renew(line.worker, line.process.id, 1000) == 0
    assert queue.rescue(line.relay, 10) == (0, 0, 0)


def test_a_time_limit_that_ran_out_is_rescued_as_such(database: Database, line: Line) -> None:
    task_id = enqueue(database.connect("producer"), Noop())
    line.take(line.claim(), lease_seconds=0, time_limit=-1)
    assert queue.rescue(line.relay, 10) == (1, 0, 0)
    assert "time limit" in line.task(task_id)["last_error"]


def test_what_a_stopping_worker_hands_back_costs_no_attempt(database: Database, line: Line) -> None:
    task_id = enqueue(database.connect("producer"), Noop())
    line.take(line.claim())
    assert leases.hand_back(line.worker, line.process.id) == 1
    row = line.task(task_id)
    assert (row["status"], row["attempts"], row["lease_until"]) == ("pending", 0, None)
    assert [kept[:2] for kept in line.attempts(task_id)] == [(1, "handed_back")]
    assert line.run_once() == 1
    assert line.task(task_id)["status"] == "done"


def test_a_task_that_was_tried_before_travels_alone(database: Database, line: Line) -> None:
    producer = database.connect("producer")
    tried = enqueue(producer, Noop())
    line.take(line.claim())
    leases.expire_leases(line.worker, line.process.id)
    queue.rescue(line.relay, 10)
    for _ in range(3):
        enqueue(producer, Noop())
    claims = line.claim()
    assert {c.batch_size for c in claims if c.task_id == tried} == {1}
    assert line.run(claims) == 2


def test_replay_revives_once_and_leaves_a_taken_key_alone(database: Database, line: Line) -> None:
    operator, producer = database.connect("operator"), database.connect("producer")
    task_id = enqueue(producer, Noop(), unique_key="k")
    OPERATOR.run(operator, "cancel", {"id": task_id, "reason": "x"})
    younger = enqueue(producer, Noop(), unique_key="k")
    assert OPERATOR.run(operator, "replay", {"ids": [task_id], "until": None}) == []
    assert line.task(task_id)["status"] == "cancelled", "a younger task has its key: it stays where it is"
    line.run_once()
    assert line.task(younger)["status"] == "done"
    assert len(OPERATOR.run(operator, "replay", {"ids": [task_id], "until": None})) == 1
    assert OPERATOR.run(operator, "replay", {"ids": [task_id], "until": None}) == []
    row = line.task(task_id)
    assert (row["status"], row["attempts"], row["unique_key"]) == ("pending", 0, "k")
    line.run_once()
    assert line.task(task_id)["status"] == "done"


def test_who_was_lost_twice_comes_back_at_a_random_moment(database: Database) -> None:
    """A task that kills its worker time and again shall not find the same neighbours there each time."""
    line = line_with(database, lambda: None)
    for _ in range(20):
        enqueue(database.connect("producer"), Noop())

    def lose_all() -> list[float]:
        line.take(line.claim())
        leases.expire_leases(line.worker, line.process.id)
        assert queue.rescue(line.relay, 100) == (20, 0, 0)
        query = "SELECT extract(epoch FROM run_after - now())::float8 FROM queue.tasks_live WHERE NOT is_due"
        return [delay for (delay,) in database.rows(query)]

    assert lose_all() == [], "the first loss is nobody's fault: at once"
    delays = lose_all()
    assert len(delays) == 20
    assert max(delays) <= 4
    assert max(delays) - min(delays) > 0.5
    line.close()
