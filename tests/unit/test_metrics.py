"""Metrics: what each event counts, and how they are served."""

import socket
import urllib.error
import urllib.request
from collections.abc import Callable
from uuid import uuid4

import prometheus_client
import pytest

from core import events
from core.errors import SettingsError
from core.groups import ObserveSettings
from core.loops import loops_late, watch_loop
from core.metrics import Metrics
from core.observe import configure
from core.service import Loop
from tests.support.waiting import eventually


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def count(metrics: Metrics, *emitted: events.Event) -> Callable[..., float | None]:
    """Count events and return the look-up of a sample's value: `value(name, label=…)`."""
    for event in emitted:
        metrics.on_event(event)
    return lambda name, **labels: metrics.registry.get_sample_value(name, labels)


def served(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text: str = answer.read().decode()
        return text


def test_an_attempt_is_counted_and_timed(metrics: Metrics) -> None:
    done = events.AttemptEnded("test.noop", uuid4(), "done", 1, 0.25, 2.0)
    failed = events.AttemptEnded("test.noop", uuid4(), "retry", 1, 0.75, 0.0)
    value = count(metrics, done, done, failed, events.AttemptLost("test.noop", uuid4(), 1))
    assert value("greenroom_attempts_total", task_type="test.noop", outcome="done") == 2
    assert value("greenroom_attempts_total", task_type="test.noop", outcome="retry") == 1
    assert value("greenroom_attempts_total", task_type="test.noop", outcome="lost") == 1
    assert value("greenroom_attempt_seconds_count", task_type="test.noop") == 3
    assert value("greenroom_attempt_seconds_sum", task_type="test.noop") == pytest.approx(1.25)
    assert value("greenroom_attempt_seconds_bucket", task_type="test.noop", le="0.5") == 2
    assert value("greenroom_wait_seconds_sum", task_type="test.noop") == pytest.approx(4.0)


def test_fires_are_counted_by_what_came_of_them(metrics: Metrics) -> None:
    fired = events.ScheduleFired("nightly", "test.noop", "enqueued", late=0.5, missed=0, task_id=uuid4())
    overlapped = events.ScheduleFired("nightly", "test.noop", "overlapped", late=1.5, missed=0)
    held = events.ScheduleRefused("nightly", "test.noop", "unknown task type", task_id=uuid4())
    refused = events.ScheduleRefused("nightly", "test.noop", "unknown task type")
    value = count(metrics, fired, overlapped, held, refused)
    counted = {
        outcome: value("greenroom_fires_total", outcome=outcome) for outcome in ("enqueued", "overlapped", "refused")
    }
    assert counted == {"enqueued": 1, "overlapped": 1, "refused": 1}
    assert value("greenroom_fire_late_seconds_sum") == pytest.approx(2.0)


def test_the_relay_s_work_is_counted(metrics: Metrics) -> None:
    value = count(
        metrics,
        events.TasksPublished(tasks=30, messages=2),
        events.PublishFailed(tasks=5, error="away"),
        events.TasksRescued(retried=3, failed=1, cancelled=4, unclaimed=2),
        events.ListenChanged(heard=True),
    )
    assert value("greenroom_published_total") == 30
    assert value("greenroom_publish_failures_total") == 1
    expected = {"retried": 3, "failed": 1, "cancelled": 4, "unclaimed": 2}
    assert {how: value("greenroom_rescued_total", how=how) for how in expected} == expected
    assert value("greenroom_listen_heard") == 1
    assert count(metrics, events.ListenChanged(heard=False))("greenroom_listen_heard") == 0


def test_store_calls_and_failing_loops_are_counted(metrics: Metrics) -> None:
    value = count(
        metrics, events.StoreCalled("leases.take", 0.002, 3), events.LoopFailed("relay", "OSError", "away", 1.0)
    )
    assert value("greenroom_store_seconds_count", query="leases.take") == 1
    assert value("greenroom_store_seconds_bucket", query="leases.take", le="0.001") == 0
    assert value("greenroom_store_seconds_bucket", query="leases.take", le="0.005") == 1
    assert value("greenroom_loop_failures_total", loop="relay") == 1


def test_events_without_a_metric_are_passed_over(metrics: Metrics) -> None:
    count(metrics, events.ProcessStarted("relay", uuid4()), events.AttemptStarted("test.noop", 3))


def test_how_late_a_loop_is_is_read_at_the_scrape(metrics: Metrics) -> None:
    late = iter([1.5, 9.0])
    forget = watch_loop("test loop", lambda: next(late))
    value = count(metrics)
    assert value("greenroom_loop_late_seconds", loop="test loop") == 1.5
    assert value("greenroom_loop_late_seconds", loop="test loop") == 9.0
    forget()
    forget()
    assert value("greenroom_loop_late_seconds", loop="test loop") is None


def test_of_loops_of_one_name_the_latest_counts() -> None:
    forget = [watch_loop("twin", lambda: 1.0), watch_loop("twin", lambda: 7.0), watch_loop("twin", lambda: 3.0)]
    assert loops_late()["twin"] == 7.0
    for end in forget:
        end()


class Rounds:
    """A service of one long round, or of rounds that all raise."""

    def __init__(self, name: str, *, fails: bool) -> None:
        self.name = name
        self.fails = fails

    def run_once(self) -> float:
        if self.fails:
            raise RuntimeError
        return 60.0

    def close(self) -> None:
        pass


def test_a_loop_is_watched_until_it_ends_in_order() -> None:
    loop = Loop(Rounds("orderly", fails=False))
    assert "orderly" not in loops_late()
    loop.start()
    eventually(lambda: "orderly" in loops_late())
    assert loop.stop()
    assert "orderly" not in loops_late()


def test_a_loop_that_fails_stays_and_gets_later() -> None:
    loop = Loop(Rounds("failing", fails=True))
    loop.start()
    eventually(lambda: "failing" in loops_late())
    first = loops_late()["failing"]
    eventually(lambda: loops_late()["failing"] > first)
    assert loop.stop()


def test_metrics_are_served_from_a_registry_of_their_own(free_port: int) -> None:
    end = configure(ObserveSettings(metrics_port=free_port), service="worker")
    events.emit(events.TasksPublished(tasks=4, messages=1))
    text = served(free_port)
    end()
    assert "greenroom_published_total 4.0" in text
    assert "process_resident_memory_bytes" in text
    assert "_created" not in text
    assert b"greenroom" not in prometheus_client.generate_latest(prometheus_client.REGISTRY)
    with pytest.raises(urllib.error.URLError):
        served(free_port)


def test_twice_counts_once(free_port: int) -> None:
    settings = ObserveSettings(metrics_port=free_port)
    configure(settings, service="worker")
    end = configure(settings, service="worker")
    events.emit(events.TasksPublished(tasks=4, messages=1))
    text = served(free_port)
    end()
    assert "greenroom_published_total 4.0" in text


def test_a_port_that_is_taken_is_refused_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"GREENROOM_OBSERVE_METRICS_PORT: .*127\.0\.0\.1:{port} .*in use"):
            configure(ObserveSettings(metrics_port=port), service="worker")
    events.emit(events.TasksRescued(1, 0, 0, 0))
    assert capsys.readouterr().err == ""  # nothing was left running


def test_an_address_that_is_not_ours_is_refused(free_port: int) -> None:
    with pytest.raises(SettingsError, match=r"192\.0\.2\.1"):
        configure(ObserveSettings(metrics_port=free_port, metrics_address="192.0.2.1"), service="worker")
