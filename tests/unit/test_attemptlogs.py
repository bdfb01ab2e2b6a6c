"""The log of an attempt: whose lines, how many of them, and never a value of a payload."""

import json
import logging
import threading
from collections.abc import Iterator
from uuid import uuid4

import pytest

from db.queue import Attempt
from tests.support.tasks import TASKS
from workers.attemptlogs import MOST_CHARACTERS, MOST_LINES, AttemptLog, AttemptLogs
from workers.attempts import Run
from workers.running import RunningAttempts

LOGGER = logging.getLogger("tests.handler")


def run_of(**fields: object) -> Run:
    return Run(Attempt(uuid4(), 1, 1, 5, 0, None, json.dumps(fields), 1, None, 0.0))


@pytest.fixture
def running() -> Iterator[RunningAttempts]:
    """Seats whose logs are kept, down to info."""
    found = RunningAttempts()
    logs = AttemptLogs(found)
    logs.start()
    LOGGER.setLevel(logging.INFO)
    yield found
    LOGGER.setLevel(logging.NOTSET)
    logs.close()


def call(running: RunningAttempts, handler: object, *runs: Run) -> None:
    assert callable(handler)
    seat = running.begin(TASKS[0], runs)
    try:
        seat.call(runs, 1e12, lambda _, __: handler(), None, None)
    finally:
        running.end(seat)


def say_two() -> None:
    LOGGER.debug("too low")
    LOGGER.warning("second")


def say_badly() -> None:
    LOGGER.info("%d", "no number")
    LOGGER.info("fine")


def kept(run: Run) -> list[str]:
    return run.log.text().splitlines() if run.log else []


def test_lines_come_to_the_attempt_whose_thread_says_them(running: RunningAttempts) -> None:
    LOGGER.info("before")
    run, other = run_of(), run_of()
    call(running, lambda: LOGGER.info("within %d", 1), run)
    LOGGER.info("after")
    call(running, say_two, other)
    [line] = kept(run)
    assert line.endswith("INFO tests.handler: within 1")
    [line] = kept(other)
    assert line.endswith("WARNING tests.handler: second")
    quiet = run_of()
    call(running, lambda: threading.Thread(target=LOGGER.info, args=("from a thread of its own",)).start(), quiet)
    assert quiet.log is None


def test_values_of_the_payload_are_not_kept(running: RunningAttempts) -> None:
    run, other = run_of(password="correct horse", pin="1234"), run_of(password="battery staple")

    def handler() -> None:
        LOGGER.info("password is correct horse", extra={"pin": "1234"})
        LOGGER.info({"event": "said", "password": "battery staple", "_record": 1})
        try:
            raise KeyError("correct horse")
        except KeyError:
            LOGGER.exception("failed")

    call(running, handler, run, other)
    assert other.log is None, "a batch's log is kept once"
    first, second, third = kept(run)
    assert first.endswith("password is [payload]")
    assert second.endswith("said password='[payload]'")
    assert "failed (KeyError at " in third
    assert "test_attemptlogs:" in third


def test_a_line_that_cannot_be_formatted_is_left_out(running: RunningAttempts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    run = run_of()
    call(running, say_badly, run)
    assert [line.rpartition(" ")[2] for line in kept(run)] == ["fine"]


def test_the_newest_lines_are_kept_and_the_others_counted() -> None:
    log = AttemptLog(set())
    for n in range(MOST_LINES + 50):
        log.add(f"line {n}")
    lines = log.text().splitlines()
    assert lines[0] == "(50 older lines were dropped)"
    assert lines[1:] == [f"line {n}" for n in range(50, MOST_LINES + 50)]


def test_long_lines_are_cut_after_they_were_scrubbed_and_the_whole_is_bounded() -> None:
    log = AttemptLog({"correct horse"})
    for _ in range(20):
        log.add("x" * 1995 + "correct horse" + "y" * 5000)
    assert len(log.text()) < MOST_CHARACTERS + 100
    assert "corr" not in log.text()
    assert "older lines were dropped" in log.text()
