"""Logs: one line an event, the standard library in the same format, and nothing that may not stand there."""

import json
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest

from core import events, logs
from core.errors import UnavailableError
from core.groups import ObserveSettings
from core.observe import configure

TASK = UUID("0198a000-0000-7000-8000-000000000001")
TRACE = "0af7651916cd43dd8448eb211c80319c"
Lines = Callable[[], list[dict[str, Any]]]


def ended(outcome: str, *, trace_context: str | None = None) -> events.AttemptEnded:
    return events.AttemptEnded("test.noop", TASK, outcome, 1, 0.25, 0.5, trace_context, 1.0)


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Lines:
    """What was logged as JSON since the last call."""
    return lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]


@pytest.fixture
def log() -> Iterator[Callable[..., None]]:
    """Configures logs; they end with the test."""
    close: list[Callable[[], None]] = []

    def start(**wanted: Any) -> None:
        close.append(configure(ObserveSettings(**({"log_format": "json"} | wanted)), service="worker"))

    yield start
    for end in close:
        end()


def test_an_event_is_one_line_with_its_fields(log: Callable[..., None], lines: Lines) -> None:
    log()
    events.emit(events.TasksRescued(retried=2, failed=1, cancelled=0, unclaimed=0))
    [line] = lines()
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "relay.rescued",
        "level": "warning",
        "service": "worker",
        "retried": 2,
        "failed": 1,
        "cancelled": 0,
        "unclaimed": 0,
    }


def test_an_attempt_that_failed_is_a_warning_without_its_text(log: Callable[..., None], lines: Lines) -> None:
    log()
    events.emit(ended("retry", trace_context=f"00-{TRACE}-b7ad6b7169203331-01"))
    [line] = lines()
    assert (line["level"], line["task_id"], line["outcome"]) == ("warning", str(TASK), "retry")
    assert line["trace_id"] == TRACE
    assert not {"error", "trace_context", "started"} & set(line)


def test_a_trace_context_that_is_none_is_not_written(log: Callable[..., None], capsys: Any) -> None:
    log()
    events.emit(ended("retry", trace_context="whatever a foreign INSERT put there"))
    assert "foreign" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("outcome", "level"),
    [("done", "debug"), ("snooze", "debug"), ("cancel", "info"), ("retry", "warning"), ("fail", "warning")],
)
def test_the_level_of_an_attempt_follows_its_outcome(outcome: str, level: str) -> None:
    assert logs.level_of(ended(outcome)) == level


@pytest.mark.parametrize(("heard", "level"), [(True, "info"), (False, "warning")])
def test_losing_listen_is_a_warning(heard: bool, level: str) -> None:
    assert logs.level_of(events.ListenChanged(heard)) == level


def test_what_is_not_written_is_not_formatted(log: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    formatted: list[events.Event] = []

    def fields_of(event: events.Event) -> dict[str, object]:
        formatted.append(event)
        return {}

    monkeypatch.setattr(logs, "fields_of", fields_of)
    log()
    events.emit(ended("done"))
    events.emit(events.StoreCalled("leases.take", 0.001, 1))
    assert formatted == []
    events.emit(ended("fail"))
    assert len(formatted) == 1


def test_debug_writes_everything(log: Callable[..., None], lines: Lines) -> None:
    log(log_level="debug")
    events.emit(ended("done"))
    events.emit(events.StoreCalled("leases.take", 0.0012345678, 3))
    assert [line["event"] for line in lines()] == ["attempt.ended", "store.called"]


def test_twice_doubles_nothing(log: Callable[..., None], lines: Lines) -> None:
    log()
    log()
    events.emit(events.TasksRescued(1, 0, 0, 0))
    logging.getLogger("dramatiq").info("hello")
    assert [line["event"] for line in lines()] == ["relay.rescued", "hello"]


def test_the_end_leaves_logging_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before = root.level, list(root.handlers)
    end = configure(ObserveSettings(log_level="debug"), service="relay")
    end()
    end()
    events.emit(events.TasksRescued(1, 0, 0, 0))
    assert (root.level, root.handlers) == before
    assert capsys.readouterr().err == ""


def test_people_get_a_line_to_read(log: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    log(log_format="console")
    events.emit(events.PublishFailed(tasks=3, error="the broker does not take messages: ConnectionError"))
    [line] = capsys.readouterr().err.splitlines()
    assert "[warning" in line
    assert "relay.publish_failed" in line
    assert "tasks=3" in line


def test_libraries_log_in_the_same_format(log: Callable[..., None], lines: Lines) -> None:
    log()
    logging.getLogger("dramatiq.worker").warning("consumer of %s is away", "default")
    [line] = lines()
    assert (line["event"], line["logger"]) == ("consumer of default is away", "dramatiq.worker")
    assert (line["level"], line["service"]) == ("warning", "worker")


def test_what_libraries_say_at_debug_is_never_written(log: Callable[..., None], lines: Lines) -> None:
    log(log_level="debug")
    logging.getLogger("pdfminer").debug("the document's text")
    assert lines() == []


def test_a_library_s_exception_is_its_class_and_place(log: Callable[..., None], lines: Lines) -> None:
    log()
    try:
        raise ValueError("the payload's text")
    except ValueError:
        logging.getLogger("dramatiq.worker").exception("it broke")
    [line] = lines()
    assert line["error_type"] == "ValueError"
    assert line["where"].startswith(f"{__name__}:")
    assert "payload" not in json.dumps(line)


def test_warnings_are_lines_too(log: Callable[..., None], lines: Lines) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        log()
        warnings.warn("old and tired", DeprecationWarning, stacklevel=1)
        [line] = lines()
        log(log_level="error")
    assert line["logger"] == "py.warnings"
    assert "old and tired" in line["event"]


def test_a_loop_s_error_is_told_if_it_is_ours(log: Callable[..., None], lines: Lines) -> None:
    log()
    events.emit(events.LoopFailed("relay", UnavailableError.__name__, "cannot connect to the database", 0.5))
    events.emit(events.LoopFailed("relay", "UniqueViolation", "Key (email)=(a@b.c) already exists", 0.5, "db.queue:1"))
    ours, foreign = lines()
    assert ours["error"] == "cannot connect to the database"
    assert "error" not in foreign
    assert (foreign["error_type"], foreign["where"]) == ("UniqueViolation", "db.queue:1")
