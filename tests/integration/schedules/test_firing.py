"""A schedule's times are settled, each once: policies of missed and overlapping fires, held tasks, clocks that step.

What stands between two looks is moved in the row: a schedule that is settled up to three hours ago was not looked at
for three hours, one that is settled up to tomorrow has a clock that was set back.
"""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import UUID, uuid4

import pytest

from core import events
from db import fires, schedules, tasks
from db.connection import Connection
from db.fires import FireRow
from db.schedules import ScheduleRow
from db.tasks import TaskDetail
from scheduler.firing import Firer, next_fire, run_now
from tests.support.database import Database
from tests.support.factory import Factory

HOUR, MINUTE, SECOND = timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1)
AGO = 3 * HOUR + MINUTE
FIRER = Firer(MINUTE)
START = """
UPDATE queue.tasks_live SET status = 'in_progress', attempts = 1, batch_size = 1, worker_id = %s, started_at = now(),
    lease_until = now() + interval '1 h', deadline_at = now() + interval '1 h', claimed_until = now() + interval '1 h'
WHERE id = %s
"""
Look = Callable[..., list[FireRow]]


@pytest.fixture
def look(shared: Database, operator: Connection, scheduler: Connection) -> Look:
    """Looks at a schedule that is settled up to so long ago; returns its fires, the oldest first."""

    def looking(row: ScheduleRow, ago: timedelta = timedelta(0), firer: Firer = FIRER) -> list[FireRow]:
        shared.rows("UPDATE queue.schedules SET settled_at = now() - %s WHERE id = %s", (ago, row.id))
        assert firer.look(scheduler, row.id)
        return fires.history(operator, row.id, limit=1000)[::-1]

    return looking


def standing(operator: Connection, row: ScheduleRow) -> ScheduleRow:
    found = schedules.show(operator, row.name)
    assert found is not None
    return found


def task_of(operator: Connection, fire: FireRow) -> TaskDetail:
    assert fire.task_id is not None
    found = tasks.show(operator, fire.task_id)
    assert found is not None
    return found


def late_halves() -> list[datetime]:
    """Return the half hours of the last three hours that are missed by now."""
    now = datetime.now(UTC)
    first = now.replace(minute=0, second=0, microsecond=0) - 4 * HOUR
    return [at for at in (first + n * HOUR / 2 for n in range(10)) if now - AGO < at < now - MINUTE]


def test_a_time_that_has_come_enqueues_one_task_and_is_settled(
    operator: Connection, add: Callable[..., ScheduleRow], look: Look, recorded: list[events.Event]
) -> None:
    row = add(every=SECOND, overlap="allow", queue="nightly", priority=7)
    fire, *_, last = look(row, 2 * SECOND)
    assert (fire.outcome, fire.status, fire.is_manual, fire.missed_count) == ("enqueued", "pending", False, 0)
    task = task_of(operator, fire)
    assert (task.queue, task.priority, task.payload) == ("nightly", 7, {"n": 1})
    assert (task.owner_kind, task.owner_id, task.run_after) == ("schedule", row.id, fire.fire_at)
    assert task.metadata == {"schedule": row.name, "fire_at": fire.fire_at.isoformat()}
    now = standing(operator, row)
    assert now.last_fire_at == last.fire_at
    assert now.next_fire_at == last.fire_at + SECOND
    assert last.fire_at <= now.settled_at < now.next_fire_at
    [*_, told] = [event for event in recorded if isinstance(event, events.ScheduleFired)]
    assert (told.schedule, told.outcome, told.task_id) == (row.name, "enqueued", last.task_id)
    assert 0 <= told.late < 60


def test_what_is_not_due_is_not_fired(operator: Connection, add: Callable[..., ScheduleRow], look: Look) -> None:
    row = add(cron="0 0 1 1 *")
    assert look(row) == []
    assert standing(operator, row).next_fire_at == datetime(datetime.now(UTC).year + 1, 1, 1, tzinfo=UTC)


def test_one_moment_fires_once(operator: Connection, add: Callable[..., ScheduleRow], look: Look) -> None:
    at = datetime.now(UTC).replace(microsecond=0) - SECOND
    row = add(at=at)
    assert [fire.fire_at for fire in look(row, MINUTE)] == [at]
    assert standing(operator, row).next_fire_at is None
    [again] = look(row, MINUTE)
    assert again.task_id is not None


