"""Alerts: what is raised and resolved, by one relay of many, and how the webhook is told."""

import hashlib
import hmac
import logging
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from psycopg.types.json import Jsonb
from pydantic import SecretStr

from core import events
from core.errors import SettingsError, UnavailableError
from core.settings import load_settings
from db import alerts
from db.connection import KeptConnection
from tests.support.database import Database
from tests.support.engine import Line, fast_settings
from tests.support.rows import ended, waiting
from tests.support.waiting import eventually
from tests.support.webhook import Receiver, webhook_server
from workers.alerts import Notifier, Watcher, alert_loops, thresholds_of
from workers.broker import InProcessBroker
from workers.processes import Addresses, RelayProcess
from workers.webhook import Webhook

THRESHOLDS = alerts.Thresholds(failures=1, window=600, stalled=300, late=60, process_timeout=30, calm=60)
SECRET = SecretStr("a secret of many characters")


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    with webhook_server() as receiver:
        yield receiver


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


def telling(**values: Any) -> alerts.Telling:
    moment = datetime(2026, 11, 22, tzinfo=UTC)
    known: dict[str, Any] = {
        "id": UUID(int=1),
        "kind": "dead_loop",
        "key": "dead_loop:x",
        "state": "raised",
        "facts": {"pid": 7},
    }
    return alerts.Telling(**(known | {"raised_at": moment, "resolved_at": None, "tries": 1} | values))


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


# ------------------------------------------------------------------------------------------------ the webhook


def test_a_state_is_posted_as_json_and_signed(receiver: Receiver) -> None:
    Webhook(SecretStr(receiver.url), SECRET, 5.0).post(telling())
    [body], [headers] = receiver.bodies, receiver.headers
    [posted] = receiver.json()
    assert posted.pop("sent_at").endswith("+00:00")
    assert posted == {
        "id": str(UUID(int=1)), "state": "raised", "kind": "dead_loop", "key": "dead_loop:x", "facts": {"pid": 7},
        "raised_at": "2026-11-22T00:00:00+00:00", "resolved_at": None, "try": 1,
    }  # fmt: skip
    expected = hmac.new(SECRET.get_secret_value().encode(), body, hashlib.sha256).hexdigest()
    assert headers["Greenroom-Signature"] == f"sha256={expected}"
    assert headers["Greenroom-Delivery"] == f"{UUID(int=1)}:raised"
    assert headers["Content-Type"] == "application/json"


def test_without_a_secret_nothing_is_signed(receiver: Receiver) -> None:
    Webhook(SecretStr(receiver.url), None, 5.0).post(telling())
    assert receiver.headers[0]["Greenroom-Signature"] is None


@pytest.mark.parametrize("status", [500, 503, 404, 302, 307])
def test_any_other_answer_is_none_and_no_redirect_is_followed(receiver: Receiver, status: int) -> None:
    receiver.mode = status
    with pytest.raises(UnavailableError, match=f"answered {status}"):
        Webhook(SecretStr(receiver.url), None, 5.0).post(telling())
    assert receiver.paths == ["/hook/"]


@pytest.mark.parametrize("mode", ["hang", "drip"])
def test_the_whole_exchange_has_one_deadline(receiver: Receiver, mode: str) -> None:
    receiver.mode = mode
    started = time.monotonic()
    with pytest.raises(UnavailableError, match=r"no answer within 0\.5 s"):
        Webhook(SecretStr(receiver.url), None, 0.5).post(telling())
    assert time.monotonic() - started < 3


