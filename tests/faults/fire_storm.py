"""Weather for schedulers: they are killed and frozen, Postgres goes away, clocks are stepped, operators edit.

By a seed. What each schedule had to do meanwhile is written down (`tests/faults/fires.py`), from Postgres' clock.
"""

import math
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import psycopg

from db import schedules
from db.connection import Connection, connect
from db.schedules import ScheduleRow, ScheduleSpec
from tests.faults import checks
from tests.faults.clocks import SteppedClock
from tests.faults.fires import WITNESS, Book, Rule, Story, Stretch, complaints, epoch, outcomes, seen_late, violations
from tests.faults.fleet import TIMES
from tests.faults.processes import Member
from tests.faults.rig import Rig
from tests.support.tenants import new_tenant
from tests.support.waiting import eventually, pass_time

MISFIRE = 3.0
HOUR, DAY, WEEK = 3600, 86_400, 604_800
_SCHEDULERS = {"SCHEDULER_MISFIRE_SECONDS": f"{MISFIRE:g}", "SCHEDULER_POLL_SECONDS": "1"}
_UNSEEN = """
SELECT count(*) FROM queue.schedules WHERE paused_at IS NULL AND removed_at IS NULL
    AND (next_fire_at <= clock_timestamp() OR settled_at > clock_timestamp())
"""
_SETTLED = "SELECT name, settled_at FROM queue.schedules"
_LAST = "SELECT last_value FROM public.fired_seq_seq"
_KATHMANDU = "Asia/Kathmandu"  # a quarter of an hour off the others


