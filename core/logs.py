"""Logs: one line an event on standard error, and the standard library's loggers in the same format.

Invariant I7: a line holds an event's ids, types, counts and seconds. Texts of errors stand in it only where the error
is of our own tree; of any other, and of every exception that a library logs, its class and where it was raised. What a
handler raised is read with `greenroom tasks show`, by those who may.
"""

import logging
import re
import sys
from collections.abc import Callable
from dataclasses import fields
from typing import Literal
from uuid import UUID

import structlog
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, Processor, WrappedLogger

from core import events
from core.errors import GreenroomError, raised_at
from core.events import AttemptEnded, Event, ListenChanged, LoopFailed

LogFormat = Literal["console", "json"]
_NUMBERS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
# What a library says below this is for its authors, and may quote what it was given.
_LEAST_OF_LIBRARIES = logging.INFO
_LEVEL_OF_OUTCOME = {"done": "debug", "snooze": "debug", "cancel": "info"}
_NOT_WRITTEN: dict[type[Event], frozenset[str]] = {AttemptEnded: frozenset({"trace_context", "started"})}
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


def start(log_format: LogFormat, level: str, service: str) -> Callable[[], None]:
    """Write logs from now on; return the function that leaves logging as it was found."""
    least = _NUMBERS[level]
    handler = _Handler()
    handler.setFormatter(_formatter(log_format, service))
    root, ours = logging.getLogger(), logging.getLogger("greenroom")
    before = root.level, ours.level
    root.addHandler(handler)
    root.setLevel(max(least, _LEAST_OF_LIBRARIES))
    ours.setLevel(least)
    logging.captureWarnings(True)
    _configure_structlog(service)
    forget = events.subscribe(_subscriber(least, service))

    def close() -> None:
        forget()
        logging.captureWarnings(False)
        structlog.reset_defaults()
        root.removeHandler(handler)
        root.setLevel(before[0])
        ours.setLevel(before[1])

    return close


def level_of(event: Event) -> str:
    """Return the level that an event is logged at: attempts by their outcome, all others by their class.

    done and snooze are debug, so that a worker's normal course costs no line; cancel is info, retry and fail warning.
    """
    if isinstance(event, AttemptEnded):
        return _LEVEL_OF_OUTCOME.get(event.outcome, "warning")
    if isinstance(event, ListenChanged) and event.heard:
        return "info"
    return event.level


def fields_of(event: Event) -> dict[str, object]:
    """Return what a line says of an event, beside its name and level."""
    left_out = _NOT_WRITTEN.get(type(event), frozenset())
    found = {field.name: getattr(event, field.name) for field in fields(event) if field.name not in left_out}
    if isinstance(event, LoopFailed) and event.error_type not in _names(GreenroomError):
        del found["error"]
    if isinstance(event, AttemptEnded) and (match := _TRACEPARENT.fullmatch(event.trace_context or "")):
        found["trace_id"] = match[1]
    return {name: _plain(value) for name, value in found.items() if value not in (None, "")}


class _Handler(logging.Handler):
    """Writes to what `sys.stderr` is at the time, so that a progress bar that wraps it keeps its place."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()
        except Exception:
            self.handleError(record)


def _configure_structlog(service: str) -> None:
    """Let loggers that a handler gets from structlog say their lines as those of the standard library do."""
    structlog.configure(
        processors=[*_shared(service), ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )


def _subscriber(least: int, service: str) -> events.Subscriber:
    logger = structlog.wrap_logger(
        logging.getLogger("greenroom"),
        processors=[*_shared(service), ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
    ).bind()

    def write(event: Event) -> None:
        level = _NUMBERS[level_of(event)]
        if level >= least:
            logger.log(level, event.name, **fields_of(event))

    return write


def _formatter(log_format: LogFormat, service: str) -> ProcessorFormatter:
    renderer: Processor = structlog.processors.JSONRenderer(default=str)
    if log_format == "console":
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=20)
    return ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.add_logger_name, *_shared(service)],
        processors=[ProcessorFormatter.remove_processors_meta, _class_of_exception, renderer],
    )


def _shared(service: str) -> list[Processor]:
    def add_service(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
        line["service"] = service
        return line

    return [structlog.stdlib.add_log_level, structlog.processors.TimeStamper(fmt="iso", utc=True), add_service]


def _class_of_exception(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    """Put an exception's class and place where its traceback would stand, whose texts may quote anything."""
    found = line.pop("exc_info", None)
    if isinstance(found, tuple) and isinstance(found[1], BaseException):
        line["error_type"] = type(found[1]).__name__
        line["where"] = raised_at(found[1])
    return line


def _names(kind: type[BaseException]) -> set[str]:
    return {kind.__name__}.union(*(_names(inner) for inner in kind.__subclasses__()))


def _plain(value: object) -> object:
    match value:
        case UUID():
            return str(value)
        case float():
            return round(value, 6)
        case _:
            return value
