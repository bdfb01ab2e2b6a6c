"""Schedules as operators and the code keep them: added, edited, paused, removed, installed; who may know of them."""

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from core.errors import (
    DuplicateError,
    GreenroomError,
    InvalidPayloadError,
    NotFoundError,
    ScheduleError,
    UnknownTaskTypeError,
)
from db import fires, health, schedules
from db.connection import Connection, bind_tenant
from db.schedules import Declaration, ScheduleSpec
from tests.support.database import Database
from tests.support.factory import Factory
from tests.support.tenants import LOOK, acting, refusals
from tests.support.waiting import eventually

EVENTS = (
    "SELECT event_type, resource_id, metadata FROM audit.audit_events WHERE resource_id = %s ORDER BY created_at, id"
)
TOMORROW = datetime.now(UTC) + timedelta(days=1)


def spec(**given: Any) -> ScheduleSpec:
    """A schedule of a name of its own, nightly unless its times are given."""
    when = {} if {"cron", "every", "at"} & set(given) else {"cron": "0 4 * * *"}
    return ScheduleSpec(**({"name": f"s-{uuid4()}", "task_type": "test.noop", "payload": {"n": 1}} | when | given))


def declared(what: ScheduleSpec, module: str = "shop.tasks") -> Declaration:
    return Declaration(spec=what, module=module, design="004")


def names(operator: Connection) -> set[str]:
    return {each.name for each in schedules.list_schedules(operator, limit=1000)}


# ---------------------------------------------------------------------------------------------------- an operator's


def test_what_was_added_is_kept_as_it_was_said(shared: Database, operator: Connection, theirs: Factory) -> None:
    wanted = spec(
        tenant_id=theirs.tenant_id, every=timedelta(minutes=90), zone="Europe/Madrid", gap="skip", fold="both",
        starts_at=TOMORROW, ends_at=TOMORROW + timedelta(days=9), jitter=timedelta(seconds=1.5), missed="all",
        missed_limit=3, overlap="wait", queue="nightly", priority=-5, description="Counts sheep.",
    )  # fmt: skip
    added = schedules.add(operator, wanted)
    assert (added.spec(), added.source, added.is_edited) == (wanted, "operator", False)
    assert schedules.show(operator, wanted.name) == added
    assert added.next_fire_at is not None
    assert added.next_fire_at <= added.settled_at  # a scheduler looks at it at once
    [event] = shared.rows(EVENTS, (wanted.name,))
    assert event[:2] == ("schedule.added", wanted.name)


