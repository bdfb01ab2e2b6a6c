"""The task type of the queue that retention runs beside, for GREENROOM_TASK_MODULES."""

from collections.abc import Sequence
from typing import Any

from pipelines.outcomes import Done
from pipelines.payload import Payload
from pipelines.task import Task

MODULE = __name__


class Noop(Payload):
    """Does nothing."""

    task_type = "load.noop"
    n: int


TASKS: Sequence[Task[Any]] = (Task(payload=Noop, run=lambda context, payload: Done()),)
