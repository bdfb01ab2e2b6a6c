"""What becomes of schedules when Postgres' clock steps, or Postgres is away, one thing after the other, by hand."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from typing import Any

import pytest

from core.errors import UnavailableError
from db import fires, schedules
from db.connection import KeptConnection
from db.embedded import EmbeddedServer
from db.fires import FireRow
from db.schedules import ScheduleRow, ScheduleSpec
from pipelines.publish import publish_types
from pipelines.registry import Registry
from scheduler.firing import Firer
from tests.faults.clocks import SteppedClock, stepped_clock, stepped_server
from tests.support import tasks
from tests.support.database import Database, cloned
from tests.support.waiting import eventually

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
_WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted"
_numbers = count()


class Machine:
    """A database whose clock is stepped, and what operators and a scheduler do there."""

    def __init__(self, server: EmbeddedServer, database: Database, clock: SteppedClock) -> None:
        self.server = server
        self.database = database
        self._clock = clock
        self._ahead = timedelta(0)
        self._kept = {role: KeptConnection(database.url(role), name=role) for role in ("operator", "scheduler")}

    def step(self, by: timedelta) -> None:
        """Step the clock."""
        self._ahead += by
        self._clock.step(round(self._ahead.total_seconds()))

    def to_half_a_minute(self) -> datetime:
        """Step the clock to the middle of its next minute, away from all that is due; return that."""
        now: datetime = self.database.value("SELECT now()")
        self.step(MINUTE + timedelta(seconds=30 - now.second))
        return (now + MINUTE).replace(second=30, microsecond=0)

    def add(self, **given: Any) -> ScheduleRow:
        """Add a schedule that fires at each whole minute, unless it is told when."""
        named = {"name": f"s-{next(_numbers)}", "task_type": "test.noop", "payload": {}, "overlap": "allow"}
        spec = ScheduleSpec(**(named | {"cron": "* * * * *"} | given))
        return schedules.add(self._kept["operator"].get(), spec)

    def look(self, row: ScheduleRow) -> None:
        """Be a scheduler that looks at what is due, and at nothing else."""
        scheduler = self._kept["scheduler"].get()
        if row.id in fires.due(scheduler, 100):
            assert Firer(MINUTE).look(scheduler, row.id)

    def fires(self, row: ScheduleRow) -> list[FireRow]:
        """Return what came of a schedule, the oldest first."""
        return fires.history(self._kept["operator"].get(), row.id, limit=2000)[::-1]

    def close(self) -> None:
        """Close what is open, as the end of a process does; whoever goes on opens it anew."""
        for kept in self._kept.values():
            kept.close()


@pytest.fixture(scope="module")
def stepped() -> Iterator[tuple[EmbeddedServer, Database, SteppedClock]]:
    """A server whose clock is stepped, with a database in it."""
    with (
        stepped_clock() as clock,
        stepped_server(clock) as (server, _, template),
        cloned(server, template) as database,
    ):
        publish_types(database.connect(), Registry(tasks.TASKS))
        yield server, database, clock


@pytest.fixture
def machine(stepped: tuple[EmbeddedServer, Database, SteppedClock]) -> Iterator[Machine]:
    """A machine whose clock is right, in the middle of a minute."""
    made = Machine(*stepped)
    made.step(timedelta(0))
    yield made
    made.close()


def test_an_hour_that_is_lived_twice_fires_each_time_once(machine: Machine) -> None:
    start = machine.to_half_a_minute()
    row = machine.add()
    for _ in range(3):
        machine.step(MINUTE)
        machine.look(row)
    first = machine.fires(row)
    assert [fire.fire_at for fire in first] == _minutes(start, 1, 3)
    machine.step(-HOUR)
    machine.look(row)
    assert machine.fires(row) == first  # it goes on from here
    machine.step(MINUTE)
    machine.look(row)
    [back, *rest] = machine.fires(row)
    assert (back.fire_at, back.outcome, rest) == (start.replace(second=0) - HOUR + 4 * MINUTE, "enqueued", first)
    machine.step(HOUR - MINUTE)
    machine.look(row)
    # of the hour between, three times are settled, and the last of the others is made up for or had its task
    [again, *then] = machine.fires(row)
    assert (again, [fire.task_id for fire in then]) == (back, [fire.task_id for fire in first])
    assert [fire.missed_count for fire in then] == [0, 56, 0]


@pytest.mark.parametrize(
    ("policy", "late", "counted"),
    [
        ({"missed": "skip"}, ["missed"], 1439 - 1),
        ({"missed": "once"}, ["enqueued"], 1439 - 1),
        ({"missed": "all", "missed_limit": 4}, ["enqueued"] * 4, 1439 - 4),
    ],
    ids=["skip", "once", "all"],
)  # fmt: skip
def test_a_day_that_is_leapt_over_is_made_up_for_as_the_policy_says(
    machine: Machine, policy: dict[str, Any], late: list[str], counted: int
) -> None:
    start = machine.to_half_a_minute()
    row = machine.add(**policy)
    machine.look(row)
    machine.step(DAY)
    machine.look(row)
    *found, last = machine.fires(row)
    assert [fire.outcome for fire in found] == late
    assert [fire.missed_count for fire in found] == [counted, *[0] * (len(late) - 1)]
    assert (last.fire_at, last.outcome) == (start.replace(second=0) + DAY, "enqueued")  # in time
    machine.step(-DAY)
    machine.look(row)
    assert machine.fires(row) == [*found, last]
    machine.step(MINUTE)
    machine.look(row)
    assert machine.fires(row)[0].fire_at == start.replace(second=0) + MINUTE


def test_ten_minutes_without_a_database_are_made_up_for(machine: Machine) -> None:
    start = machine.to_half_a_minute()
    row = machine.add(missed="all", missed_limit=20)
    machine.look(row)
    machine.server.stop()
    try:
        with pytest.raises(UnavailableError):
            machine.look(row)
        machine.step(10 * MINUTE)
        with pytest.raises(UnavailableError):
            machine.look(row)
    finally:
        machine.server.start()
        machine.close()
    machine.look(row)
    found = machine.fires(row)
    assert [fire.fire_at for fire in found] == _minutes(start, 1, 10)
    assert {(fire.outcome, fire.missed_count) for fire in found} == {("enqueued", 0)}
    assert len({fire.task_id for fire in found}) == 10


def test_a_week_outlasts_schedulers_that_live_for_a_day(machine: Machine) -> None:
    start = machine.to_half_a_minute()
    at = start + 6 * DAY
    row = machine.add(cron=f"{at.minute} {at.hour} * * {at.isoweekday() % 7}")
    fired = []
    for _ in range(15):
        machine.look(row)
        fired.append(len(machine.fires(row)))
        machine.close()
        machine.step(DAY)
    assert fired == [0] * 6 + [1] * 7 + [2] * 2
    assert {fire.outcome for fire in machine.fires(row)} == {"enqueued"}


def test_times_of_another_rule_are_not_taken_for_those_that_were_missed(machine: Machine) -> None:
    start = machine.to_half_a_minute()
    row = machine.add()
    for _ in range(3):
        machine.step(MINUTE)
        machine.look(row)
    settled = [fire.fire_at for fire in machine.fires(row)]
    machine.step(-HOUR)
    machine.look(row)
    schedules.edit(machine.database.connect("operator"), row.name, cron="*/2 * * * *")
    machine.step(HOUR + 9 * MINUTE)
    machine.look(row)
    missed = [at for at in _minutes(start, -56, 11) if at.minute % 2 == 0]
    [last] = [fire for fire in machine.fires(row) if fire.missed_count]
    assert last.fire_at == missed[-1]
    assert last.missed_count == len([at for at in missed[:-1] if at not in settled])


def test_an_interval_goes_on_before_the_moment_that_it_counts_from(machine: Machine) -> None:
    start = machine.to_half_a_minute()
    row = machine.add(cron=None, every=MINUTE)
    machine.look(row)
    machine.step(-HOUR)
    for _ in range(4):
        machine.look(row)
        machine.step(MINUTE)
    made = row.created_at.replace(microsecond=0)
    assert made - start.astimezone(UTC) < MINUTE
    assert [fire.fire_at for fire in machine.fires(row)] == [made - HOUR + n * MINUTE for n in range(1, 4)]
    machine.step(HOUR - 4 * MINUTE)
    machine.look(row)
    [*_, missed, last] = machine.fires(row)
    assert (missed.fire_at, missed.missed_count, last.fire_at) == (made - MINUTE, 55, made)


def test_a_scheduler_that_freezes_in_a_look_is_cut_off(machine: Machine) -> None:
    row, limit = machine.add(), "SHOW idle_in_transaction_session_timeout"
    scheduler = machine.database.connect("scheduler")
    with scheduler.transaction():
        assert fires.lock(scheduler, row.id)
        assert scheduler.execute(limit).fetchall() == [("10s",)]
    assert scheduler.execute(limit).fetchall() == [("0",)]


def test_an_edit_while_it_fires_lets_no_time_of_two_rules_through(machine: Machine) -> None:
    start = machine.to_half_a_minute()
    row = machine.add()
    machine.step(2 * MINUTE)
    machine.look(row)
    machine.step(MINUTE)
    operator, scheduler = machine.database.connect("operator"), machine.database.connect("scheduler")
    new = f"{(start + 9 * MINUTE).minute} * * * *"
    editing = threading.Thread(target=partial(schedules.edit, operator, row.name, cron=new))
    with scheduler.transaction():  # as in a look that does not come to its end
        assert fires.lock(scheduler, row.id)
        editing.start()
        eventually(lambda: machine.database.value(_WAITING))
    editing.join()
    machine.step(10 * MINUTE)
    machine.look(row)
    assert [fire.fire_at for fire in machine.fires(row)] == _minutes(start, 1, 2) + _minutes(start, 9, 9)


def _minutes(start: datetime, first: int, last: int) -> list[datetime]:
    """Return whole minutes behind the one of a moment."""
    return [start.replace(second=0).astimezone(UTC) + n * MINUTE for n in range(first, last + 1)]
