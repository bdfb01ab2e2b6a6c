"""Each outcome's row afterwards: done, retry, snooze, fail, cancel; bounds of retries and snoozes; attempts kept."""

from datetime import timedelta

import pytest

from core.errors import WaitTimeoutError
from db import leases, queue
from pipelines.enqueue import enqueue
from pipelines.outcomes import Done, Outcome, Retry
from pipelines.payload import Payload
from pipelines.registry import Registry
from pipelines.task import RetryPolicy, Task, TaskContext
from pipelines.waiting import wait_for, wait_for_all
from tests.support.database import Database
from tests.support.engine import Line, claim_from
from tests.support.tasks import Answer, Noop, Raise, Report, Strict, Write


def due_in(database: Database) -> float:
    return float(database.value("SELECT extract(epoch FROM run_after - now()) FROM queue.tasks_live"))


def wake_all(database: Database) -> None:
    database.rows("UPDATE queue.tasks_live SET run_after = now(), is_due = true WHERE status = 'pending'")


def test_done(effects: Database, line: Line) -> None:
    task_id = enqueue(effects.connect("producer"), Answer(outcome="done", n=5))
    line.run_once()
    row = line.task(task_id)
    assert (row["status"], row["attempts"], row["result"], row["progress"]) == ("done", 1, {"said": "done"}, 1.0)
    assert row["completed_at"] >= row["started_at"] >= row["created_at"]
    assert (row["lease_until"], row["claimed_until"], row["last_error"]) == (None, None, None)
    assert line.attempts(task_id) == []
    assert effects.rows("SELECT n FROM effects") == [(5,)]


def test_retry_waits_and_counts(effects: Database, line: Line) -> None:
    task_id = enqueue(effects.connect("producer"), Answer(outcome="retry", seconds=100))
    line.run_once()
    row = line.task(task_id)
    assert (row["status"], row["attempts"], row["last_error"], row["is_due"]) == ("pending", 1, "try again", False)
    assert 99 <= due_in(effects) <= 101
    assert line.run_once() == 0
    assert line.attempts(task_id) == [(1, "retry", "try again", None)]


def test_out_of_attempts_is_failed_and_every_attempt_is_kept(database: Database, line: Line) -> None:
    task_id = enqueue(database.connect("producer"), Raise(), max_attempts=3)
    for _ in range(5):
        line.run_once()
    row = line.task(task_id)
    assert (row["status"], row["attempts"]) == ("failed", 3)
    assert row["failed_at"] is not None
    kept = line.attempts(task_id)
    assert [(number, outcome) for number, outcome, *_ in kept] == [(1, "retry"), (2, "retry"), (3, "fail")]
    assert all(error.startswith("RuntimeError") and "tasks.py" in trace for _, _, error, trace in kept)


def test_a_permanent_error_fails_at_once(database: Database, line: Line) -> None:
    task_id = enqueue(database.connect("producer"), Raise(kind="permanent"))
    line.run_once()
    assert (line.task(task_id)["status"], line.task(task_id)["attempts"]) == ("failed", 1)


def test_retry_after_is_bounded(database: Database, line: Line) -> None:
    enqueue(database.connect("producer"), Raise(kind="later"))
    line.run_once()
    assert due_in(database) <= RetryPolicy().longest.total_seconds()


def test_snooze_costs_no_attempt_and_is_bounded(effects: Database, line: Line) -> None:
    task_id = enqueue(effects.connect("producer"), Answer(outcome="snooze", seconds=50))
    line.run_once()
    row = line.task(task_id)
    assert (row["status"], row["attempts"], row["snoozes"]) == ("pending", 0, 1)
    assert 49 <= due_in(effects) <= 51
    for _ in range(10):
        wake_all(effects)
        line.run_once()
    row = line.task(task_id)
    assert (row["status"], row["snoozes"]) == ("failed", 3)
    assert "snoozed more than 3 times" in row["last_error"]
    assert [outcome for _, outcome, *_ in line.attempts(task_id)] == ["snooze", "snooze", "snooze", "fail"]
    assert effects.value("SELECT count(*) FROM effects") == 3, "one that failed writes nothing"


def test_one_snooze_is_bounded_too(effects: Database, line: Line) -> None:
    enqueue(effects.connect("producer"), Answer(outcome="snooze", seconds=1e8))
    line.run_once()
    assert due_in(effects) <= timedelta(days=7).total_seconds()


@pytest.mark.parametrize(("outcome", "status", "written"), [("fail", "failed", 0), ("cancel", "cancelled", 1)])
def test_fail_and_cancel_end_the_task(effects: Database, line: Line, outcome: str, status: str, written: int) -> None:
    task_id = enqueue(effects.connect("producer"), Answer.model_validate({"outcome": outcome}))
    line.run_once()
    assert line.task(task_id)["status"] == status
    assert [kept[1] for kept in line.attempts(task_id)] == [outcome]
    assert effects.value("SELECT count(*) FROM effects") == written


class Odd(Payload):
    """A handler that returns what `kind` says."""

    task_type = "test.odd"
    kind: str


