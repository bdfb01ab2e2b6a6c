"""`tables.vacuum`: large tables are vacuumed and analysed, one by one; `tables.analyze`: parted tables are analysed.

Autovacuum goes by how many rows changed: a large table waits long for it, a month that is only added to longer, and a
parted table, which has no rows of its own, for ever.
"""

from datetime import timedelta
from functools import partial
from typing import ClassVar

from pydantic import Field

from db import maintenance
from pipelines.care.rounds import care_task, work_off
from pipelines.outcomes import Outcome
from pipelines.payload import Payload
from pipelines.schedule import Schedule
from pipelines.task import TaskContext


class VacuumTables(Payload):
    """Vacuum and analyse tables and partitions of at least so many bytes, indexes and long values counted."""

    task_type: ClassVar[str] = "tables.vacuum"

    least_bytes: int = Field(100_000_000, ge=0)


class AnalyzeTables(Payload):
    """Analyse parted tables, for plans over all of their partitions."""

    task_type: ClassVar[str] = "tables.analyze"


def vacuum(context: TaskContext, payload: VacuumTables) -> Outcome:
    """Vacuum what was not since the task was asked for; fails where a table could not be."""
    choose = partial(maintenance.large_tables, task_id=context.task_id, least=payload.least_bytes)
    advice = "see who holds them, and run VACUUM (ANALYZE) of them as their owner"
    return work_off(context, choose, maintenance.vacuum, advice=advice)


def analyze(context: TaskContext, payload: AnalyzeTables) -> Outcome:
    """Analyse what was not since the task was asked for; fails where a table could not be."""
    choose = partial(maintenance.parted_tables, task_id=context.task_id)
    advice = "see who holds them, and run ANALYZE of them as their owner"
    return work_off(context, choose, maintenance.analyze, advice=advice)


TASKS = (care_task(VacuumTables, vacuum), care_task(AnalyzeTables, analyze))
SCHEDULES = (
    Schedule(
        name="vacuum",
        payload=VacuumTables(),
        cron="30 2 * * SUN",
        jitter=timedelta(minutes=15),
        design="004",
        description="Vacuums and analyses large tables.",
    ),
    Schedule(
        name="planner-statistics",
        payload=AnalyzeTables(),
        cron="10 5 * * *",
        jitter=timedelta(minutes=15),
        design="004",
        description="Analyses parted tables, which autovacuum never does.",
    ),
)