@pytest.mark.parametrize(
    ("wrong", "error", "told"),
    [
        ({"name": ""}, ScheduleError, "1 to 100 characters"),
        ({"name": "two\nlines"}, ScheduleError, "characters that print"),
        ({"name": "right\u202eto left"}, ScheduleError, "characters that print"),
        ({"name": " padded"}, ScheduleError, "no space at its ends"),
        ({"cron": "0 4 * * *", "every": timedelta(hours=1)}, ScheduleError, "exactly one of"),
        ({"cron": None}, ScheduleError, "exactly one of"),
        ({"every": timedelta(milliseconds=1500)}, ScheduleError, "whole seconds"),
        ({"every": timedelta(0)}, ScheduleError, "whole seconds"),
        ({"every": timedelta(days=4000)}, ScheduleError, "ten years"),
        ({"at": datetime(2030, 1, 1)}, ScheduleError, "time zone"),  # noqa: DTZ001 - what is refused
        ({"starts_at": TOMORROW, "ends_at": TOMORROW - timedelta(days=1)}, ScheduleError, "ends before it starts"),
        ({"jitter": timedelta(days=2)}, ScheduleError, "jitter"),
        ({"missed_limit": 0}, ScheduleError, "missed_limit"),
        ({"priority": 101}, ScheduleError, "priority"),
        ({"queue": "x" * 101}, ScheduleError, "queue"),
        ({"description": "x" * 2001}, ScheduleError, "description"),
        ({"task_type": "test.nobody"}, UnknownTaskTypeError, "test.noop"),
        ({"payload": {"n": "x"}}, InvalidPayloadError, "test.noop"),
        ({"task_type": "test.roll", "payload": {}, "tenant_id": uuid4()}, ScheduleError, "leave the tenant out"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_to_do(
    operator: Connection, wrong: dict[str, Any], error: type[GreenroomError], told: str
) -> None:
    wanted = spec(**wrong)
    with pytest.raises(error, match=told):
        schedules.add(operator, wanted)
    assert schedules.show(operator, wanted.name) is None


def test_a_name_that_is_taken_is_told(operator: Connection) -> None:
    wanted = spec()
    schedules.add(operator, wanted)
    with pytest.raises(DuplicateError):
        schedules.add(operator, wanted)


def test_an_edit_of_its_times_has_it_looked_at_anew_and_any_other_does_not(
    shared: Database, operator: Connection, scheduler: Connection
) -> None:
    added = schedules.add(operator, spec())
    fires.settle(scheduler, added.id, settled_at=added.settled_at, next_fire_at=TOMORROW, last_fire_at=None)
    told = schedules.edit(operator, added.name, payload={"n": 2}, overlap="allow")
    assert (told.payload, told.overlap, told.next_fire_at) == ({"n": 2}, "allow", TOMORROW)
    moved = schedules.edit(operator, added.name, cron=None, every=timedelta(hours=1))
    assert moved.next_fire_at is not None
    assert added.settled_at < moved.settled_at
    assert moved.next_fire_at <= moved.settled_at
    events = [event[::2] for event in shared.rows(EVENTS, (added.name,))]
    assert events[1:] == [
        ("schedule.edited", {"fields": ["overlap", "payload"]}),
        ("schedule.edited", {"fields": ["cron", "every"]}),
    ]


@pytest.mark.parametrize(
    ("changes", "told"),
    [({"name": "other"}, "name cannot be changed"), ({"colour": 1}, "colour cannot"), ({"cron": None}, "exactly one")],
)
def test_an_edit_that_makes_no_sense_changes_nothing(operator: Connection, changes: dict[str, Any], told: str) -> None:
    added = schedules.add(operator, spec())
    with pytest.raises(ScheduleError, match=told):
        schedules.edit(operator, added.name, **changes)
    assert schedules.show(operator, added.name) == added


def test_an_edit_waits_while_the_schedule_fires(shared: Database, operator: Connection, scheduler: Connection) -> None:
    added = schedules.add(operator, spec())
    other, done = shared.connect("operator"), threading.Event()

    def edit() -> None:
        schedules.edit(other, added.name, every=timedelta(hours=1), cron=None)
        done.set()

    with scheduler.transaction():
        assert fires.lock(scheduler, added.id)
        thread = threading.Thread(target=edit)
        thread.start()
        eventually(lambda: shared.value("SELECT count(*) FROM pg_locks WHERE NOT granted") == 1)
        assert not done.is_set()
    thread.join()
    assert done.is_set()


def test_a_paused_schedule_is_not_due_and_goes_on_from_its_resumption(
    operator: Connection, scheduler: Connection
) -> None:
    added = schedules.add(operator, spec())
    assert added.id in fires.due(scheduler, 1000)
    assert schedules.pause(operator, added.name)
    assert not schedules.pause(operator, added.name)
    assert added.id not in fires.due(scheduler, 1000)
    with scheduler.transaction():
        assert not fires.lock(scheduler, added.id)
    assert schedules.resume(operator, added.name)
    assert not schedules.resume(operator, added.name)
    known = schedules.show(operator, added.name)
    assert known is not None
    assert known.paused_at is None
    assert known.settled_at > added.settled_at


@pytest.mark.parametrize("deed", [schedules.pause, schedules.resume, schedules.remove, schedules.edit])
def test_a_schedule_that_is_not_there_is_told(operator: Connection, deed: Any) -> None:
    with pytest.raises(NotFoundError, match="schedules list"):
        deed(operator, "nobody")


def test_an_operators_schedule_that_is_removed_is_gone_with_its_history(
    shared: Database, operator: Connection, scheduler: Connection
) -> None:
    added = schedules.add(operator, spec())
    assert fires.fire(scheduler, added.id, fires.NewFire(fire_at=TOMORROW, outcome="missed"))
    schedules.remove(operator, added.name)
    assert schedules.show(operator, added.name) is None
    assert shared.rows("SELECT 1 FROM queue.fires WHERE schedule_id = %s", (added.id,)) == []


def test_a_listing_goes_on_behind_its_last_name(operator: Connection) -> None:
    made = sorted(schedules.add(operator, spec(name=f"zz-{n}")).name for n in range(3))
    first = schedules.list_schedules(operator, limit=2, after="zz-")
    rest = schedules.list_schedules(operator, limit=2, after=first[-1].name)
    assert [each.name for each in (*first, *rest)] == made


# ---------------------------------------------------------------------------------------------------- the code's


def test_the_code_s_schedules_are_added_changed_and_dropped(shared: Database, operator: Connection) -> None:
    owner, first, other = shared.connect(), spec(), spec()
    done = schedules.install(owner, [declared(first), declared(other)], ["shop.tasks"])
    assert (done.added, done.dropped) == ([first.name, other.name], [])
    changed = replace(first, cron="5 5 * * *")
    done = schedules.install(owner, [declared(changed)], ["shop.tasks"])
    assert (done.changed, done.dropped) == ([first.name], [other.name])
    again = schedules.install(owner, [declared(changed)], ["shop.tasks"])
    assert (again.added, again.changed, again.kept, again.dropped) == ([], [], [first.name], [])
    known = schedules.show(operator, first.name)
    assert known is not None
    assert (known.cron, known.source, known.is_edited) == ("5 5 * * *", "code", False)
    assert (known.declared or {})["design"] == "004"


def test_an_operators_edit_is_kept_over_the_code_s(shared: Database, operator: Connection) -> None:
    owner, wanted = shared.connect(), spec()
    schedules.install(owner, [declared(wanted)], ["shop.tasks"])
    schedules.edit(operator, wanted.name, cron="1 1 * * *")
    done = schedules.install(owner, [declared(replace(wanted, cron="9 9 * * *"))], ["shop.tasks"])
    known = schedules.show(operator, wanted.name)
    assert known is not None
    assert (done.kept, known.cron, (known.declared or {})["cron"]) == ([wanted.name], "1 1 * * *", "9 9 * * *")
    assert schedules.install(owner, [], ["shop.tasks"]).dropped == []
    schedules.remove(operator, wanted.name)
    assert schedules.install(owner, [], ["shop.tasks"]).dropped == [wanted.name]


def test_a_removed_schedule_of_the_code_does_not_come_back_until_it_is_added(
    shared: Database, operator: Connection, scheduler: Connection
) -> None:
    owner, wanted = shared.connect(), spec()
    schedules.install(owner, [declared(wanted)], ["shop.tasks"])
    schedules.pause(operator, wanted.name)
    schedules.remove(operator, wanted.name)
    changed = declared(replace(wanted, cron="9 9 * * *"))
    assert schedules.install(owner, [changed], ["shop.tasks"]).kept == [wanted.name]
    known = schedules.show(operator, wanted.name)
    assert known is not None
    assert known.cron == wanted.cron
    assert known.id not in fires.due(scheduler, 1000)
    assert wanted.name not in names(operator)
    with pytest.raises(NotFoundError, match="removed"):
        schedules.pause(operator, wanted.name)
    back = schedules.add(operator, replace(wanted, cron="7 7 * * *"))
    assert (back.id, back.cron, back.is_edited) == (known.id, "7 7 * * *", True)
    assert back.paused_at is None
    assert known.id in fires.due(scheduler, 1000)


def test_the_code_takes_no_name_that_an_operator_has(shared: Database, operator: Connection) -> None:
    added = schedules.add(operator, spec())
    done = schedules.install(shared.connect(), [declared(replace(added.spec(), cron="9 9 * * *"))], ["shop.tasks"])
    assert done.kept == [added.name]
    assert schedules.show(operator, added.name) == added


def test_who_migrates_without_a_module_leaves_its_schedules(shared: Database, operator: Connection) -> None:
    owner, foreign, ours = shared.connect(), spec(), spec()
    schedules.install(owner, [declared(foreign, "other.tasks"), declared(ours, "pipelines.gone")], ["other.tasks"])
    assert schedules.install(owner, [], ["shop.tasks"]).dropped == [ours.name]
    assert foreign.name in names(operator)


def test_moments_are_in_utc_whatever_the_sessions_zone(shared: Database, operator: Connection) -> None:
    row, connection, reader = schedules.add(operator, spec()), shared.connect("scheduler"), shared.connect("reader")
    for each in (connection, reader):
        each.execute("SET TimeZone = 'Europe/Berlin'")
    twice = datetime(
        2025, 10, 26, 1, tzinfo=UTC
    )  # the second 02:00 of that night, which equals no moment of another zone
    fires.fire(connection, row.id, fires.NewFire(fire_at=twice, outcome="missed"))
    assert fires.fires_at(connection, row.id, [twice]) == {twice: False}
    found = schedules.read(connection, row.id)
    assert found is not None
    assert {moment.tzinfo for moment in (found[0], found[1].settled_at, health.now(connection))} == {UTC}
    [fire] = fires.history(reader, row.id, limit=2)
    assert {fire.fire_at.tzinfo, fire.fired_at.tzinfo} == {UTC}


# ---------------------------------------------------------------------------------------------------- who knows of them


@pytest.mark.parametrize("role", ["operator", "reader"])
def test_a_bound_login_knows_its_tenants_schedules_and_fires_alone(
    shared: Database, operator: Connection, scheduler: Connection, theirs: Factory, role: str
) -> None:
    own, other = schedules.add(operator, spec(tenant_id=theirs.tenant_id)), schedules.add(operator, spec())
    for each in (own, other):
        fires.fire(scheduler, each.id, fires.NewFire(fire_at=TOMORROW, outcome="missed"))
    with acting(shared, role, theirs.tenant_id) as bound:
        assert [each.id for each in schedules.list_schedules(bound, limit=1000)] == [own.id]
        assert bound.execute("SELECT schedule_id FROM queue.fires").fetchall() == [(own.id,)]
    with acting(shared, role) as unbound:
        assert {own.id, other.id} <= {each.id for each in schedules.list_schedules(unbound, limit=1000)}


@pytest.mark.parametrize("role", ["relay", "worker", "system", "producer"])
def test_who_has_nothing_to_do_with_schedules_sees_none(shared: Database, role: str) -> None:
    tables = ["queue.fires", "queue.schedules"]
    assert refusals(shared, role, LOOK, tables) == tables


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE queue.schedules SET payload = '{}'",
        "DELETE FROM queue.schedules",
        "INSERT INTO queue.schedules (name, task_type, cron) VALUES ('x', 'test.noop', '* * * * *')",
        "SELECT payload FROM queue.tasks_live",
        "UPDATE queue.tasks_live SET status = status",
        "INSERT INTO queue.outbox_tasks (task_type, payload) VALUES ('test.noop', '{}')",
        "SELECT 1 FROM identity.tenants",
        "SELECT 1 FROM knowledge.documents",
    ],
)
def test_a_scheduler_may_do_no_more_than_it_needs(shared: Database, statement: str) -> None:
    with acting(shared, "scheduler") as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement.encode())