def test_an_address_where_nobody_listens_is_no_answer_and_is_not_told(
    free_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    webhook = Webhook(SecretStr(f"http://127.0.0.1:{free_port}/token-abc"), None, 5.0)
    with caplog.at_level(logging.INFO), pytest.raises(UnavailableError, match="no answer: ConnectError") as raised:
        webhook.post(telling())
    assert "token-abc" not in str(raised.value) + caplog.text


def test_no_log_has_the_address(receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        Webhook(SecretStr(f"{receiver.url}token-abc"), None, 5.0).post(telling())
    assert receiver.paths == ["/hook/token-abc"]
    assert "token-abc" not in caplog.text


# ------------------------------------------------------------------------------------------------ telling


def test_each_state_is_told_once_in_order(database: Database, receiver: Receiver) -> None:
    notifier = Notifier(kept(database), Webhook(SecretStr(receiver.url), None, 5.0), 5.0)
    assert notifier.run_once() == 30.0
    process(database, silent=40)
    look(database)
    assert notifier.run_once() == 0.0
    assert notifier.run_once() == 30.0
    database.rows("DELETE FROM queue.processes")
    pass_by(database, 61)
    look(database)
    assert notifier.run_once() == 0.0
    assert notifier.run_once() == 30.0
    assert [(posted["state"], posted["try"]) for posted in receiver.json()] == [("raised", 1), ("resolved", 1)]
    assert receiver.json()[1]["resolved_at"] is not None
    assert database.rows("SELECT notified_state, next_try_at FROM queue.alerts") == [("resolved", None)]


def test_what_was_over_before_it_could_be_told_is_told_in_both_states(database: Database, receiver: Receiver) -> None:
    notifier = Notifier(kept(database), Webhook(SecretStr(receiver.url), None, 5.0), 5.0)
    process(database, silent=40)
    look(database)
    database.rows("DELETE FROM queue.processes")
    pass_by(database, 61)
    look(database)
    assert [notifier.run_once() for _ in range(3)] == [0.0, 0.0, 30.0]
    assert [posted["state"] for posted in receiver.json()] == ["raised", "resolved"]


def test_what_has_been_over_for_a_day_is_told_to_nobody(database: Database, receiver: Receiver) -> None:
    process(database, silent=40)
    look(database)
    database.rows("DELETE FROM queue.processes")
    pass_by(database, 61)
    look(database)
    pass_by(database, 86_401)
    assert Notifier(kept(database), Webhook(SecretStr(receiver.url), None, 5.0), 5.0).run_once() == 30.0
    assert receiver.bodies == []


def test_a_webhook_that_fails_is_told_again_with_back_off(
    database: Database, receiver: Receiver, recorded: list[events.Event]
) -> None:
    notifier = Notifier(kept(database), Webhook(SecretStr(receiver.url), None, 5.0), 5.0)
    process_id = process(database, silent=40)
    look(database)
    receiver.mode = 500
    assert 0.5 < notifier.run_once() <= 1.0
    assert notifier.run_once() == 30.0, "it is put off"
    [failed] = [event for event in recorded if isinstance(event, events.WebhookFailed)]
    assert (failed.key, failed.problem) == (f"silent_process:{process_id}", "answered 500")
    assert 4 <= failed.retry_in <= 5
    pass_by(database, 5)
    assert 1.5 < notifier.run_once() <= 2.0
    receiver.mode = 200
    pass_by(database, 10)
    assert notifier.run_once() == 0.0
    assert [posted["try"] for posted in receiver.json()] == [1, 2, 3]
    assert {headers["Greenroom-Delivery"] for headers in receiver.headers} == {f"{receiver.json()[0]['id']}:raised"}


def test_two_notifiers_tell_each_alert_once(database: Database, receiver: Receiver) -> None:
    for _ in range(20):
        process(database, silent=40)
    look(database)
    webhook = Webhook(SecretStr(receiver.url), None, 5.0)

    def tell() -> None:
        notifier = Notifier(KeptConnection(database.url("relay"), name="notifier"), webhook, 5.0)
        while notifier.run_once() == 0.0:
            pass
        notifier.close()

    threads = [threading.Thread(target=tell) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    keys = [posted["key"] for posted in receiver.json()]
    assert len(keys) == len(set(keys)) == 20


def test_what_a_relay_took_and_did_not_tell_is_another_s_after_a_while(database: Database) -> None:
    process(database, silent=40)
    look(database)
    relay = database.connect("relay")
    assert alerts.lend(relay, seconds=35) is not None
    assert alerts.lend(relay, seconds=35) is None
    pass_by(database, 35)
    again = alerts.lend(relay, seconds=35)
    assert again is not None
    assert again.tries == 2


def test_a_webhook_that_hangs_holds_up_no_other_loop(database: Database, receiver: Receiver) -> None:
    receiver.mode = "hang"
    process(database, silent=40)
    settings = fast_settings(alerts={"webhook_url": receiver.url, "webhook_timeout": 60.0})
    relay = RelayProcess(settings, Addresses(database.url("relay")), InProcessBroker())
    relay.start()
    try:
        eventually(lambda: receiver.bodies)
        database.rows("UPDATE queue.chores SET reached_at = '-infinity' WHERE name = 'alerts'")
        loops = {loop.service.name: loop for loop in relay.loops}
        loops["watcher"].wake()
        looked = "SELECT reached_at > '-infinity' FROM queue.chores WHERE name = 'alerts'"
        eventually(lambda: database.value(looked))
        assert max(loop.late() for name, loop in loops.items() if name != "notifier") < 5
    finally:
        receiver.released.set()
        relay.stop()


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
    settings = load_settings(_env_file=None, alerts={"webhook_secret": SECRET.get_secret_value()})
    assert any("webhook_url" in warning for warning in settings.warnings())