def test_jitter_moves_the_task_and_never_the_key(
    operator: Connection, add: Callable[..., ScheduleRow], look: Look
) -> None:
    row = add(every=SECOND, jitter=timedelta(seconds=30))
    fire = look(row, SECOND, Firer(MINUTE, draw=lambda most: most / 2))[0]
    task = task_of(operator, fire)
    assert task.run_after == fire.fire_at + timedelta(seconds=15)
    assert fire.fire_at.microsecond == 0


def test_a_tenants_schedule_enqueues_for_its_tenant(
    operator: Connection, add: Callable[..., ScheduleRow], look: Look, theirs: Factory
) -> None:
    fire = look(add(every=SECOND, tenant_id=theirs.tenant_id), SECOND)[0]
    task = task_of(operator, fire)
    assert task.tenant_id == theirs.tenant_id


def test_two_that_look_at_the_same_moment_fire_once(shared: Database, add: Callable[..., ScheduleRow]) -> None:
    row = add(every=SECOND, overlap="allow")
    shared.rows("UPDATE queue.schedules SET settled_at = now() - interval '30 s' WHERE id = %s", (row.id,))
    barrier, failed = threading.Barrier(4), list[Exception]()

    def run(connection: Connection) -> None:
        try:
            for _ in range(5):
                barrier.wait()
                FIRER.look(connection, row.id)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(shared.connect("scheduler"),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    fired = shared.rows("SELECT fire_at, task_id FROM queue.fires WHERE schedule_id = %s", (row.id,))
    owned = shared.rows("SELECT id FROM queue.tasks_live WHERE owner_id = %s", (row.id,))
    assert 29 <= len(fired) <= 33
    assert sorted(task_id for _, task_id in fired) == sorted(task_id for (task_id,) in owned)


def test_whoever_has_the_schedule_is_not_waited_for(
    shared: Database, scheduler: Connection, add: Callable[..., ScheduleRow]
) -> None:
    row, other = add(every=SECOND), shared.connect("scheduler")
    with other.transaction():
        assert fires.lock(other, row.id)
        assert not FIRER.look(scheduler, row.id)
    assert FIRER.look(scheduler, row.id)


# ---------------------------------------------------------------------------------------------------- missed


def test_missed_times_are_skipped_with_their_count(add: Callable[..., ScheduleRow], look: Look) -> None:
    [*_, last] = missed = late_halves()
    found = look(add(missed="skip", overlap="allow"), AGO)
    assert (found[0].fire_at, found[0].outcome, found[0].missed_count) == (last, "missed", len(missed) - 1)
    assert {fire.outcome for fire in found[1:]} <= {"enqueued"}  # a time that is not late


def test_the_last_of_missed_times_is_made_up_for(
    operator: Connection, add: Callable[..., ScheduleRow], look: Look
) -> None:
    [*_, last] = missed = late_halves()
    first = look(add(missed="once", overlap="allow"), AGO)[0]
    assert (first.fire_at, first.outcome, first.missed_count) == (last, "enqueued", len(missed) - 1)
    task = task_of(operator, first)
    assert datetime.now(UTC) - task.run_after < MINUTE  # due now, ahead of nobody


def test_all_missed_times_are_made_up_for_up_to_a_limit(add: Callable[..., ScheduleRow], look: Look) -> None:
    missed = late_halves()
    found = look(add(missed="all", missed_limit=4, overlap="allow"), AGO)[:4]
    assert [fire.fire_at for fire in found] == missed[-4:]
    assert [fire.missed_count for fire in found] == [len(missed) - 4, 0, 0, 0]
    assert {fire.outcome for fire in found} == {"enqueued"}


def test_a_week_of_seconds_takes_no_longer_than_a_moment(
    operator: Connection, add: Callable[..., ScheduleRow], look: Look
) -> None:
    row = add(every=SECOND, missed="all", missed_limit=3, overlap="allow")
    before = datetime.now(UTC)
    found = look(row, timedelta(days=7))
    assert datetime.now(UTC) - before < timedelta(seconds=20)
    edge = before - MINUTE
    late = [fire.fire_at for fire in found[:3]]
    assert [b - a for a, b in pairwise(late)] == [SECOND, SECOND]
    assert edge - 2 * SECOND < late[-1] < edge + 20 * SECOND
    assert found[0].missed_count == 10_000 - 3
    assert len(found) == 50  # the rest is still due
    now = standing(operator, row)
    assert now.next_fire_at == found[-1].fire_at + SECOND
    assert now.settled_at == found[-1].fire_at
    assert row.id in fires.due(operator, 1000)


# ---------------------------------------------------------------------------------------------------- overlap


def test_a_fire_is_skipped_while_the_last_ones_task_lives(
    shared: Database, operator: Connection, add: Callable[..., ScheduleRow], look: Look
) -> None:
    row = add(every=SECOND, overlap="skip")
    found = look(row, 3 * SECOND)
    assert [fire.outcome for fire in found] == ["enqueued", *["overlapped"] * (len(found) - 1)]
    assert len(found) >= 3
    tasks.cancel(operator, found[0].task_id or UUID(int=0), "enough")
    shared.rows("DELETE FROM queue.fires WHERE schedule_id = %s AND outcome = 'overlapped'", (row.id,))
    assert "enqueued" in [fire.outcome for fire in look(row, 2 * SECOND)[1:]]


def test_of_a_schedule_whose_tasks_wait_for_each_other_one_runs_and_one_waits(
    shared: Database, operator: Connection, add: Callable[..., ScheduleRow], look: Look
) -> None:
    row = add(every=SECOND, overlap="wait")
    found = look(row, 2 * SECOND)
    first = found[0].task_id
    assert {fire.outcome for fire in found[1:]} == {"overlapped"}  # the first has not begun
    shared.rows(START, (uuid4(), first))
    shared.rows("DELETE FROM queue.fires WHERE schedule_id = %s AND task_id IS NULL", (row.id,))
    found = [fire for fire in look(row, 3 * SECOND) if fire.task_id != first]
    second = found[0].task_id
    assert {fire.outcome for fire in found[1:]} == {"overlapped"}
    waits = "SELECT parent_id, on_parent_failed FROM queue.task_dependencies WHERE child_id = %s"
    assert shared.rows(waits, (second,)) == [(first, "run")]
    assert task_of(operator, found[0]).is_waiting


def test_a_task_by_hand_counts_as_the_schedules_own(
    add: Callable[..., ScheduleRow], operator: Connection, look: Look
) -> None:
    row = add(every=SECOND, overlap="skip")
    task_id = run_now(operator, row.name)
    found = look(row, 2 * SECOND)
    assert sorted((fire.outcome, fire.task_id, fire.is_manual) for fire in found if fire.is_manual) == [
        ("enqueued", task_id, True)
    ]
    assert {fire.outcome for fire in found if not fire.is_manual} == {"overlapped"}


# ---------------------------------------------------------------------------------------------------- refused and held


def test_a_task_that_nobody_knows_is_held_once_and_refused_then(
    shared: Database, operator: Connection, add: Callable[..., ScheduleRow], look: Look, recorded: list[events.Event]
) -> None:
    row = add(every=SECOND, overlap="allow")
    shared.rows("UPDATE queue.schedules SET task_type = 'test.nobody' WHERE id = %s", (row.id,))
    found = look(row, 2 * SECOND)
    assert [fire.outcome for fire in found] == ["enqueued", *["refused"] * (len(found) - 1)]
    assert {fire.error for fire in found} == {"unknown task type 'test.nobody'"}
    assert "unknown task type test.nobody" in (found[0].hold_reason or "")
    told = [event for event in recorded if isinstance(event, events.ScheduleRefused)]
    assert [(event.schedule, event.task_id) for event in told[:2]] == [(row.name, found[0].task_id), (row.name, None)]
    assert standing(operator, row).next_fire_at == found[-1].fire_at + SECOND  # no dead loop


def test_a_payload_that_its_type_refuses_is_held(shared: Database, add: Callable[..., ScheduleRow], look: Look) -> None:
    row = add(every=SECOND)
    shared.rows('UPDATE queue.schedules SET payload = \'{"n": "x"}\' WHERE id = %s', (row.id,))
    fire = look(row, 2 * SECOND)[0]
    assert (fire.outcome, fire.status) == ("enqueued", "pending")
    assert "invalid payload" in (fire.hold_reason or "")
    assert '"x"' not in (fire.error or "")


def test_an_option_that_cannot_be_is_refused(
    shared: Database, add: Callable[..., ScheduleRow], look: Look, theirs: Factory
) -> None:
    row = add(every=SECOND, tenant_id=theirs.tenant_id)
    shared.rows("UPDATE queue.schedules SET task_type = 'test.roll', payload = '{}' WHERE id = %s", (row.id,))
    fire = look(row, 2 * SECOND)[0]
    assert (fire.outcome, fire.task_id) == ("refused", None)
    assert "takes no tenant_id" in (fire.error or "")


def test_a_suspended_tenants_task_is_held(
    shared: Database, add: Callable[..., ScheduleRow], look: Look, theirs: Factory
) -> None:
    row = add(every=SECOND, tenant_id=theirs.tenant_id)
    shared.rows("UPDATE identity.tenants SET status = 'suspended' WHERE id = %s", (theirs.tenant_id,))
    fire = look(row, 2 * SECOND)[0]
    assert (fire.outcome, fire.hold_reason) == ("enqueued", "tenant is suspended")


def test_times_that_cannot_be_worked_out_are_told_and_tried_again_in_an_hour(
    shared: Database, operator: Connection, add: Callable[..., ScheduleRow], look: Look
) -> None:
    row = add()
    shared.rows("UPDATE queue.schedules SET zone = 'Mars/Olympus' WHERE id = %s", (row.id,))
    fire = look(row, HOUR)[0]
    assert fire.outcome == "refused"
    assert "Mars/Olympus" in (fire.error or "")
    known, now = standing(operator, row), datetime.now(UTC)
    assert known.next_fire_at is not None
    assert now + 59 * MINUTE < known.next_fire_at < now + 61 * MINUTE


def test_times_that_can_be_worked_out_again_were_missed_and_not_lost(
    shared: Database, scheduler: Connection, operator: Connection, add: Callable[..., ScheduleRow], look: Look
) -> None:
    row = add(missed="all", overlap="allow")
    shared.rows("UPDATE queue.schedules SET zone = 'Mars/Olympus' WHERE id = %s", (row.id,))
    expected = late_halves()
    assert look(row, AGO)[0].outcome == "refused"
    shared.rows("UPDATE queue.schedules SET zone = 'UTC' WHERE id = %s", (row.id,))
    assert FIRER.look(scheduler, row.id)
    found = [fire.fire_at for fire in fires.history(operator, row.id, limit=1000) if fire.task_id]
    assert found[::-1][: len(expected)] == expected


# ---------------------------------------------------------------------------------------------------- clocks


def test_a_clock_that_was_set_back_has_the_schedule_go_on_from_now(
    operator: Connection, add: Callable[..., ScheduleRow], look: Look, recorded: list[events.Event]
) -> None:
    row = add(every=MINUTE)
    assert look(row, -HOUR) == []
    now = standing(operator, row)
    assert now.next_fire_at is not None
    assert timedelta(0) < now.next_fire_at - now.settled_at <= MINUTE
    assert abs(datetime.now(UTC) - now.settled_at) < MINUTE
    [told] = [event for event in recorded if isinstance(event, events.ClockSetBack)]
    assert (told.schedule, round(told.seconds / 100)) == (row.name, 36)


def test_an_interval_that_counts_from_a_future_that_was_none_fires_all_the_same(
    shared: Database, operator: Connection, add: Callable[..., ScheduleRow], look: Look
) -> None:
    row = add(every=MINUTE, starts_at=None)
    ahead = "UPDATE queue.schedules SET created_at = created_at + interval '5 h' WHERE id = %s RETURNING created_at"
    anchor = shared.value(ahead, (row.id,)).replace(microsecond=0)
    look(row, -HOUR)
    now = standing(operator, row)
    assert now.next_fire_at is not None
    assert timedelta(0) < now.next_fire_at - now.settled_at <= 2 * MINUTE
    assert (anchor - now.next_fire_at) % MINUTE == timedelta(0)


def test_a_time_that_had_its_task_is_not_fired_again_and_one_that_had_none_is(
    shared: Database, scheduler: Connection, add: Callable[..., ScheduleRow], look: Look
) -> None:
    """In a future that was none: one of two times enqueued its task there, the other was missed."""
    row = add(every=SECOND, overlap="allow")
    now = datetime.now(UTC).replace(microsecond=0)
    had, missed = now - 3 * SECOND, now - 2 * SECOND
    fires.fire(scheduler, row.id, fires.NewFire(fire_at=had, outcome="enqueued", task_id=UUID(int=7)))
    fires.fire(scheduler, row.id, fires.NewFire(fire_at=missed, outcome="missed"))
    found = {fire.fire_at: fire for fire in look(row, 5 * SECOND)}
    assert found[had].task_id == UUID(int=7)
    assert found[missed].outcome == "enqueued"
    assert len({fire.task_id for fire in found.values()}) == len(found) >= 4
    owned = shared.rows("SELECT id FROM queue.tasks_live WHERE owner_id = %s", (row.id,))
    assert len(owned) == len(found) - 1


def test_the_next_fire_is_known_before_a_scheduler_has_looked(
    operator: Connection, add: Callable[..., ScheduleRow], look: Look
) -> None:
    row = add(cron="0 0 1 1 *")
    expected = datetime(datetime.now(UTC).year + 1, 1, 1, tzinfo=UTC)
    assert next_fire(row) == expected
    look(row)
    assert next_fire(standing(operator, row)) == expected