def test_a_tenants_end_takes_its_schedules(shared: Database, operator: Connection, theirs: Factory) -> None:
    added = schedules.add(operator, spec(tenant_id=theirs.tenant_id))
    erase = "SELECT gone FROM ops.erase_page(%s, 'queue.schedules', 100, 0)"
    shared.rows("UPDATE identity.tenants SET status = 'deleted' WHERE id = %s", (theirs.tenant_id,))
    with acting(shared, "system") as system:
        bind_tenant(system, None)
        assert system.execute(erase.encode(), (theirs.tenant_id,)).fetchall() == [(1,)]
        assert schedules.show(shared.connect(), added.name) is not None


# ---------------------------------------------------------------------------------------------------- fires


def test_a_time_has_one_task_and_a_row_without_one_may_be_turned(operator: Connection, scheduler: Connection) -> None:
    added, task_id = schedules.add(operator, spec()), UUID(int=7)
    missed = fires.NewFire(fire_at=TOMORROW, outcome="missed")
    enqueued = fires.NewFire(fire_at=TOMORROW, outcome="enqueued", task_id=task_id, missed_count=2)
    assert fires.fire(scheduler, added.id, missed)
    assert fires.fires_at(scheduler, added.id, [TOMORROW]) == {TOMORROW: False}
    assert fires.fire(scheduler, added.id, enqueued)
    assert not fires.fire(scheduler, added.id, replace(enqueued, task_id=UUID(int=8)))
    assert not fires.fire(scheduler, added.id, missed)
    [row] = fires.history(operator, added.id, limit=10)
    assert (row.outcome, row.task_id, row.missed_count, row.status) == ("enqueued", task_id, 2, None)


