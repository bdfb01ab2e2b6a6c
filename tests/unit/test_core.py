"""Settings, back-off, the service loop and the catalogue of events."""

import threading

import pytest

from core import events
from core.backoff import Backoff
from core.errors import SettingsError
from core.service import Loop
from core.settings import known_variables, load_settings
from tests.support.waiting import eventually


class HandClock:
    """A clock that tests move by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        """Return the moment that was set."""
        return self.now


class Rounds:
    """A service whose rounds do what the list says: a pause, or an exception."""

    name = "rounds"

    def __init__(self, *script: float | BaseException) -> None:
        self.script = list(script)
        self.rounds = 0
        self.closed = threading.Event()

    def run_once(self) -> float:
        """Do one round."""
        self.rounds += 1
        step = self.script.pop(0) if self.script else 60.0
        if isinstance(step, BaseException):
            raise step
        return step

    def close(self) -> None:
        """Say so."""
        self.closed.set()


def test_backoff_grows_to_its_maximum_and_spreads() -> None:
    plain = Backoff(base=1, factor=2, maximum=10, jitter=0)
    assert [plain.delay(n) for n in (0, 1, 2, 3, 4, 5, 10_000)] == [1, 1, 2, 4, 8, 10, 10]
    spread = {Backoff(base=8, jitter=0.5).delay(1) for _ in range(100)}
    assert len(spread) > 50
    assert all(4 <= delay <= 8 for delay in spread)


def test_a_loop_survives_its_service_and_reports_it(recorded: list[events.Event]) -> None:
    service = Rounds(RuntimeError("one"), RuntimeError("two"), 0.0)
    loop = Loop(service, backoff=Backoff(base=0.01, jitter=0))
    loop.start()
    loop.start()
    eventually(lambda: service.rounds == 4)
    assert loop.stop()
    assert loop.stop(), "twice is fine"
    assert service.closed.is_set()
    failed = [event for event in recorded if isinstance(event, events.LoopFailed)]
    assert [(event.loop, event.error_type, event.retry_in) for event in failed] == [
        ("rounds", "RuntimeError", 0.01),
        ("rounds", "RuntimeError", 0.02),
    ]


def test_a_loop_is_late_from_the_moment_that_its_last_good_round_named() -> None:
    clock = HandClock()
    service = Rounds(60.0, RuntimeError("bad"), 60.0)
    loop = Loop(service, clock=clock, backoff=Backoff(base=30, jitter=0))
    loop.start()
    eventually(lambda: service.rounds == 1)
    clock.now += 60
    assert loop.late() == 0, "it sleeps as long as it wanted to"
    clock.now += 7
    assert loop.late() == 7
    loop.wake()
    eventually(lambda: service.rounds == 2)
    assert loop.late() == 7, "a round that raised is no good round"
    loop.wake()
    eventually(lambda: loop.late() == 0)
    loop.stop()


def test_whatever_a_round_raises_the_loop_goes_on() -> None:
    service = Rounds(0.0, SystemExit(), KeyboardInterrupt(), 60.0)
    loop = Loop(service, backoff=Backoff(base=0.001))
    loop.start()
    eventually(lambda: service.rounds == 4)
    assert loop.stop()


def test_stopping_a_loop_that_never_started_is_fine() -> None:
    assert Loop(Rounds()).stop()


def test_subscribers_hear_events_until_they_leave() -> None:
    heard: list[events.Event] = []
    leave = events.subscribe(heard.append)
    event = events.ListenChanged(True)
    events.emit(event)
    leave()
    events.emit(event)
    assert heard == [event]


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREENROOM_RELAY_CLAIM_SECONDS", "12")
    monkeypatch.setenv("GREENROOM_WORKER_QUEUES", "a, b")
    monkeypatch.setenv("GREENROOM_TASK_MODULES", "shop.tasks,mail.tasks")
    monkeypatch.setenv("GREENROOM_DATABASE_URL", "postgresql://u:hush@h/d")
    settings = load_settings(_env_file=None)
    assert settings.relay.claim_seconds == 12
    assert settings.worker.queues == ("a", "b")
    assert settings.task_modules == ("shop.tasks", "mail.tasks")
    assert not settings.is_embedded
    assert "hush" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GREENROOM_RELAY_CLAIM_SECONDS", "soon"),
        ("GREENROOM_WORKER_THREADS", "0"),
        ("GREENROOM_RELAY_CLAIM_SECOND", "1"),
        ("GREENROOM_COLOUR", "red"),
        ("GREENROOM_OBSERVE_LOG_LEVEL", "loud"),
    ],
)
def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=name):
        load_settings(_env_file=None)


def test_settings_that_contradict_each_other_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREENROOM_RELAY_PROCESS_TIMEOUT", "5")
    monkeypatch.setenv("GREENROOM_WORKER_LEASE_SECONDS", "60")
    with pytest.raises(SettingsError, match="process_timeout"):
        load_settings(_env_file=None)


def test_every_setting_says_what_it_means() -> None:
    assert [name for name, meaning in known_variables().items() if not meaning] == []
