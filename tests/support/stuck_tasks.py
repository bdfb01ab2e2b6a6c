"""Task types whose handlers are hard to end: each in another way. `GREENROOM_TASK_MODULES` may name this module."""

import logging
import time
import warnings
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from core.errors import InterruptionError
from pipelines.outcomes import Done, Fail, Outcome
from pipelines.payload import Payload
from pipelines.task import BatchItem, Task, TaskContext
from tests.support.tasks import TASKS as PLAIN_TASKS
from tests.support.tasks import effect, gate

_kept: list[bytes] = []
_logger = logging.getLogger("handlers.talk")


class Sleep(Payload):
    """Waits for the gate in one C call, which gives the interpreter up and heeds no interruption; writes one effect."""

    task_type = "stuck.sleep"
    seconds: float = 60.0
    n: int = 0


class Hold(Payload):
    """Holds the interpreter in one C call."""

    task_type = "stuck.hold"


class Limited(Payload):
    """As Sleep, with a time limit of half a second."""

    task_type = "stuck.limited"
    seconds: float = 60.0


class LimitedQuery(Payload):
    """As Query, with a time limit of half a second."""

    task_type = "stuck.limited_query"


class LimitedHold(Payload):
    """As Hold, with a time limit of half a second."""

    task_type = "stuck.limited_hold"


class Stubborn(Payload):
    """Goes on whatever is raised in it, until the gate opens; `looks` says that it asks whether it is still wanted."""

    task_type = "stuck.stubborn"
    looks: bool = False
    seconds: float = 60.0


class Query(Payload):
    """Waits for the database, inside the driver."""

    task_type = "stuck.query"


class Grow(Payload):
    """Keeps `size` bytes for as long as its process lives."""

    task_type = "stuck.grow"
    size: int


class Together(Payload):
    """A batch: sleeps in small steps for as long as its slowest says, then writes one effect each."""

    task_type = "stuck.together"
    seconds: float = 0.0
    n: int = 0


class Steps(Payload):
    """Reports progress step by step; fails at the end if it shall."""

    task_type = "stuck.steps"
    fails: bool = False


class Talk(Payload):
    """Logs `lines` lines and a warning, then ends as `end` says."""

    task_type = "stuck.talk"
    lines: int = 0
    secret: str = ""
    end: str = "done"


def _sleep(context: TaskContext, payload: Sleep | Limited) -> Outcome:
    gate.wait(payload.seconds)
    return Done(apply=effect(getattr(payload, "n", 0)))


def _hold(context: TaskContext, payload: Hold | LimitedHold) -> Outcome:
    # As `test.grip` does, but in one call that takes minutes: nothing is measured here.
    pow(3, 100_000_000)
    return Done()


def _stubborn(context: TaskContext, payload: Stubborn) -> Outcome:
    until = time.monotonic() + payload.seconds
    while time.monotonic() < until and not gate.is_set():
        try:
            time.sleep(0.01)
        except InterruptionError:
            if payload.looks and context.is_cancelled():
                raise
    return Done()


def _query(context: TaskContext, payload: Query | LimitedQuery) -> Outcome:
    with context.read() as transaction:
        transaction.execute("SELECT pg_sleep(60)")
    return Done()


def _grow(context: TaskContext, payload: Grow) -> Outcome:
    _kept.append(b"x" * payload.size)
    return Done()


def _together(items: Sequence[BatchItem[Together]]) -> Sequence[Outcome]:
    until = time.monotonic() + max(item.payload.seconds for item in items)
    while time.monotonic() < until:
        time.sleep(0.01)
    return [Done(apply=effect(item.payload.n)) for item in items]


def _steps(context: TaskContext, payload: Steps) -> Outcome:
    for step in range(4):
        context.progress(step / 4, f"step {step}")
        time.sleep(0.7)
    return Fail("it was to fail") if payload.fails else Done({"steps": 4})


def _talk(context: TaskContext, payload: Talk) -> Outcome:
    for n in range(payload.lines):
        _logger.info("line %d of %s", n, payload.secret)
    if payload.lines:
        warnings.warn(f"beware of {payload.secret}", stacklevel=1)
    if payload.end == "raise":
        try:
            raise KeyError(payload.secret)
        except KeyError:
            _logger.exception("could not use %s", payload.secret)
            raise
    return Done()


TASKS: Sequence[Task[Any]] = (
    *PLAIN_TASKS,
    Task(payload=Sleep, run=_sleep),
    Task(payload=Hold, run=_hold),
    Task(payload=Limited, run=_sleep, time_limit=timedelta(seconds=0.5), max_attempts=1),
    Task(payload=LimitedHold, run=_hold, time_limit=timedelta(seconds=0.5), max_attempts=1),
    Task(payload=Stubborn, run=_stubborn),
    Task(payload=Query, run=_query),
    Task(payload=LimitedQuery, run=_query, time_limit=timedelta(seconds=0.5), max_attempts=1),
    Task(payload=Grow, run=_grow),
    Task(payload=Together, run_batch=_together, batch_size=10),
    Task(payload=Steps, run=_steps),
    Task(payload=Talk, run=_talk, max_attempts=1),
)
