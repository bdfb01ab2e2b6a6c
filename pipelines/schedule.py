"""Schedules in code: a task module has `SCHEDULES` beside its `TASKS`, and `db migrate` installs them.

A declaration is data: what is enqueued, when, and by which policies. Its trigger is built where it is installed
(`scheduler.triggers`), and nothing here imports a timer. What an operator makes of a schedule stands over it.
"""

import json
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any

from core.errors import RegistrationError
from core.times import Times
from db.schedules import Declaration, Missed, Overlap, ScheduleSpec
from pipelines.payload import Payload


@dataclass(frozen=True, kw_only=True)
class Schedule(Times):
    """A recurring task.

    `jitter` makes each task due up to that much later. `missed`: of times that nobody was there for, none (`skip`), the
    last (`once`), or the last `missed_limit` (`all`) are made up for. `overlap`: while a task of the schedule lives, a
    fire is enqueued all the same (`allow`), not at all (`skip`), or begins when that one ends (`wait`). `design` is
    whose wish it is: a design's number, or a product's own name. docs/schedules.md.
    """

    name: str
    payload: Payload
    jitter: timedelta = timedelta(0)
    missed: Missed = "once"
    missed_limit: int = 10
    overlap: Overlap = "skip"
    queue: str | None = None
    priority: int | None = None
    design: str
    description: str

    @property
    def task_type(self) -> str:
        """The task type that it enqueues, which its payload owns."""
        return self.payload.task_type

    def spec(self) -> ScheduleSpec:
        """Return it as a row's contents; raises ScheduleError for policies and times that make no sense."""
        if self.payload.encrypted_fields:
            raise RegistrationError(f"schedule {self.name!r}: a payload with encrypted fields cannot stand in code")
        same = {name: getattr(self, name) for name in _SAME}
        payload: dict[str, Any] = json.loads(self.payload.model_dump_json())
        spec = ScheduleSpec(task_type=self.task_type, payload=payload, **same)
        spec.check()
        return spec

    def declaration(self, module: str) -> Declaration:
        """Return it as it is installed, for the task module that declares it."""
        return Declaration(spec=self.spec(), module=module, design=self.design)


_SAME = {field.name for field in fields(Schedule)} & {field.name for field in fields(ScheduleSpec)} - {"payload"}
