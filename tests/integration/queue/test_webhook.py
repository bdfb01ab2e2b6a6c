"""The webhook: each state of an alert is told once, in order, to whoever listens; one that hangs holds up nobody."""

import hashlib
import hmac
import logging
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr

from core import events
from core.errors import UnavailableError
from db import alerts
from db.connection import KeptConnection
from tests.integration.queue.test_alerts import kept, look, pass_by, process
from tests.support.database import Database
from tests.support.engine import fast_settings
from tests.support.waiting import eventually
from tests.support.webhook import Receiver, webhook_server
from workers.alerts import Notifier
from workers.broker import InProcessBroker
from workers.processes import Addresses, RelayProcess
from workers.webhook import Webhook

SECRET = SecretStr("a secret of many characters")


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    with webhook_server() as receiver:
        yield receiver


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
