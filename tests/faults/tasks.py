"""Task types of the fault tests, for GREENROOM_TASK_MODULES. Each writes one row a task into `public.effects`.

That table has no unique key: an effect that happened twice stands there twice.
"""

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal

from pydantic import Field

from core.backoff import Backoff
from pipelines.outcomes import Apply, Done, Outcome
from pipelines.payload import Payload
from pipelines.task import RetryPolicy, Task, TaskContext
from pipelines.transaction import Transaction

EFFECTS = "CREATE TABLE public.effects (task_id uuid NOT NULL, attempt integer NOT NULL, at timestamptz DEFAULT now())"
GRANT = "GRANT INSERT ON public.effects TO greenroom_worker"


class Effect(Payload):
    """Computes for a moment, then writes its effect; many travel together."""

    task_type = "fault.effect"
    seconds: float = Field(0.0, ge=0, le=1)


class Slow(Payload):
    """Takes its time, then writes its effect."""

    task_type = "fault.slow"
    seconds: float = Field(ge=0, le=60)


class Poison(Payload):
    """Kills its own worker at each attempt."""

    task_type = "fault.poison"


class Hostile(Payload):
    """Does something to its process at its first attempt, as `how` says; then, or at the next, it writes its effect."""

    task_type = "fault.hostile"
    how: Literal["exit", "sys.exit", "fork", "fork and return", "signals", "grip", "threads", "leak"]


class Orphan(Payload):
    """Leaves a child behind that holds whatever was open, and outlives its worker by some way."""

    task_type = "fault.orphan"


class Hold(Payload):
    """Holds the interpreter for as long as its own time limit allows, whatever its neighbours' limits are."""

    task_type = "fault.hold"


class Brief(Payload):
    """Has a short time limit and takes longer."""

    task_type = "fault.brief"


def _compute(context: TaskContext, payload: Effect | Slow) -> Outcome:
    time.sleep(payload.seconds)
    return Done(apply=effect(context))


def _kill(context: TaskContext, payload: Poison) -> Outcome:
    os.kill(os.getpid(), signal.SIGKILL)
    return Done(apply=effect(context))


def _leave(context: TaskContext, payload: Orphan) -> Outcome:
    if os.fork() == 0:
        time.sleep(60)
        os._exit(0)
    return Done(apply=effect(context))


def _hold(context: TaskContext, payload: Hold) -> Outcome:
    ctypes.PyDLL(None).sleep(100)
    return Done(apply=effect(context))


def _overstay(context: TaskContext, payload: Brief) -> Outcome:
    time.sleep(100)
    return Done(apply=effect(context))


def _misbehave(context: TaskContext, payload: Hostile) -> Outcome:
    if context.attempt == 1:
        _DEEDS[payload.how]()
    return Done(apply=effect(context))


def _exit() -> None:
    os._exit(3)


def _sys_exit() -> None:
    sys.exit(3)


def _fork() -> None:
    """Leave a child behind that holds whatever was open; it ends after its parent, or after a minute."""
    parent = os.getpid()
    if os.fork() == 0:
        until = time.monotonic() + 60
        while os.getppid() == parent and time.monotonic() < until:
            time.sleep(0.1)
        os._exit(0)


def _fork_and_return() -> None:
    """Come back twice: a child returns from the handler too, with all that its parent has open."""
    os.fork()


def _block_signals() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


def _grip() -> None:
    """Hold the interpreter for longer than a lease of the fleet lasts."""
    ctypes.PyDLL(None).sleep(5)


def _spawn_threads() -> None:
    """Start threads that nobody ends, and that an interpreter waits for at its end."""
    for _ in range(50):
        threading.Thread(target=threading.Event().wait).start()


def _leak() -> None:
    _leaked.append(bytearray(100_000_000))


_leaked: list[bytearray] = []
_DEEDS: Mapping[str, Callable[[], None]] = {
    "exit": _exit,
    "sys.exit": _sys_exit,
    "fork": _fork,
    "fork and return": _fork_and_return,
    "signals": _block_signals,
    "grip": _grip,
    "threads": _spawn_threads,
    "leak": _leak,
}
HOW: Sequence[Any] = tuple(_DEEDS)


def effect(context: TaskContext) -> Apply:
    """Return an apply that writes the effect of an attempt."""

    def apply(transaction: Transaction) -> None:
        row = (context.task_id, context.attempt)
        transaction.execute("INSERT INTO public.effects (task_id, attempt) VALUES (%s, %s)", row)

    return apply


_LIMIT = timedelta(minutes=2)
_AT_ONCE = RetryPolicy(Backoff(base=0.0, jitter=0.0))

TASKS: Sequence[Task[Any]] = (
    Task(payload=Effect, run=_compute, batch_size=8, time_limit=_LIMIT),
    Task(payload=Slow, run=_compute, time_limit=_LIMIT),
    Task(payload=Poison, run=_kill, time_limit=_LIMIT, max_attempts=3),
    Task(payload=Orphan, run=_leave, time_limit=_LIMIT),
    Task(payload=Hold, run=_hold, time_limit=_LIMIT, max_attempts=1),
    Task(payload=Brief, run=_overstay, time_limit=timedelta(seconds=5), max_attempts=1),
    Task(payload=Hostile, run=_misbehave, time_limit=_LIMIT, retry=_AT_ONCE, max_attempts=10),
)
