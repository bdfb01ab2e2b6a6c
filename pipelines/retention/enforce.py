"""`retention.enforce`: what retention policies take goes, policy by policy and page by page, beside the work.

Each page is a transaction that holds what it did and how far its run came, so a run goes on wherever its worker was
killed. One that would take more than its policy's share of a table asks an operator first, and others go on. A policy
that is switched off or held in mid-run ends its run at the next page. No run fails for another's error.
"""

from dataclasses import asdict
from datetime import timedelta
from typing import Any, ClassVar
from uuid import UUID

import psycopg

from core import events
from core.errors import PermanentError, RetryableError
from core.settings import Settings
from db import retention_runs
from db.connection import Connection
from db.queries import is_unavailable, unavailable
from db.retention import Action, Cadence
from db.retention_runs import CameTo
from pipelines.outcomes import Done, Fail, Outcome, Snooze
from pipelines.payload import Payload
from pipelines.resources import Resources
from pipelines.retention import deleting, months
from pipelines.retention.archive.store import ArchiveStore, archive_store
from pipelines.retention.runs import Pacer, Run, Step, paced_task
from pipelines.schedule import Schedule
from pipelines.task import TaskContext

# What is in use is tried again ever more seldom: a reader of a minute is outlasted in a dozen looks, one of a day in a
# hundred.
_SOONEST, _SHARE, _LATEST = 2.0, 10.0, 300.0
# After most of a day the next task of the schedule takes the run up: the other policies would wait for it.
_PATIENCE = 72_000.0


def _archive(context: TaskContext, connection: Connection, run: Run, pacer: Pacer) -> str | None:
    from pipelines.retention.archive.archiving import step  # which loads pyarrow, and relays know this module

    return step(context, connection, run, pacer)


STEPS: dict[Action, Step] = {
    "archive": _archive,
    "delete": deleting.step,
    "roll_up": deleting.roll_up_step,
    "drop_partition": months.step,
}
"""By a policy's action, what does a run's work."""


class EnforceRetention(Payload):
    """Let go what policies take: of a cadence, those that are named, or all. `confirm` answers a run that asks."""

    task_type: ClassVar[str] = "retention.enforce"

    cadence: Cadence | None = None
    policies: tuple[str, ...] = ()
    confirm: bool = False


def enforce(context: TaskContext, payload: EnforceRetention) -> Outcome:
    """Run what is left of the policies for a minute; done when each has ended, asks, or is another task's.

    Raises RetryableError, once the others had their turn, where storage does not answer, or changed what it was given.
    """
    with context.outside() as connection:
        if retention_runs.unknown(connection, payload.policies):
            return Fail("a policy is named that there is not: see `greenroom retention show`")
        retention_runs.cancel_stale(connection, context.task_id)
        pacer = Pacer(connection)
        left: list[str] = []
        troubles: list[RetryableError] = []
        for policy in retention_runs.policies(connection, context.task_id, payload.cadence, payload.policies):
            try:
                reason = "others go on" if pacer.is_over else _run(context, connection, policy, pacer, payload)
            except RetryableError as error:
                troubles.append(error)
            else:
                left += [reason] if reason else []
        ends = retention_runs.of_task(connection, context.task_id)
        asking = [run.policy for run in retention_runs.asking(connection)]
    if left and pacer.is_over:
        return Snooze(pacer.pause, reason=left[0])
    if troubles:
        raise troubles[0]
    waits = max((end.seconds for end in ends if end.status == "running"), default=0.0)
    if left and waits < _PATIENCE:
        return Snooze(timedelta(seconds=min(max(waits / _SHARE, _SOONEST), _LATEST)), reason=left[0])
    return _outcome(ends, asking)


def _run(
    context: TaskContext, connection: Connection, policy: str, pacer: Pacer, payload: EnforceRetention
) -> str | None:
    """Run one policy; the reason to come back where its run is not at its end."""
    run_id, state = retention_runs.begin(connection, policy, context.task_id, is_confirmed=payload.confirm)
    if run_id is None or state != "running":
        return None
    try:
        return _work(context, connection, run_id, pacer)
    except (psycopg.Error, PermanentError) as error:
        if isinstance(error, psycopg.Error) and is_unavailable(error):
            raise unavailable(error) from error
        retention_runs.fail(connection, run_id, _told(error))
        return None


def _work(context: TaskContext, connection: Connection, run_id: UUID, pacer: Pacer) -> str | None:
    is_allowed = retention_runs.weigh(connection, run_id)
    run = retention_runs.show(connection, run_id)
    if run is None:
        return None
    if not is_allowed:
        events.emit(events.RetentionAsks(run.policy_name, run.table, run.rows_planned))
        return None
    left = STEPS[run.action](context, connection, run, pacer)
    if left is None:
        retention_runs.end(connection, run.id)
    return left


def _told(error: Exception) -> str:
    """Return an error's text without the values of rows, which Postgres quotes in its DETAIL."""
    primary = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    return f"{type(error).__name__}: {primary or error}"


def _outcome(ends: list[CameTo], asking: list[str]) -> Outcome:
    if failed := [f"{end.policy} ({end.error})" for end in ends if end.status == "failed"]:
        return Fail(f"not let go: {', '.join(failed)}; what the other policies take is gone")
    return Done({"runs": [_result(end) for end in ends], "asking": asking})


def _result(end: CameTo) -> dict[str, Any]:
    """Return what a run came to, without what it has not."""
    return {name: value for name, value in asdict(end).items() if value not in (None, 0, [], {})}


def _schedule(cadence: Cadence, cron: str, design: str, description: str) -> Schedule:
    return Schedule(
        name=f"retention-{cadence}",
        payload=EnforceRetention(cadence=cadence),
        cron=cron,
        jitter=timedelta(minutes=5),
        overlap="skip",
        design=design,
        description=description,
    )


SCHEDULES = (
    _schedule("hourly", "20 * * * *", "000", "Lets go what retention policies of every hour take."),
    _schedule("daily", "30 1 * * *", "003", "Lets go what retention policies of every day take."),
    _schedule("monthly", "0 2 1 * *", "002", "Lets go what retention policies of every month take."),
)


def provide(resources: Resources, settings: Settings) -> None:
    """Say where archives stand."""
    resources.provide(ArchiveStore, lambda: archive_store(settings))


TASKS = (paced_task(EnforceRetention, enforce),)
