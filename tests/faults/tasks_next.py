"""The task types of the fault tests as a newer program has them: `fault.effect` is of version 2."""

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from pydantic import Field

from pipelines.outcomes import Done, Outcome
from pipelines.payload import Payload
from pipelines.task import Task, TaskContext
from tests.faults.tasks import effect


class Effect(Payload):
    """Says how long it computes in milliseconds; version 1 said it in seconds."""

    task_type = "fault.effect"
    payload_version = 2
    milliseconds: float = Field(0.0, ge=0, le=1000)

    @classmethod
    def upgrade(cls, fields: dict[str, Any], version: int) -> dict[str, Any]:
        """Turn seconds into milliseconds."""
        if version < 2:
            fields["milliseconds"] = 1000 * fields.pop("seconds", 0.0)
        return fields


def _compute(context: TaskContext, payload: Effect) -> Outcome:
    time.sleep(payload.milliseconds / 1000)
    return Done(apply=effect(context))


TASKS: Sequence[Task[Any]] = (Task(payload=Effect, run=_compute, batch_size=8, time_limit=timedelta(minutes=2)),)
