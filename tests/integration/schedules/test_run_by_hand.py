"""A schedule that is run by hand: a fire of its own, whatever its times, beside whoever pauses or removes it."""

import threading
from collections.abc import Callable

import pytest

from core.errors import NotFoundError, UnknownTaskTypeError
from db import fires, schedules
from db.connection import Connection
from db.schedules import ScheduleRow
from scheduler.firing import run_now
from tests.support.database import Database
from tests.support.waiting import eventually


def waits(shared: Database) -> bool:
    """Return whether a session of this database waits for another's lock."""
    found = (
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')"
    )
    return bool(shared.value(found))


def test_a_run_by_hand_is_a_fire_of_its_own(
    shared: Database, operator: Connection, add: Callable[..., ScheduleRow]
) -> None:
    row = add()
    schedules.pause(operator, row.name)
    first, second = run_now(operator, row.name), run_now(operator, row.name)
    found = fires.history(operator, row.id, limit=10)
    assert [(fire.task_id, fire.is_manual, fire.status) for fire in found] == [
        (second, True, "pending"),
        (first, True, "pending"),
    ]
    said = "SELECT 1 FROM audit.audit_events WHERE event_type = 'schedule.run' AND resource_id = %s"
    assert len(shared.rows(said, (row.name,))) == 2


def test_a_run_by_hand_that_cannot_be_leaves_nothing(
    shared: Database, operator: Connection, add: Callable[..., ScheduleRow]
) -> None:
    row = add()
    shared.rows("UPDATE queue.schedules SET task_type = 'test.nobody' WHERE id = %s", (row.id,))
    with pytest.raises(UnknownTaskTypeError):
        run_now(operator, row.name)
    assert fires.history(operator, row.id, limit=10) == []
    with pytest.raises(NotFoundError):
        run_now(operator, "nobody")


def test_a_run_by_hand_waits_for_who_removes_the_schedule(
    shared: Database, operator: Connection, add: Callable[..., ScheduleRow]
) -> None:
    row = add()
    told: list[type[Exception]] = []

    def run() -> None:
        with pytest.raises(NotFoundError) as caught:
            run_now(beside, row.name)
        told.append(caught.type)

    beside, running = shared.connect("operator"), threading.Thread(target=run)
    with operator.transaction():
        schedules.remove(operator, row.name)
        running.start()
        eventually(lambda: waits(shared), 20)
    running.join(20)
    assert told == [NotFoundError]
