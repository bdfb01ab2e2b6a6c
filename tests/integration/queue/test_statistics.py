"""Statistics by minute: what is counted, when, by whom, what late commits change, and what is forgotten."""

import threading
from collections.abc import Iterator
from datetime import datetime, timedelta

import psycopg
import pytest
from psycopg import sql

from core import events
from core.errors import UnavailableError
from db import statistics
from db.connection import KeptConnection
from tests.support.database import Database
from tests.support.engine import Line
from tests.support.rows import ended, waiting
from workers.statistics import Statistics

MINUTE = timedelta(minutes=1)
_ATTEMPT = (
    "INSERT INTO queue.attempts (task_id, claim_number, number, outcome, ended_at)"
    " SELECT %s, n, n, %s, %s FROM generate_series(1, %s) n"
)


@pytest.fixture
def closed(database: Database) -> datetime:
    """The end of the last closed minute; nothing before the two minutes that it ends is still to be counted."""
    # a test that began in one minute shall not end in the next
    [(moment, left)] = database.rows(
        "SELECT date_trunc('minute', clock_timestamp(), 'UTC'), 60 - extract(second FROM clock_timestamp())"
    )
    if left < 5:
        database.value("SELECT pg_sleep(%s) IS NULL", (float(left) + 0.01,))
        moment += MINUTE
    assert isinstance(moment, datetime)
    reach(database, moment - MINUTE)
    return moment


@pytest.fixture
def service(database: Database) -> Iterator[Statistics]:
    service = Statistics(KeptConnection(database.url("relay"), name="statistics"), keep_days=30)
    yield service
    service.close()


def reach(database: Database, moment: datetime) -> None:
    database.rows("UPDATE queue.chores SET reached_at = %s WHERE name = 'statistics'", (moment,))


def reached(database: Database) -> datetime:
    moment = database.value("SELECT reached_at FROM queue.chores WHERE name = 'statistics'")
    assert isinstance(moment, datetime)
    return moment


def counted(database: Database, columns: str = "queue, task_type, done, failed, cancelled") -> list[tuple[object, ...]]:
    return database.rows(f"SELECT {columns} FROM queue.statistics ORDER BY minute, queue, task_type")  # noqa: S608


def test_what_ended_in_the_closed_minute_is_counted_by_queue_and_type(database: Database, closed: datetime) -> None:
    last = closed - timedelta(seconds=1)
    ended(database, last, count=3)
    ended(database, closed - MINUTE, status="failed", count=2)
    ended(database, last, status="cancelled", queue="mail")
    ended(database, last, task_type="test.write", queue="mail", count=4)
    ended(database, closed)  # of the minute that runs
    assert statistics.roll_up(database.connect("relay")) is False
    assert counted(database) == [
        ("default", "test.noop", 3, 2, 0),
        ("mail", "test.noop", 0, 0, 1),
        ("mail", "test.write", 4, 0, 0),
    ]
    assert database.rows("SELECT DISTINCT minute FROM queue.statistics") == [(closed - MINUTE,)]
    assert reached(database) == closed


def test_seconds_of_running_and_of_waiting_are_summed_with_their_greatest(database: Database, closed: datetime) -> None:
    for run, waited in ((1.0, 0.5), (3.0, 10.0)):
        ended(database, closed - timedelta(seconds=5), run=run, waited=waited)
    never = ended(database, closed - timedelta(seconds=5), status="cancelled", run=99)
    database.rows("UPDATE queue.tasks_history SET started_at = NULL WHERE id = ANY (%s)", (never,))
    statistics.roll_up(database.connect("relay"))
    columns = "done, cancelled, runs, run_seconds, run_seconds_max, wait_seconds, wait_seconds_max"
    assert counted(database, columns) == [(2, 1, 2, 4.0, 3.0, 10.5, 10.0)]


def test_attempts_that_did_not_end_their_task_are_counted_live_or_ended(database: Database, closed: datetime) -> None:
    [live], [over] = waiting(database, queue="mail"), ended(database, closed - timedelta(minutes=9), queue="mail")
    for outcome, count in (("retry", 3), ("snooze", 2), ("handed_back", 1), ("fail", 5)):
        database.rows(_ATTEMPT, (live, outcome, closed - MINUTE, count))
    database.rows(_ATTEMPT, (over, "lost", closed - timedelta(seconds=1), 4))
    database.rows(_ATTEMPT, (over, "retry", closed, 7))
    statistics.roll_up(database.connect("relay"))
    assert counted(database, "queue, done, runs, retried, snoozed, lost, handed_back") == [("mail", 0, 0, 3, 2, 4, 1)]


