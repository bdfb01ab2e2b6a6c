"""Alerts: what is raised and resolved, by one relay of many."""

import threading
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from psycopg.types.json import Jsonb

from core import events
from core.contradictions import contradictions
from core.errors import SettingsError
from core.settings import load_settings
from db import alerts, months
from db.connection import KeptConnection
from tests.support.database import Database
from tests.support.engine import Line, fast_settings
from tests.support.rows import ended, waiting
from workers.alerts import Watcher, alert_loops, thresholds_of

MONTHS = "SELECT 1, to_char(now() AT TIME ZONE 'UTC' + interval '{offset} months', 'YYYY-MM')"
THRESHOLDS = alerts.Thresholds(failures=1, window=600, stalled=300, late=60, process_timeout=30, calm=60)


def look(database: Database, thresholds: alerts.Thresholds = THRESHOLDS) -> alerts.Looked:
    looked = alerts.look(database.connect("relay"), thresholds, pause=0.0, keep_days=30)
    assert looked is not None
    return looked


def kept(database: Database) -> KeptConnection:
    connection = KeptConnection(database.url("relay"), name="alerts")
    database.at_end(connection.close)
    return connection


def pass_by(database: Database, seconds: float) -> None:
    """Let time pass for the alerts that are kept."""
    database.rows(
        "UPDATE queue.alerts SET raised_at = raised_at - make_interval(secs => %(s)s),"
        " seen_at = seen_at - make_interval(secs => %(s)s), resolved_at = resolved_at - make_interval(secs => %(s)s),"
        " next_try_at = next_try_at - make_interval(secs => %(s)s)",
        {"s": seconds},
    )


def process(database: Database, *, silent: float = 0.0, late: dict[str, float] | None = None) -> UUID:
    process_id = uuid4()
    database.rows(
        "INSERT INTO queue.processes (id, kind, host, pid, queues, loops_late, beat_at)"
        " VALUES (%s, 'worker', 'h', 7, '{default}', %s, now() - make_interval(secs => %s))",
        (process_id, Jsonb(late or {}), silent),
    )
    return process_id


# ------------------------------------------------------------------------------------------------ what is wrong


def test_nothing_is_wrong_with_an_empty_queue(database: Database) -> None:
    assert look(database) == alerts.Looked([], [])


def test_final_failures_are_raised_by_task_type_and_over_when_they_are_old(database: Database) -> None:
    now = datetime.now(UTC)
    [*_, last] = ended(database, now, status="failed", count=2, queue="mail")
    ended(database, now, status="failed", task_type="test.other")
    ended(database, now, status="cancelled", task_type="test.fine")
    assert look(database, THRESHOLDS.__class__(2, 600, 300, 60, 30, 60)).raised == [
        ("final_failures", "final_failures:test.noop")
    ]
    assert [key for _, key in look(database).raised] == ["final_failures:test.other"], "what is raised is not new"
    [found, _] = alerts.raised(database.connect("operator"))
    assert found.facts == {
        "task_type": "test.noop", "failed": 2, "within_seconds": 600, "last_task_id": str(last), "queues": ["mail"]
    }  # fmt: skip
    database.rows("UPDATE queue.tasks_history SET completed_at = now() - interval '11 min'")
    assert look(database).resolved == [], "not seen for a moment is not over"
    pass_by(database, 61)
    assert {key for _, key in look(database).resolved} == {"final_failures:test.noop", "final_failures:test.other"}
    assert alerts.raised(database.connect("operator")) == []


def test_what_comes_again_is_an_alert_of_its_own(database: Database) -> None:
    tasks = ended(database, datetime.now(UTC), status="failed")
    look(database)
    database.rows("UPDATE queue.tasks_history SET completed_at = now() - interval '1 h' WHERE id = ANY (%s)", (tasks,))
    pass_by(database, 61)
    look(database)
    ended(database, datetime.now(UTC), status="failed")
    assert len(look(database).raised) == 1
    assert database.rows("SELECT key, state FROM queue.alerts ORDER BY id") == [
        ("final_failures:test.noop", "resolved"),
        ("final_failures:test.noop", "raised"),
    ]


