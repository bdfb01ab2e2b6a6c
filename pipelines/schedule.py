"""Schedules in code: a task module has `SCHEDULES` beside its `TASKS`, and `db migrate` installs them.

A declaration is data: what is enqueued, when, and by which policies. Its trigger is built where it is installed
(`scheduler.triggers`), and nothing here imports a timer. What an operator makes of a schedule stands over it.
"""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from core.errors import RegistrationError
from db.schedules import Declaration, Fold, Gap, Missed, Overlap, ScheduleSpec
from pipelines.payload import Payload


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A recurring task. Exactly one of `cron` (in the IANA zone `zone`), `every` and `at` says when.

    `gap` and `fold` say what becomes of a time that daylight saving takes away or gives twice. `jitter` makes each task
    due up to that much later. `missed`: of fires that nobody was there for, none (`skip`), the last (`once`), or the
    last `missed_limit` (`all`) are made up for. `overlap`: while a task of the schedule lives, a fire is enqueued all
    the same (`allow`), not at all (`skip`), or begins when that one ends (`wait`). `source` is whose wish it is: a
    design's number, or a product's own name. docs/schedules.md.
    """

    name: str
    payload: Payload
    cron: str | None = None
    every: timedelta | None = None
    at: datetime | None = None
    zone: str = "UTC"
    gap: Gap = "shift"
    fold: Fold = "first"
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    jitter: timedelta = timedelta(0)
    missed: Missed = "once"
    missed_limit: int = 10
    overlap: Overlap = "skip"
    queue: str | None = None
    priority: int | None = None
    source: str
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
        fields: dict[str, Any] = json.loads(self.payload.model_dump_json())
        spec = ScheduleSpec(task_type=self.task_type, payload=fields, **same)
        spec.check()
        return spec

    def declaration(self, module: str) -> Declaration:
        """Return it as it is installed, for the task module that declares it."""
        return Declaration(spec=self.spec(), module=module, design=self.source)


_SAME = (
    "name", "cron", "every", "at", "zone", "gap", "fold", "starts_at", "ends_at", "jitter", "missed", "missed_limit",
    "overlap", "queue", "priority", "description",
)  # fmt: skip