def test_the_attempts_of_a_task_that_was_purged_are_left_out(database: Database, closed: datetime) -> None:
    database.rows(_ATTEMPT, ("00000000-0000-7000-8000-00000000dead", "retry", closed - MINUTE, 1))
    statistics.roll_up(database.connect("relay"))
    assert counted(database) == []


def test_what_commits_late_is_counted_with_the_minute_after(database: Database, closed: datetime) -> None:
    late = closed - MINUTE - timedelta(seconds=1)
    ended(database, late)
    reach(database, closed - 2 * MINUTE)
    relay = database.connect("relay")
    assert statistics.roll_up(relay) is True
    assert counted(database, "done") == [(1,)]
    ended(database, late, count=2, run=4.0)
    assert statistics.roll_up(relay) is False
    assert counted(database, "minute, done, run_seconds") == [(closed - 2 * MINUTE, 3, 8.0)]


def test_a_failure_that_was_replayed_since_stays_counted(database: Database, closed: datetime) -> None:
    late = closed - MINUTE - timedelta(seconds=1)
    tasks = ended(database, late, status="failed", count=2)
    reach(database, closed - 2 * MINUTE)
    relay = database.connect("relay")
    statistics.roll_up(relay)
    database.rows("DELETE FROM queue.tasks_history WHERE id = %s", (tasks[0],))
    ended(database, late)
    statistics.roll_up(relay)
    assert counted(database, "done, failed") == [(1, 2)]


def test_a_minute_that_is_counted_again_with_the_same_result_is_not_written(
    database: Database, closed: datetime
) -> None:
    ended(database, closed - MINUTE)
    relay = database.connect("relay")
    statistics.roll_up(relay)
    before = counted(database, "xmin::text")
    reach(database, closed - MINUTE)
    statistics.roll_up(relay)
    assert counted(database, "xmin::text") == before


def test_missed_minutes_are_caught_up_one_a_round(database: Database, closed: datetime, service: Statistics) -> None:
    for ago in range(1, 6):
        ended(database, closed - ago * MINUTE, count=ago)
    reach(database, closed - 5 * MINUTE)
    assert [service.run_once() for _ in range(4)] == [0.0] * 4
    assert 0 < service.run_once() < 63.1
    assert counted(database, "done") == [(5,), (4,), (3,), (2,), (1,)]
    assert database.value("SELECT count(DISTINCT minute) FROM queue.gauges") <= 1, "only how it stands now is known"


def test_what_was_missed_for_longer_than_a_day_is_left_out(database: Database, closed: datetime) -> None:
    database.rows("UPDATE queue.chores SET reached_at = '-infinity'")
    assert statistics.roll_up(database.connect("relay")) is True
    assert reached(database) >= closed - timedelta(days=1)


def test_a_clock_that_was_set_back_stops_nothing(database: Database, closed: datetime) -> None:
    reach(database, closed + timedelta(days=400))
    ended(database, closed - MINUTE)
    assert statistics.roll_up(database.connect("relay")) is False
    assert (counted(database, "done"), reached(database)) == ([(1,)], closed)


def test_a_relay_leaves_to_another_what_that_one_does(database: Database, closed: datetime) -> None:
    ended(database, closed - MINUTE)
    first, second = database.connect("relay"), database.connect("relay")
    with first.transaction():
        assert statistics.QUERIES.run(first, "begin", {"catch_up": 9}) == [(closed - MINUTE, closed)]
        assert statistics.roll_up(second) is False, "and does not wait"
    assert counted(database) == []
    statistics.roll_up(second)
    assert counted(database, "done") == [(1,)]


def test_three_relays_at_once_count_each_minute_once(database: Database, closed: datetime) -> None:
    for ago in range(1, 31):
        ended(database, closed - ago * MINUTE, count=2)
    reach(database, closed - 30 * MINUTE)
    failures: list[Exception] = []

    def count() -> None:
        connection = database.connect("relay")
        try:
            while reached(database) < closed:
                statistics.roll_up(connection)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=count) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert counted(database, "done") == [(2,)] * 30