def test_no_text_of_a_task_stands_in_an_alert(database: Database) -> None:
    ended(database, datetime.now(UTC), status="failed")
    look(database)
    assert "secret text" in str(database.rows("SELECT last_error FROM queue.tasks_history"))
    assert "secret text" not in str(database.rows("SELECT a::text FROM queue.alerts a"))


def test_a_month_that_lacks_is_an_alert_until_it_is_there_and_one_of_later_is_none(database: Database) -> None:
    [now, then] = database.rows(MONTHS.format(offset=0)) + database.rows(MONTHS.format(offset=2))
    for _, month in (now, then):
        database.rows(f"DROP TABLE queue.attempts_{month.replace('-', '_')}")
    assert look(database).raised == [("missing_month", f"missing_month:queue.attempts:{now[1]}")]
    [found] = alerts.raised(database.connect("operator"))
    assert (found.facts["table"], found.facts["month"]) == ("queue.attempts", now[1])
    assert found.facts["begins_in_seconds"] <= 0
    months.make_missing(database.connect("relay"))
    pass_by(database, 61)
    assert look(database).resolved == [("missing_month", f"missing_month:queue.attempts:{now[1]}")]


def test_a_queue_in_which_nothing_moves_is_stalled(database: Database) -> None:
    waiting(database, queue="mail", seconds=400, count=3)
    waiting(database, queue="fresh", seconds=200)
    waiting(database, queue="held", seconds=400, hold_reason="held")
    assert look(database).raised == [("stalled_queue", "stalled_queue:mail")]
    [found] = alerts.raised(database.connect("reader"))
    assert (found.facts["queue"], found.facts["workers"]) == ("mail", 0)
    assert 400 <= found.facts["oldest_seconds"] < 460


@pytest.mark.parametrize(
    "motion",
    [
        "INSERT INTO queue.statistics VALUES (date_trunc('minute', now()) - interval '2 min', 'mail', 't', 0, 1, 0, 1,"
        " 0, 0, 0, 0, 0, 0, 0, 0)",
        "INSERT INTO queue.queues (name, paused_at) VALUES ('mail', now() - interval '1 day')",
        "INSERT INTO queue.queues (name) VALUES ('mail')",
    ],
    ids=["one has ended", "paused", "resumed just now"],
)
def test_a_queue_that_moves_or_may_not_is_not_stalled(database: Database, motion: str) -> None:
    waiting(database, queue="mail", seconds=400, count=2)
    database.rows(motion)
    assert look(database).raised == []


def test_a_queue_of_which_something_was_started_is_not_stalled(database: Database, line: Line) -> None:
    waiting(database, seconds=400, count=2)
    line.take(line.claim()[:1])
    database.rows("UPDATE queue.tasks_live SET claimed_until = NULL WHERE status = 'pending'")
    assert look(database).raised == []
    database.rows("UPDATE queue.tasks_live SET started_at = now() - interval '6 min' WHERE status = 'in_progress'")
    assert look(database).raised == [("stalled_queue", "stalled_queue:default")]


def test_a_task_that_says_a_due_time_long_past_has_not_waited_since(database: Database) -> None:
    waiting(database, queue="mail", seconds=4_000_000)
    database.rows("UPDATE queue.tasks_live SET created_at = now()")
    assert look(database).raised == []


def test_loops_that_are_late_and_processes_that_are_silent_are_raised(database: Database) -> None:
    late = process(database, late={"heartbeat": 90.5, "given_up": 1.0})
    silent = process(database, silent=40, late={"heartbeat": 90.5})
    assert sorted(key for _, key in look(database).raised) == [
        f"dead_loop:{late}:heartbeat",
        f"silent_process:{silent}",
    ]
    facts = {alert.kind: alert.facts for alert in alerts.raised(database.connect("operator"))}
    assert facts["dead_loop"] == {
        "process_id": str(late), "process_kind": "worker", "host": "h", "pid": 7, "loop": "heartbeat",
        "late_seconds": 90.5,
    }  # fmt: skip
    assert facts["silent_process"]["silent_seconds"] >= 40