class FireStorm:
    """Three schedulers over a rig that has a relay and a worker, their schedules, and all that befalls them."""

    def __init__(self, rig: Rig, clock: SteppedClock, own: Sequence[SteppedClock], library: Path, seed: int) -> None:
        self.rig = rig
        self.done: Counter[str] = Counter()
        self.kills = 0
        self.seed = seed
        self.draw = random.Random(seed)
        self._clock = clock
        self._own = own
        self._base = self._offset = 0
        self._stories: dict[str, Story] = {}
        self._open: dict[str, tuple[float | None, Rule]] = {}
        self._created: dict[str, int] = {}
        self._run_ends: list[int] = []
        self._run_starts: dict[int, float] = {}
        for statement in WITNESS:
            rig.database.rows(statement)
        rig.add("relay", launcher=("console",), **TIMES)
        rig.add("worker", **TIMES)
        self.schedulers = [self._start(each, library) for each in own]
        rig.await_workers()
        self._add_all()

    def _start(self, clock: SteppedClock, library: Path) -> Member:
        given = [f"{name}={value}" for name, value in clock.environment(library).items()]
        return self.rig.add("scheduler", launcher=("tests.faults.anew", *given, "console"), **_SCHEDULERS)

    # ------------------------------------------------------------------------------------------------ schedules

    def _add_all(self) -> None:
        with self._operator() as operator:
            for declared in schedules.list_schedules(operator, limit=100):
                schedules.remove(operator, declared.name)
        now = math.ceil(epoch(self._now()))
        every = Rule(1)
        with new_tenant(self.rig.database) as one, new_tenant(self.rig.database) as other:
            first, second = one.tenant_id, other.tenant_id
        self._add("second", every, "all", limit=40, every=timedelta(seconds=1))
        self._add("two", Rule(2), "once", every=timedelta(seconds=2), tenant_id=first)
        self._add("zone", Rule(3), "skip", cron="*/3 * * * * *", zone=_KATHMANDU)
        self._add("jitter", Rule(2), "all", limit=120, jitter=1.5, every=timedelta(seconds=2), tenant_id=second)
        self._add("alone", every, "once", overlap="skip", every=timedelta(seconds=1), seconds=1.3)
        self._add("waits", every, "once", overlap="wait", every=timedelta(seconds=1), seconds=0.7)
        self._add("date", _once(now + 12), "once", at=datetime.fromtimestamp(now + 12, UTC))
        self._add("toggled", every, "skip", every=timedelta(seconds=1))
        self._add("edited", every, "all", limit=50, every=timedelta(seconds=1))
        # Nepal is 5:45 ahead: its quarter past is the half hour elsewhere.
        self._add("hourly", Rule(HOUR, HOUR // 2), "once", cron="15 * * * *", zone=_KATHMANDU)
        for name, ahead in (("weekly", DAY + 8), ("weekly missed", DAY // 2)):
            self._add(name, Rule(WEEK, now + ahead), "once", cron=_weekly(now + ahead), zone="Asia/Kolkata")

    def _add(
        self,
        name: str,
        rule: Rule,
        missed: Any,
        *,
        limit: int = 1,
        overlap: Any = "allow",
        jitter: float = 0.0,
        seconds: float | None = None,
        **when: Any,
    ) -> None:
        spec = ScheduleSpec(
            name=name,
            task_type="fault.effect" if seconds is None else "fault.slow",
            payload={"seconds": seconds or 0.0},
            missed=missed,
            missed_limit=limit,
            overlap=overlap,
            jitter=timedelta(seconds=jitter),
            **when,
        )
        with self._operator() as operator:
            row = schedules.add(operator, spec)
        self._created[name] = int(epoch(row.created_at))
        rule = self._interval(row) if row.every is not None else rule
        self._stories[name] = Story(name, rule, missed, limit, overlap, jitter)
        self._open[name] = (epoch(row.settled_at), rule)

    def _interval(self, row: ScheduleRow) -> Rule:
        """Return an interval's times: it counts from the second of its making, and back from there too."""
        assert row.every is not None
        period, made = round(row.every.total_seconds()), int(epoch(row.created_at))
        return Rule(period, made % period)

    # ------------------------------------------------------------------------------------------------ operators

    def edit(self) -> None:
        """Edit the times of a schedule while it fires."""
        every = timedelta(seconds=self.draw.choice((1, 2, 3)))

        def change(operator: Connection) -> ScheduleRow:
            return schedules.edit(operator, "edited", every=every)

        row = self._at_once("edited", change)
        if row is not None:
            self._open["edited"] = (epoch(row.settled_at), self._interval(row))

    def toggle(self) -> None:
        """Pause a schedule, or resume it."""
        is_paused = "toggled" not in self._open
        deed = schedules.resume if is_paused else schedules.pause

        def steer(operator: Connection) -> ScheduleRow | None:
            assert deed(operator, "toggled")
            return schedules.show(operator, "toggled")

        row = self._at_once("toggled", steer)
        if row is not None and is_paused:
            self._open["toggled"] = (epoch(row.settled_at), self._stories["toggled"].rule)

    def _at_once(self, name: str, deed: Callable[[Connection], ScheduleRow | None]) -> ScheduleRow | None:
        """Do a deed, and close the stretch before it where the schedule was settled; None where no scheduler has
        looked since the clock was set back."""
        with self._operator() as operator, operator.transaction():
            row = schedules._held(operator, name)
            if row.settled_at > self._now():
                return None
            self._close(name, epoch(row.settled_at))
            return deed(operator)

    def _close(self, name: str, end: float) -> None:
        if name in self._open:
            start, rule = self._open.pop(name)
            self._stories[name].stretches.append(Stretch(len(self._run_ends), start, end, rule))

    @contextmanager
    def _operator(self) -> Iterator[Connection]:
        with connect(self.rig.database.url("operator"), name="storm") as connection:
            yield connection

    # ------------------------------------------------------------------------------------------------ clocks

    def back_an_hour(self) -> None:
        """Set Postgres' clock back an hour, or on again."""
        self._step_to(self._base - HOUR if self._offset >= self._base else self._base)

    def on_a_day(self) -> None:
        """Set Postgres' clock on by a day, or back again."""
        self._step_to(self._base + DAY if self._offset <= self._base else self._base)

    def own_clock(self) -> None:
        """Step the clock of one scheduler's machine."""
        self.draw.choice(self._own).step(self.draw.choice((-DAY, -HOUR, -7, 0, 7, HOUR, DAY)))

    def _step_to(self, offset: int) -> None:
        """Step the clock while no scheduler looks, once all have seen what it said before: a run then has an end."""
        eventually(lambda: self.rig.tend() and self._step(offset), 60, pause=0.05)

    def _step(self, offset: int) -> bool:
        with psycopg.connect(self.rig.database.superuser_url) as connection:
            connection.execute("SET LOCAL lock_timeout = '2s'")
            try:
                connection.execute("SELECT 1 FROM queue.schedules FOR UPDATE")
            except psycopg.errors.LockNotAvailable:
                return False
            if self._value(connection, _UNSEEN):
                return False
            before = self._clock_of(connection)
            self._clock.step(offset)
            after = self._clock_of(connection)
            assert abs((after - before) - (offset - self._offset)) < 5, "the clock stands"
            if offset < self._offset:
                settled = {name: epoch(at) for name, at in connection.execute(_SETTLED).fetchall()}
                self._begin_run(before, after, settled, self._value(connection, _LAST))
            self._offset = offset
        return True

    def _begin_run(self, before: float, after: float, settled: Mapping[str, float], last: int) -> None:
        started = list(self._open.items())
        for name, _ in started:
            self._close(name, before)
        self._run_ends.append(last)
        self._run_starts[len(self._run_ends)] = after
        # Of one that had nothing to do in the time that was none, nobody need see it.
        self._open = {name: (at if (at := settled[name]) <= after else None, rule) for name, (_, rule) in started}

    def _now(self) -> datetime:
        now: datetime = self.rig.database.value("SELECT clock_timestamp()")
        return now

    def _clock_of(self, connection: psycopg.Connection[Any]) -> float:
        return float(self._value(connection, "SELECT extract(epoch FROM clock_timestamp())::float8"))

    def _value(self, connection: psycopg.Connection[Any], query: str) -> Any:
        [(value,)] = connection.execute(query.encode()).fetchall()
        return value

    # ------------------------------------------------------------------------------------------------ what goes wrong

    def kill_one(self) -> None:
        """Kill a scheduler, and start another in its place."""
        self._kill([self.draw.choice(self.schedulers)])

    def kill_all(self) -> None:
        """Kill all schedulers at once, and start others in their place, by and by."""
        self._kill(self.schedulers)

    def _kill(self, victims: Sequence[Member]) -> None:
        self._end(victims)
        pass_time(self.draw.uniform(0.0, 2 * MISFIRE))
        self.rig.tend()

    def _end(self, victims: Sequence[Member]) -> None:
        for victim in victims:
            if victim.status() is None:
                victim.kill()
                self.kills += 1

    def freeze(self) -> None:
        """Freeze one or two schedulers past the time that a fire may take, and let them go on."""
        victims = [
            each for each in self.draw.sample(self.schedulers, self.draw.choice((1, 2))) if each.status() is None
        ]
        for victim in victims:
            victim.freeze()
        pass_time(self.draw.uniform(0.5, 2.5 * MISFIRE))
        for victim in victims:
            victim.thaw()

    def restart(self) -> None:
        """Restart Postgres in order."""
        self._away(at_once=False, seconds=0.0)

    def crash(self) -> None:
        """Crash Postgres, and start it."""
        self._away(at_once=True, seconds=0.0)

    def away(self) -> None:
        """Take Postgres away for a while, and kill a scheduler meanwhile."""
        self._away(at_once=self.draw.random() < 0.5, seconds=self.draw.uniform(1.0, 2 * MISFIRE), victims=1)

    def away_for_minutes(self) -> None:
        """Take Postgres away for ten minutes of its clock."""
        self._away(at_once=self.draw.random() < 0.5, seconds=0.5, minutes=10)

    def _away(self, *, at_once: bool, seconds: float, minutes: int = 0, victims: int = 0) -> None:
        self.rig.stop_server(at_once=at_once)
        self._end(self.draw.sample(self.schedulers, victims))
        self._base += 60 * minutes
        self._offset += 60 * minutes
        self._clock.step(self._offset)
        pass_time(seconds)
        self.rig.start_server()
        self.rig.tend()

    # ------------------------------------------------------------------------------------------------ the whole

    def rage(self, deeds: Sequence[str], seconds: float) -> None:
        """Do one deed after the other, with rests that use up the time, and look after whoever fell over."""
        until = time.monotonic() + seconds
        for number, deed in enumerate(deeds):
            getattr(self, deed)()
            self.done[deed] += 1
            self.rig.tend()
            rest = max(0.0, until - time.monotonic()) / (len(deeds) - number)
            pass_time(min(self.draw.uniform(0.1, 1.0) * rest, 5.0) + 0.01)

    def rage_on(self, weights: Mapping[str, int], seconds: float) -> None:
        """Do deeds at random, as often as their weights say, until the time is up."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            [deed] = self.draw.choices(list(weights), list(weights.values()))
            self.rage([deed], self.draw.uniform(0.1, 4.0))

    def end(self) -> None:
        """Let all schedules be settled, pause them, and wait until every task has ended, by the furthest clock.

        Relay and worker begin anew for that: what clocks that step do to theirs is `test_clock.py`'s.
        """
        eventually(lambda: self.rig.tend() and self._pause_all(), 60, pause=0.05)
        self._clock.step(self._base + 2 * DAY)
        for member in (*self.rig.relays, *self.rig.workers):
            if member.status() is None:
                member.kill()
        self.rig.await_end(120)

    def _pause_all(self) -> bool:
        with psycopg.connect(self.rig.database.superuser_url) as connection:
            connection.execute("SELECT 1 FROM queue.schedules FOR UPDATE")
            if self._value(connection, _UNSEEN):
                return False
            end = self._clock_of(connection)
            connection.execute("UPDATE queue.schedules SET paused_at = clock_timestamp() WHERE paused_at IS NULL")
        for name in list(self._open):
            self._close(name, end)
        return True

    def judge(self) -> list[str]:
        """Return what was done that should not have been, and what was left out."""
        book = self.book()
        found = [*checks.violations(self.rig.database), *violations(self.rig.database)]
        for story in self._stories.values():
            found += [*complaints(story, book, MISFIRE), *seen_late(story, book, self._run_starts)]
        return found

    def book(self) -> Book:
        """Return what the witness noted."""
        return Book.read(self.rig.database, self._run_ends)

    def weekly_tasks(self) -> dict[str, int]:
        """Return how many tasks the weekly schedules had."""
        return dict(
            self.rig.database.rows("""
            SELECT s.name, count(*)::integer FROM queue.fires f JOIN queue.schedules s ON s.id = f.schedule_id
            WHERE f.task_id IS NOT NULL AND s.name LIKE 'weekly%' GROUP BY 1""")
        )

    def summary(self) -> str:
        """Return one line for people."""
        tasks = dict(self.rig.database.rows("SELECT status, count(*)::integer FROM queue.tasks_history GROUP BY 1"))
        return (
            f"fires, seed {self.seed}: {self.done.total()} deeds {dict(self.done)}, {self.kills} schedulers killed,"
            f" {len(self._run_ends)} set-backs of the clock; rows {outcomes(self.book())}, weekly tasks"
            f" {self.weekly_tasks()}; tasks {tasks}"
        )


def _once(at: int) -> Rule:
    return Rule(1, first=at, last=at)


def _weekly(at: int) -> str:
    """Return a cron expression in the zone of Kolkata whose one time a week is a moment's."""
    local = datetime.fromtimestamp(at, ZoneInfo("Asia/Kolkata"))
    return f"{local.second} {local.minute} {local.hour} * * {local.isoweekday() % 7}"
