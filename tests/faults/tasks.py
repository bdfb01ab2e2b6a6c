"""Task types of the fault tests, for GREENROOM_TASK_MODULES. Each writes one row a task into `public.effects`.

That table has no unique key: an effect that happened twice stands there twice.
"""

import os
import signal
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from pydantic import Field

from pipelines.outcomes import Apply, Done, Outcome
from pipelines.payload import Payload
from pipelines.task import Task, TaskContext
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


def _compute(context: TaskContext, payload: Effect | Slow) -> Outcome:
    time.sleep(payload.seconds)
    return Done(apply=_effect(context))


def _kill(context: TaskContext, payload: Poison) -> Outcome:
    os.kill(os.getpid(), signal.SIGKILL)
    return Done(apply=_effect(context))


def _effect(context: TaskContext) -> Apply:
    def apply(transaction: Transaction) -> None:
        row = (context.task_id, context.attempt)
        transaction.execute("INSERT INTO public.effects (task_id, attempt) VALUES (%s, %s)", row)

    return apply


_LIMIT = timedelta(minutes=2)

TASKS: Sequence[Task[Any]] = (
    Task(payload=Effect, run=_compute, batch_size=8, time_limit=_LIMIT),
    Task(payload=Slow, run=_compute, time_limit=_LIMIT),
    Task(payload=Poison, run=_kill, time_limit=_LIMIT),
)