def _odd(context: TaskContext, payload: Odd) -> Outcome:
    odd: dict[str, object] = {
        "none": None,
        "object": Done(object()),
        "large": Done("x" * 2_000_000),
        "nul": Done("a\0b"),
    }
    if payload.kind == "reason":
        return Retry("x" * 100_000 + "\0", timedelta(0))
    return odd[payload.kind]  # type: ignore[return-value]  # that is what is tested


@pytest.mark.parametrize("kind", ["none", "object", "large", "nul", "reason"])
def test_an_outcome_that_cannot_be_stored_fails_the_task(database: Database, kind: str) -> None:
    line = Line(database, Registry([Task(payload=Odd, run=_odd, max_attempts=1)]))
    task_id = enqueue(database.connect("producer"), Odd(kind=kind))
    line.run_once()
    assert line.task(task_id)["status"] == "failed"
    line.close()


def test_an_older_payload_is_upgraded_and_a_newer_one_waits(database: Database, line: Line) -> None:
    good = Strict.model_validate({"word": "x", "amount": 1, "ref": "3b1f6c1e-9d2a-4d0e-8a52-1f2f3a4b5c6d"})
    old, new = (enqueue(database.connect("producer"), good) for _ in range(2))
    database.rows(
        "UPDATE queue.tasks_live SET payload_version = 1, payload = payload - 'word' || '{\"name\": \"before\"}'"
        " WHERE id = %s",
        (old,),
    )
    database.rows("UPDATE queue.tasks_live SET payload_version = 3 WHERE id = %s", (new,))
    line.run_once()
    assert (line.task(old)["status"], line.task(old)["result"]) == ("done", {"word": "before"})
    assert (line.task(new)["status"], line.task(new)["attempts"]) == ("pending", 0)


def test_a_stored_payload_that_does_not_fit_fails_its_task_and_no_neighbour(effects: Database, line: Line) -> None:
    ids = [enqueue(effects.connect("producer"), Write(n=n)) for n in range(3)]
    effects.rows('UPDATE queue.tasks_live SET payload = \'{"n": "secret word"}\' WHERE id = %s', (ids[1],))
    line.run_once()
    assert [line.task(i)["status"] for i in ids] == ["done", "failed", "done"]
    error = line.task(ids[1])["last_error"]
    assert error.startswith("invalid payload: n:")
    assert "secret" not in error


def test_progress_and_result(database: Database, line: Line) -> None:
    task_id = enqueue(database.connect("producer"), Report(text="x"))
    [attempt] = line.take(line.claim())
    assert leases.report_progress(line.worker, attempt, 0.25, "a quarter")
    assert (line.task(task_id)["progress"], line.task(task_id)["progress_message"]) == (0.25, "a quarter")
    leases.finish(line.worker, [leases.Ending(attempt, "done", {"a": 1})], line.process.id)
    assert not leases.report_progress(line.worker, attempt, 0.5, None), "an ended attempt reports nothing"
    assert (line.task(task_id)["progress"], line.task(task_id)["result"]) == (1.0, {"a": 1})


@pytest.mark.parametrize("role", ["producer", "operator", "worker"])
def test_wait_for(database: Database, line: Line, role: str) -> None:
    connection = database.connect(role)
    ids = [enqueue(database.connect("producer"), Report(text=str(n))) for n in range(3)]
    with pytest.raises(WaitTimeoutError):
        wait_for(connection, ids[0], timeout=0.05)
    line.run_once()
    seen: list[int] = []
    ends = wait_for_all(connection, ids, timeout=5, on_poll=seen.append)
    assert [end.result["text"] for end in ends] == ["0", "1", "2"]
    assert seen[-1] == 3


def test_a_task_that_is_not_due_waits_until_it_is_promoted(database: Database, line: Line) -> None:
    soon = "clock_timestamp() + interval '1 h'"
    task_id = enqueue(database.connect("producer"), Noop())
    database.rows(f"UPDATE queue.tasks_live SET is_due = false, run_after = {soon}")  # noqa: S608 - text of ours
    assert line.run_once() == 0
    database.rows("UPDATE queue.tasks_live SET run_after = now() - interval '1 s'")
    assert line.task(task_id)["is_due"] is False
    assert line.run_once() == 1
    assert line.task(task_id)["status"] == "done"


def test_priority_goes_first_and_waiting_overtakes_it(database: Database, line: Line) -> None:
    producer = database.connect("producer")
    low, high = enqueue(producer, Noop(), priority=-10), enqueue(producer, Noop(), priority=10)
    old = enqueue(producer, Noop(), priority=0)
    database.rows(
        "UPDATE queue.tasks_live SET rank = queue.rank_of(now() - interval '30 min', 0) WHERE id = %s", (old,)
    )
    wanted = queue.Capacity("default", 1e9, ["test.noop"], [1], [100])
    order = [claim_from(line.relay, wanted, limit=1)[0].task_id for _ in range(3)]
    assert order == [old, high, low]


def test_a_claim_takes_no_more_than_fits(database: Database, line: Line) -> None:
    producer = database.connect("producer")
    for n in range(30):
        enqueue(producer, Write(n=n))  # ten travel together
    wanted = queue.Capacity("default", 1.5, ["test.write"], [1], [10])
    assert len(claim_from(line.relay, wanted)) == 15
    assert claim_from(line.relay, queue.Capacity("default", 5, ["test.noop"], [1], [100]), limit=9) == []
