"""The scheduler's services: woken when a schedule is due, in step with the table, alive for all to see."""

import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import uuid4

import pytest

from core import events
from core.errors import UnavailableError
from core.groups import SchedulerSettings
from core.service import Loop
from core.settings import Settings
from db import fires, schedules, tasks
from db.connection import Connection, KeptConnection
from db.schedules import ScheduleRow, ScheduleSpec
from scheduler.firing import Firer
from scheduler.processes import SchedulerProcess
from scheduler.service import Firing, Timer
from tests.support.database import Database
from tests.support.waiting import eventually

FAR = SchedulerSettings(poll_seconds=60)
OLD_FIRES = """
INSERT INTO queue.fires (schedule_id, fire_at, outcome)
SELECT %s, now() - n * interval '1 day', 'missed' FROM generate_series(3, 5) AS n
"""
PRUNED = SchedulerSettings(fires_keep_days=2)


class MovedClock:
    """A clock that is moved by hand."""

    seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def add(operator: Connection) -> Iterator[Callable[..., ScheduleRow]]:
    """Adds a schedule, each second unless it is told when; paused at the end of the test."""
    added: list[ScheduleRow] = []

    def adding(**given: Any) -> ScheduleRow:
        when = {} if {"cron", "every", "at"} & set(given) else {"every": timedelta(seconds=1)}
        named = {"name": f"s-{uuid4()}", "task_type": "test.noop", "payload": {}, "overlap": "allow"}
        added.append(schedules.add(operator, ScheduleSpec(**(named | when | given))))
        return added[-1]

    yield adding
    for row in added:
        schedules.pause(operator, row.name)


@pytest.fixture
def woken() -> threading.Event:
    return threading.Event()


@pytest.fixture
def firing(shared: Database, woken: threading.Event) -> Iterator[Firing]:
    """The service, by hand."""
    service = Firing(KeptConnection(shared.url("scheduler"), name="test"), FAR, Timer(woken.set))
    yield service
    service.close()


def fired(operator: Connection, row: ScheduleRow) -> list[datetime]:
    return [fire.fire_at for fire in fires.history(operator, row.id, limit=100)]


def test_what_is_due_is_fired_and_the_next_time_wakes(
    operator: Connection, add: Callable[..., ScheduleRow], firing: Firing, woken: threading.Event
) -> None:
    row = add()
    assert firing.run_once() == 60.0
    assert fired(operator, row) == []
    assert woken.wait(5)  # by the timer, long before the poll
    firing.run_once()
    assert len(fired(operator, row)) == 1


def test_a_scheduler_without_schedules_sleeps(firing: Firing, woken: threading.Event) -> None:
    assert firing.run_once() == 60.0
    assert not woken.is_set()


def test_what_somebody_else_has_is_looked_at_again_soon(
    shared: Database, add: Callable[..., ScheduleRow], firing: Firing
) -> None:
    row, other = add(), shared.connect("scheduler")
    with other.transaction():
        assert fires.lock(other, row.id)
        assert 0 < firing.run_once() < 1
    assert firing.run_once() == 60.0