def test_history_is_a_page_at_a_time_newest_first(operator: Connection, scheduler: Connection) -> None:
    added = schedules.add(operator, spec())
    times = [TOMORROW + timedelta(hours=n) for n in range(5)]
    for at in times:
        fires.fire(scheduler, added.id, fires.NewFire(fire_at=at, outcome="overlapped"))
    first = fires.history(operator, added.id, limit=3)
    rest = fires.history(operator, added.id, limit=3, before=first[-1].fire_at)
    assert [row.fire_at for row in (*first, *rest)] == times[::-1]


def test_old_fires_are_forgotten_but_for_the_last_of_each(operator: Connection, scheduler: Connection) -> None:
    added, now = schedules.add(operator, spec()), datetime.now(UTC)
    times = [now - timedelta(days=days) for days in (1, 40, 50, 60)]
    for at in times:
        fires.fire(scheduler, added.id, fires.NewFire(fire_at=at, outcome="missed"))
    fires.settle(scheduler, added.id, settled_at=now, next_fire_at=None, last_fire_at=times[2])
    assert fires.prune(scheduler, days=30, limit=1) == 1
    fires.prune(scheduler, days=30, limit=100)
    assert [row.fire_at for row in fires.history(operator, added.id, limit=10)] == [times[0], times[2]]


def test_the_next_due_time_is_told_by_postgres_clock(operator: Connection, scheduler: Connection) -> None:
    for each in schedules.list_schedules(operator, limit=1000):
        schedules.pause(operator, each.name)
    assert fires.due_in(scheduler) is None
    added = schedules.add(operator, spec())
    fires.settle(scheduler, added.id, settled_at=added.settled_at, next_fire_at=TOMORROW, last_fire_at=None)
    seconds = fires.due_in(scheduler)
    assert seconds is not None
    assert 80_000 < seconds <= 86_400
    assert added.id not in fires.due(scheduler, 1000)
    # settled up to a future that is none any more: the clock was set back
    fires.settle(scheduler, added.id, settled_at=TOMORROW, next_fire_at=TOMORROW, last_fire_at=None)
    assert added.id in fires.due(scheduler, 1000)
