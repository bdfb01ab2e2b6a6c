"""Cancel: what waits ends at once, what runs is asked to end and does, unless it is done first."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

import pytest

from core import events
from db import leases, queue, tasks
from pipelines.enqueue import enqueue, enqueue_many
from pipelines.payload import Payload
from pipelines.registry import Registry
from pipelines.waiting import wait_for
from tests.support import stuck_tasks
from tests.support.database import Database
from tests.support.engine import Engine, Line, engine, fast_settings
from tests.support.stuck_tasks import Limited, LimitedQuery, Query, Sleep, Stubborn, Together
from tests.support.tasks import Answer, Noop, Raise, Slow, Write, gate
from tests.support.tasks import Gate as Gated
from tests.support.waiting import eventually
from workers.broker import InProcessBroker

GRACE = 1.0


@pytest.fixture
def registry() -> Registry:
    return Registry(stuck_tasks.TASKS)


@contextmanager
def running_engine(database: Database, registry: Registry, threads: int = 2) -> Iterator[Engine]:
    gate.clear()
    settings = fast_settings(worker={"interrupt_seconds": GRACE, "threads": threads, "target_seconds": 0.05})
    with engine(database, registry, InProcessBroker(), settings=settings, heartbeat=True) as running:
        try:
            yield running
        finally:
            gate.set()  # a test that failed waits for nobody


def end_beside_a_stuck_thread(running: Engine) -> None:
    """Stop an engine whose handler does not end, then let that one end."""
    running.worker._settings = fast_settings(worker={"grace_seconds": 0.1})
    assert not running.stop(), "it has drained"
    gate.set()
    running.end_at_last()


def status(database: Database, task_id: UUID) -> str:
    return str(database.value("SELECT status FROM queue.outbox_tasks WHERE id = %s", (task_id,)))


def start(database: Database, payload: Payload) -> UUID:
    """Enqueue a task and wait until it runs."""
    task_id = enqueue(database.connect("producer"), payload)
    eventually(lambda: status(database, task_id) == "in_progress")
    return task_id


def cancel_in(database: Database, task_id: UUID, seconds: float) -> None:
    """Cancel a running task, whose end comes within that time."""
    asked = time.monotonic()
    assert tasks.cancel(database.connect("operator"), task_id, "not wanted") == "requested"
    end = wait_for(database.connect(), task_id, timeout=seconds + 10)
    assert (end.status, end.error) == ("cancelled", "not wanted")
    assert time.monotonic() - asked <= seconds


def outcomes(database: Database, task_id: UUID) -> list[str]:
    found = database.rows("SELECT outcome FROM queue.attempts WHERE task_id = %s ORDER BY ended_at", (task_id,))
    return [row[0] for row in found]


# ------------------------------------------------------------------------------------------- with real threads


@pytest.mark.alone
def test_a_running_handler_is_interrupted_within_two_seconds(effects: Database, registry: Registry) -> None:
    with running_engine(effects, registry):
        cancel_in(effects, start(effects, Slow(n=1)), 2.0)
        task_id = start(effects, Slow(n=1))
        cancel_in(effects, task_id, 2.0)
    assert outcomes(effects, task_id) == ["cancel"]
    assert effects.rows("SELECT * FROM effects") == []
    audited = "SELECT event_type FROM audit.audit_events WHERE resource_id = %s"
    assert effects.rows(audited, (str(task_id),)) == [("task.cancel_requested",)]


@pytest.mark.alone
def test_a_handler_that_shields_itself_asks(effects: Database, registry: Registry) -> None:
    with running_engine(effects, registry):
        cancel_in(effects, start(effects, Stubborn(looks=True)), 2.0)


@pytest.mark.alone
def test_a_batch_goes_on_without_the_one_that_is_cancelled(effects: Database, registry: Registry) -> None:
    with running_engine(effects, registry, threads=1) as running:
        running.worker.executor.sizes.measured("stuck.together", 100, 0.001, handling=0.001)
        together = [Together(n=n, seconds=3.0 if n == 0 else 0.0) for n in range(3)]
        ids = enqueue_many(effects.connect("producer"), together)
        eventually(lambda: {status(effects, task_id) for task_id in ids} == {"in_progress"})
        cancel_in(effects, ids[0], 2.0)
        assert [wait_for(effects.connect(), each, timeout=10).status for each in ids[1:]] == ["done", "done"]
    assert sorted(effects.rows("SELECT n FROM effects")) == [(1,), (2,)]


def test_a_handler_that_is_done_first_wins(effects: Database, registry: Registry) -> None:
    with running_engine(effects, registry):
        task_id = start(effects, Slow(seconds=0.5, n=1))
        eventually(lambda: effects.value("SELECT now() - started_at > '0.4 s' FROM queue.outbox_tasks"))
        tasks.cancel(effects.connect("operator"), task_id, "too late")
        end = wait_for(effects.connect(), task_id, timeout=10)
    assert end.status in {"done", "cancelled"}
    assert len(effects.rows("SELECT n FROM effects")) == (end.status == "done")


@pytest.mark.parametrize("payload", [Sleep(), Stubborn()])
def test_what_heeds_no_interruption_is_ended_without_its_thread(
    effects: Database, registry: Registry, recorded: list[events.Event], payload: Payload
) -> None:
    with running_engine(effects, registry) as running:
        left: list[str] = []
        running.worker.executor.on_stuck = lambda: left.append("stuck")
        task_id = start(effects, payload)
        cancel_in(effects, task_id, 2.0 + GRACE + 1.0)
        [(traceback,)] = effects.rows("SELECT traceback FROM queue.attempts WHERE task_id = %s", (task_id,))
        assert "stuck_tasks.py" in traceback
        assert [event.task_id for event in recorded if isinstance(event, events.HandlerStuck)] == [task_id]
        eventually(lambda: left == ["stuck"])
        # The other thread goes on.
        assert (
            wait_for(effects.connect(), enqueue(effects.connect("producer"), Write(n=2)), timeout=10).status == "done"
        )
        end_beside_a_stuck_thread(running)
    assert effects.rows("SELECT n FROM effects") == [(2,)]


def test_a_time_limit_ends_what_is_stuck_too(effects: Database, registry: Registry) -> None:
    with running_engine(effects, registry) as running:
        end = wait_for(effects.connect(), enqueue(effects.connect("producer"), Limited()), timeout=10)
        end_beside_a_stuck_thread(running)
    assert end.status == "failed"
    assert "TimeLimitError: the attempt ran for longer than its time limit" in str(end.error)


@pytest.mark.alone
def test_a_statement_that_a_handler_waits_for_is_cancelled(
    effects: Database, registry: Registry, recorded: list[events.Event]
) -> None:
    with running_engine(effects, registry, threads=1):
        cancel_in(effects, start(effects, Query()), 2.0)
        end = wait_for(effects.connect(), enqueue(effects.connect("producer"), LimitedQuery()), timeout=10)
        assert (end.status, end.error) == ("failed", "TimeLimitError: the attempt ran for longer than its time limit")
        # The thread and its connection are as good as new.
        assert (
            wait_for(effects.connect(), enqueue(effects.connect("producer"), Write(n=2)), timeout=10).status == "done"
        )
    assert [event for event in recorded if isinstance(event, events.HandlerStuck | events.MessageFailed)] == []
    busy = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
    assert effects.value(busy) == 0


def test_an_attempt_that_is_lost_is_interrupted(
    effects: Database, registry: Registry, recorded: list[events.Event]
) -> None:
    with running_engine(effects, registry, threads=1) as running:
        task_id = start(effects, Slow(n=1))
        eventually(lambda: running.worker.executor.running.longer_than(2.0))
        # As after a rescue, and another worker that ended it.
        effects.rows("DELETE FROM queue.tasks_live")
        lost = eventually(lambda: [event for event in recorded if isinstance(event, events.AttemptLost)])
        assert lost == [events.AttemptLost("test.slow", task_id, 1)]
        end = wait_for(effects.connect(), enqueue(effects.connect("producer"), Write(n=2)), timeout=10)
    assert end.status == "done"


# ---------------------------------------------------------------------------------------------- step by step


def line_that(database: Database, when_called: Callable[[], None]) -> Line:
    """A line whose `test.gate` calls back."""
    from dataclasses import replace

    from pipelines.outcomes import Outcome
    from pipelines.task import TaskContext

    task = next(task for task in stuck_tasks.TASKS if task.payload is Gated)

    def run(context: TaskContext, payload: Gated) -> Outcome:
        when_called()
        assert task.run is not None
        return task.run(context, payload)

    gate.set()
    return Line(database, Registry([replace(task, run=run), *(t for t in stuck_tasks.TASKS if t is not task)]))


def test_an_outcome_that_is_computed_stands(effects: Database) -> None:
    ids: list[UUID] = []
    line = line_that(effects, lambda: assert_requested(effects, ids[0]))
    ids.append(enqueue(effects.connect("producer"), Gated(n=1)))
    line.run_once()
    assert line.task(ids[0])["status"] == "done"
    assert effects.rows("SELECT n FROM effects") == [(1,)]
    line.close()


def assert_requested(database: Database, task_id: UUID) -> None:
    assert tasks.cancel(database.connect("operator"), task_id, "not wanted") == "requested"


def taken(line: Line, payload: Payload) -> UUID:
    """A task that this worker has taken and that was asked to end."""
    task_id = enqueue(line.database.connect("producer"), payload)
    assert line.take(line.claim())
    assert_requested(line.database, task_id)
    return task_id


def assert_cancelled(line: Line, task_id: UUID) -> None:
    row = line.task(task_id)
    assert (row["status"], row["last_error"], row["failed_at"]) == ("cancelled", "not wanted", None)
    assert line.claim() == []


@pytest.mark.parametrize("outcome", ["retry", "snooze"])
def test_what_would_wait_again_ends_instead(effects: Database, line: Line, outcome: str) -> None:
    task_id = enqueue(effects.connect("producer"), Answer(outcome=outcome))
    [attempt] = line.take(line.claim())
    assert_requested(effects, task_id)
    rescheduling = leases.Rescheduling(attempt, 5, snooze=outcome == "snooze")
    with line.worker.transaction():
        assert leases.reschedule(line.worker, [rescheduling], line.process.id) == {task_id}
        leases.end_cancelled(line.worker)
    assert_cancelled(line, task_id)


def test_what_is_handed_back_ends_instead(line: Line) -> None:
    task_id = taken(line, Noop())
    assert leases.hand_back(line.worker, line.process.id) == 1
    assert_cancelled(line, task_id)
    assert [kept[:3] for kept in line.attempts(task_id)] == [(1, "cancel", "not wanted")]


def test_what_was_not_begun_ends_instead(line: Line) -> None:
    task_id = taken(line, Noop())
    assert leases.untake(line.worker, [(task_id, 1)], line.process.id) == 1
    assert_cancelled(line, task_id)


def test_what_its_worker_died_with_ends_instead(line: Line) -> None:
    task_id = taken(line, Raise())
    leases.expire_leases(line.worker, line.process.id)
    assert queue.rescue(line.relay, 10) == (0, 0, 1)
    assert_cancelled(line, task_id)
    assert [kept[:2] for kept in line.attempts(task_id)] == [(1, "lost")]


def test_what_has_used_its_time_up_is_not_handed_back(database: Database, line: Line) -> None:
    enqueue(database.connect("producer"), Noop())
    line.take(line.claim(), lease_seconds=0.0, time_limit=0.0)
    assert leases.hand_back(line.worker, line.process.id) == 0
    assert queue.rescue(line.relay, 10) == (1, 0, 0)


def test_a_claim_that_is_on_its_way_is_cancelled_at_once(line: Line) -> None:
    task_id = enqueue(line.database.connect("producer"), Noop())
    claims = line.claim()
    operator = line.database.connect("operator")
    assert tasks.cancel(operator, task_id, "not wanted") == "cancelled"
    assert line.take(claims) == []
    assert_cancelled(line, task_id)
    assert tasks.cancel(operator, task_id, "again") is None


def test_the_first_request_stands_and_a_replay_is_free_of_it(line: Line) -> None:
    task_id = taken(line, Noop())
    operator = line.database.connect("operator")
    assert tasks.cancel(operator, task_id, "another reason") == "requested"
    found = tasks.show(operator, task_id)
    assert found is not None
    assert found.cancel_reason == "not wanted"
    leases.hand_back(line.worker, line.process.id)
    assert tasks.replay(operator, [task_id]) == [task_id]
    assert line.task(task_id)["cancel_requested_at"] is None
    assert line.run_once() == 1
    assert line.task(task_id)["status"] == "done"


def test_orders_name_what_is_asked_to_end_and_what_is_not_ours(line: Line) -> None:
    task_id, kept = taken(line, Noop()), enqueue(line.database.connect("producer"), Noop())
    line.take(line.claim())
    gone = UUID(int=7)
    found = leases.orders(line.worker, line.process.id, [(kept, 1), (gone, 3), (task_id, 1)])
    assert sorted(found) == sorted([leases.Order(task_id, 1, "not wanted"), leases.Order(gone, 3, None)])
    assert leases.orders(line.relay, gone, [(kept, 1)]) == [leases.Order(kept, 1, None)]
    assert 590 < (leases.next_deadline(line.worker, line.process.id) or 0) <= 600
    assert leases.next_deadline(line.worker, gone) is None