def test_how_queues_stand_is_kept_and_told(
    database: Database, closed: datetime, line: Line, service: Statistics, recorded: list[events.Event]
) -> None:
    waiting(database, queue="mail", seconds=120, count=3)
    waiting(database, queue="mail", seconds=5)
    waiting(database, queue="mail", seconds=-60)
    waiting(database, queue="mail", hold_reason="held")
    database.rows("INSERT INTO queue.queues (name) VALUES ('idle')")
    waiting(database, seconds=600, count=2)
    line.take(line.claim()[:1])
    service.run_once()
    [told] = [event for event in recorded if isinstance(event, events.QueuesMeasured)]
    assert {name: told.queues[name][:2] for name in ("default", "idle", "mail")} == {
        "default": (1, 1), "idle": (0, 0), "mail": (4, 0)
    }  # fmt: skip
    assert {name: round(told.queues[name][2], -1) for name in ("default", "idle", "mail")} == {
        "default": 600, "idle": 0, "mail": 120
    }  # fmt: skip
    assert database.rows("SELECT DISTINCT minute FROM queue.gauges") == [(closed,)]


def test_a_relay_that_did_not_look_itself_tells_the_same(
    database: Database, closed: datetime, service: Statistics, recorded: list[events.Event]
) -> None:
    waiting(database, queue="mail")
    statistics.roll_up(database.connect("relay"))
    service.run_once()
    [told] = [event for event in recorded if isinstance(event, events.QueuesMeasured)]
    assert told.queues["mail"][0] == 1
    database.rows("UPDATE queue.gauges SET minute = minute - interval '10 min'")
    assert statistics.standing(database.connect("relay")) == [], "what is old is not how it stands"


@pytest.mark.usefixtures("closed")
def test_a_deep_backlog_is_looked_at_up_to_a_bound(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "MOST_WAITING", 10)
    waiting(database, queue="deep", count=25)
    waiting(database, queue="shallow", count=3)
    relay = database.connect("relay")
    statistics.roll_up(relay)
    assert [(row.queue, row.waiting) for row in statistics.standing(relay)] == [("deep", 10), ("shallow", 3)]


def test_old_minutes_are_forgotten_in_bounded_steps(
    database: Database, closed: datetime, service: Statistics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "PRUNE_LIMIT", 2)
    reach(database, closed)
    insert = (
        "INSERT INTO queue.statistics SELECT %s - make_interval(days => n), 'q', 't', 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0,"
        " 0 FROM generate_series(29, 33) n"
    )
    database.rows(insert, (closed,))
    gauge = "INSERT INTO queue.gauges VALUES (%s - interval '40 days', 'q', 1, 1, 1), (%s, 'q', 1, 1, 1)"
    database.rows(gauge, (closed, closed))
    pauses = [service.run_once() for _ in range(2)]
    assert pauses[0] == 0.0
    assert pauses[1] > 0
    assert counted(database, "minute") == [(closed - timedelta(days=30),), (closed - timedelta(days=29),)]
    assert database.rows("SELECT minute FROM queue.gauges") == [(closed,)]


def test_the_rows_of_the_last_minutes_are_read_by_queue_and_type(database: Database, closed: datetime) -> None:
    for ago in (1, 2, 3):
        ended(database, closed - ago * MINUTE)
        ended(database, closed - ago * MINUTE, queue="mail", task_type="test.write", run=2.0)
    reach(database, closed - 3 * MINUTE)
    relay, reader = database.connect("relay"), database.connect("reader")
    while statistics.roll_up(relay):
        pass
    assert [row.minute for row in statistics.minutes(reader, count=2, queue="mail")] == [
        closed - 2 * MINUTE,
        closed - MINUTE,
    ]
    [first, *_] = statistics.minutes(reader, count=2, task_type="test.write")
    assert (first.queue, first.done, first.runs, first.run_seconds) == ("mail", 1, 1, 2.0)
    assert len(statistics.minutes(reader, count=60)) == 6
    assert statistics.gauges(reader, count=5, queue="nowhere") == []


@pytest.mark.parametrize("role", ["worker", "producer", "operator", "reader", "system"])
def test_nobody_but_relays_writes(database: Database, role: str) -> None:
    connection = database.connect(role)
    for table in ("statistics", "gauges", "alerts", "chores"):
        statement = sql.SQL("DELETE FROM queue.{}").format(sql.Identifier(table))
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement)


def test_a_round_while_the_database_is_away_raises_and_the_next_goes_on(
    database: Database, closed: datetime, service: Statistics
) -> None:
    ended(database, closed - MINUTE)
    connection = service._connection.get()
    with psycopg.connect(database.superuser_url, autocommit=True) as superuser:
        superuser.execute("SELECT pg_terminate_backend(%s, 5000)", (connection.info.backend_pid,))
    with pytest.raises((psycopg.OperationalError, UnavailableError)):
        service.run_once()
    service.run_once()
    assert counted(database, "done") == [(1,)]