def test_several_relays_raise_and_resolve_once(database: Database) -> None:
    process(database, silent=40)
    ended(database, datetime.now(UTC), status="failed")
    looked: list[alerts.Looked | None] = []
    together = threading.Barrier(3)

    def watch() -> None:
        connection = database.connect("relay")
        for _ in range(20):
            together.wait(30)
            looked.append(alerts.look(connection, THRESHOLDS, pause=0.0, keep_days=30))

    threads = [threading.Thread(target=watch) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(looked) == 60
    assert sum(len(one.raised) for one in looked if one) == 2
    assert database.value("SELECT count(*) FROM queue.alerts") == 2


def test_a_relay_does_not_look_when_another_just_did(database: Database) -> None:
    relay = database.connect("relay")
    assert alerts.look(relay, THRESHOLDS, pause=20.0, keep_days=30) is not None
    assert alerts.look(relay, THRESHOLDS, pause=20.0, keep_days=30) is None


def test_what_has_been_over_for_long_is_forgotten(database: Database) -> None:
    process_id = process(database, silent=40)
    look(database)
    database.rows("DELETE FROM queue.processes WHERE id = %s", (process_id,))
    pass_by(database, 61)
    look(database)
    pass_by(database, 29 * 86_400)
    look(database)
    assert database.value("SELECT count(*) FROM queue.alerts") == 1
    pass_by(database, 2 * 86_400)
    look(database)
    assert database.value("SELECT count(*) FROM queue.alerts") == 0


def test_the_watcher_says_what_is_new_and_what_stands(database: Database, recorded: list[events.Event]) -> None:
    woken: list[bool] = []
    watcher = Watcher(kept(database), THRESHOLDS, 30, lambda: woken.append(True))
    assert watcher.run_once() == 30.0
    process_id = process(database, silent=40)
    database.rows("UPDATE queue.chores SET reached_at = '-infinity'")
    watcher.run_once()
    watcher.run_once()
    key = f"silent_process:{process_id}"
    assert [e for e in recorded if isinstance(e, events.AlertRaised)] == [events.AlertRaised("silent_process", key)]
    standing = [e.kinds for e in recorded if isinstance(e, events.AlertsStanding)]
    assert standing == [{}, {"silent_process": 1}, {"silent_process": 1}]
    database.rows("DELETE FROM queue.processes")
    database.rows("UPDATE queue.chores SET reached_at = '-infinity'")
    pass_by(database, 61)
    watcher.run_once()
    assert [e.key for e in recorded if isinstance(e, events.AlertResolved)] == [key]
    assert len(woken) == 2


# ------------------------------------------------------------------------------------------------ settings


def test_without_an_address_nobody_is_told(database: Database) -> None:
    opened: list[str] = []

    def connect(name: str) -> KeptConnection:
        opened.append(name)
        return kept(database)

    [loop] = alert_loops(connect, fast_settings())
    assert (loop.service.name, opened) == ("watcher", ["watcher"])
    told = fast_settings(alerts={"webhook_url": "https://hooks.example/x"})
    assert [loop.service.name for loop in alert_loops(connect, told)] == ["notifier", "watcher"]


def test_thresholds_are_the_settings() -> None:
    settings = load_settings(_env_file=None, alerts={"failures": 3, "failure_seconds": 60, "late_seconds": 7})
    assert thresholds_of(settings) == alerts.Thresholds(3, 60, 300, 7, 30, 60)


@pytest.mark.parametrize("url", ["ftp://x/", "hooks.example", "https://", "file:///etc/passwd"])
def test_an_address_that_is_none_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(SettingsError, match=r"GREENROOM_ALERTS_WEBHOOK_URL: .*http://"):
        load_settings(_env_file=None, alerts={"webhook_url": url})


def test_a_secret_that_is_too_short_is_refused_without_repeating_it() -> None:
    with pytest.raises(SettingsError, match="GREENROOM_ALERTS_WEBHOOK_SECRET") as raised:
        load_settings(_env_file=None, alerts={"webhook_url": "https://h/", "webhook_secret": "hunter2"})
    assert "hunter2" not in str(raised.value)


def test_a_secret_without_an_address_is_warned_of() -> None:
    settings = load_settings(_env_file=None, alerts={"webhook_secret": "a secret of many characters"})
    assert any("webhook_url" in warning for warning in contradictions(settings))
