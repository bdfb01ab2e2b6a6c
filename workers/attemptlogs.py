"""What a handler logs while it is called, kept with its attempt: the newest lines, scrubbed as errors are (I7).

One handler of the root logger sees every line of the process. Whose it is, the thread says: what other threads log that
a handler has started is not kept. A task whose handler logs nothing pays nothing. What a batch logs is kept with its
first task.
"""

import logging
from collections import deque
from contextlib import suppress
from datetime import UTC, datetime
from itertools import chain
from typing import Any

from core.errors import raised_at
from workers.attempts import Run, scrub
from workers.running import RunningAttempts

MOST_LINES = 200
MOST_CHARACTERS = 16_000
_LONGEST_LINE = 2_000
# What structlog adds to a line for its own formatting.
_NOT_SAID = frozenset({"event", "level", "timestamp", "service", "logger", "exc_info"})


class AttemptLog:
    """The newest lines of one attempt; `secrets` are the texts of payloads that none of them may hold."""

    def __init__(self, secrets: set[str]) -> None:
        self._secrets = secrets
        self._lines: deque[str] = deque()
        self._characters = 0
        self._dropped = 0

    def add(self, line: str) -> None:
        """Keep a line, and drop the oldest where there are too many."""
        # scrubbed before it is cut: half a secret would not be recognised
        clean = scrub(line, self._secrets)
        kept = clean if len(clean) <= _LONGEST_LINE else f"{clean[:_LONGEST_LINE]} …"
        self._lines.append(kept)
        self._characters += len(kept) + 1
        while len(self._lines) > MOST_LINES or self._characters > MOST_CHARACTERS:
            self._characters -= len(self._lines.popleft()) + 1
            self._dropped += 1

    def text(self) -> str:
        """Return the lines, and first of all how many older ones were dropped."""
        head = [f"({self._dropped} older lines were dropped)"] if self._dropped else []
        return "\n".join([*head, *self._lines])


class AttemptLogs(logging.Handler):
    """Takes a process's log lines to the attempts that they belong to; those below the loggers' level never come."""

    def __init__(self, running: RunningAttempts) -> None:
        super().__init__()
        self._running = running

    def start(self) -> None:
        """Listen from now on."""
        logging.getLogger().addHandler(self)

    def close(self) -> None:
        """Listen no more."""
        logging.getLogger().removeHandler(self)
        super().close()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line, if its thread is inside a handler's call."""
        seat = self._running.current()
        if seat is None or not seat.runs or record.name == "greenroom":  # the engine's events are no handler's
            return
        with suppress(TypeError, ValueError):  # a line that cannot be formatted: the process's own log says so
            _log_of(seat.runs).add(_line_of(record))


def _log_of(runs: tuple[Run, ...]) -> AttemptLog:
    first = runs[0]
    if first.log is None:
        first.log = AttemptLog(set(chain.from_iterable(run.secrets() for run in runs)))
    return first.log


def _line_of(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC).isoformat(" ", "milliseconds").removesuffix("+00:00")
    name, said = record.name, record.msg
    text = _structured(said) if isinstance(said, dict) else record.getMessage()
    raised = record.exc_info[1] if record.exc_info else None
    where = f" ({type(raised).__name__} at {raised_at(raised)})" if raised is not None else ""
    return f"{moment} {record.levelname} {name}: {text.rstrip()}{where}"


def _structured(said: dict[str, Any]) -> str:
    """Return a line of structlog as one text."""
    fields = [f"{name}={value!r}" for name, value in said.items() if name not in _NOT_SAID and not name.startswith("_")]
    return " ".join([str(said.get("event", "")), *fields])