def test_a_schedule_that_fails_holds_up_no_other(
    operator: Connection, add: Callable[..., ScheduleRow], firing: Firing, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = add(), add()
    look = Firer.look

    def failing(firer: Firer, connection: Connection, schedule_id: Any) -> bool:
        if schedule_id == bad.id:
            connection.execute("SELECT 1 / 0")
        return look(firer, connection, schedule_id)

    monkeypatch.setattr(Firer, "look", failing)
    with pytest.raises(Exception, match="division by zero"):
        firing.run_once()
    known = schedules.show(operator, good.name)
    assert known is not None
    assert known.settled_at > good.settled_at


DIGITS = "UPDATE queue.schedules SET payload = '{\"n\": 1e5000}' WHERE id = %s"  # more than Python reads


def test_one_whose_row_cannot_be_read_is_left_alone_for_a_while_and_the_others_go_on(
    shared: Database, operator: Connection, add: Callable[..., ScheduleRow]
) -> None:
    bad, good = add(), add()
    shared.rows(DIGITS, (bad.id,))
    clock = MovedClock()
    firing = Firing(KeptConnection(shared.url("scheduler"), name="test"), FAR, Timer(lambda: None), clock=clock)
    with pytest.raises(ValueError, match="digits"):
        firing.run_once()
    known = schedules.show(operator, good.name)
    assert known is not None
    assert known.settled_at > good.settled_at
    clock.seconds += 14
    firing.run_once()
    clock.seconds += 1
    with pytest.raises(ValueError, match="digits"):
        firing.run_once()
    firing.close()
    shared.rows("UPDATE queue.schedules SET payload = '{}' WHERE id = %s", (bad.id,))


def test_a_database_that_is_away_is_an_error_of_the_round(add: Callable[..., ScheduleRow], shared: Database) -> None:
    nowhere = KeptConnection("postgresql://nobody@127.0.0.1:1/nowhere", name="test", timeout=2)
    service = Firing(nowhere, FAR, Timer(lambda: None))
    with pytest.raises(UnavailableError):
        service.run_once()
    service.close()


def test_old_fires_are_forgotten_once_an_hour(
    shared: Database, operator: Connection, add: Callable[..., ScheduleRow]
) -> None:
    clock, row = MovedClock(), add(cron="0 0 1 1 *")
    firing = Firing(KeptConnection(shared.url("scheduler"), name="test"), PRUNED, Timer(lambda: None), clock=clock)
    shared.rows(OLD_FIRES, (row.id,))
    firing.run_once()
    assert fired(operator, row) == []
    shared.rows(OLD_FIRES, (row.id,))
    clock.seconds += 3599
    firing.run_once()
    assert len(fired(operator, row)) == 3
    clock.seconds += 1
    firing.run_once()
    assert fired(operator, row) == []
    firing.close()


def test_a_scheduler_that_starts_works_out_anew_when_a_zones_schedule_is_next(
    shared: Database, operator: Connection, add: Callable[..., ScheduleRow], firing: Firing
) -> None:
    row, other = (add(cron="0 12 * * *", zone=zone) for zone in ("Europe/Berlin", "UTC"))
    firing.run_once()
    known = schedules.named(operator, row.name)
    moved = "UPDATE queue.schedules SET next_fire_at = next_fire_at + interval '1 h' WHERE id = ANY (%s)"
    shared.rows(moved, ([row.id, other.id],))
    firing.run_once()
    assert known.next_fire_at is not None
    assert schedules.named(operator, row.name).next_fire_at == known.next_fire_at + timedelta(hours=1)
    before = schedules.named(operator, other.name).next_fire_at
    again = Firing(KeptConnection(shared.url("scheduler"), name="test"), FAR, Timer(lambda: None))
    again.run_once()
    again.close()
    assert schedules.named(operator, row.name).next_fire_at == known.next_fire_at
    assert schedules.named(operator, other.name).next_fire_at == before
    assert fired(operator, row) == []


def test_what_is_due_does_not_wait_for_all_that_is_old(
    shared: Database, operator: Connection, add: Callable[..., ScheduleRow], firing: Firing
) -> None:
    row = add(cron="0 0 1 1 *")
    count = "SELECT count(*) FROM queue.fires WHERE schedule_id = %s"
    old = "SELECT %s, now() - interval '100 days' - n * interval '1 s', 'missed' FROM generate_series(1, 1500) n"
    shared.rows("INSERT INTO queue.fires (schedule_id, fire_at, outcome) " + old, (row.id,))
    firing.run_once()
    assert shared.value(count, (row.id,)) == 500
    firing.run_once()
    assert shared.value(count, (row.id,)) == 0


def test_two_processes_fire_each_time_once_and_are_known_while_they_live(
    shared: Database, operator: Connection, add: Callable[..., ScheduleRow], recorded: list[events.Event]
) -> None:
    row = add()
    pair = [SchedulerProcess(Settings(_env_file=None), shared.url("scheduler")) for _ in range(2)]
    for process in pair:
        process.start()
    eventually(lambda: len(fired(operator, row)) >= 3, 20)
    known = {process.id: process for process in tasks.processes(operator)}
    for process in pair:
        assert known[process.process.id].kind == "scheduler"
        assert set(known[process.process.id].loops_late) <= {"beat", "scheduler"}
        process.stop()
        process.stop()
    times = fired(operator, row)
    owned = shared.value("SELECT count(*) FROM queue.tasks_live WHERE owner_id = %s", (row.id,))
    assert owned == len(times)
    assert not {process.id for process in tasks.processes(operator)} & set(known)
    assert [event for event in recorded if isinstance(event, events.LoopFailed)] == []
    late = [event.late for event in recorded if isinstance(event, events.ScheduleFired)]
    assert max(late) < 5


def test_a_loop_that_is_cut_off_goes_on_where_it_was(
    shared: Database, operator: Connection, add: Callable[..., ScheduleRow], recorded: list[events.Event]
) -> None:
    row, settings = add(), SchedulerSettings(poll_seconds=0.5)
    loop = Loop(Firing(KeptConnection(shared.url("scheduler"), name="cut"), settings, Timer(lambda: None)))
    loop.start()
    eventually(lambda: fired(operator, row) != [], 20)
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'greenroom cut'"
    assert shared.connect("scheduler").execute(cut).fetchall() == [(True,)]
    eventually(lambda: any(isinstance(event, events.LoopFailed) for event in recorded), 20)
    before = len(fired(operator, row))
    eventually(lambda: len(fired(operator, row)) > before, 20)
    assert loop.stop()
    times = fired(operator, row)
    assert [(a - b).total_seconds() for a, b in pairwise(times)] == [1.0] * (len(times) - 1)
