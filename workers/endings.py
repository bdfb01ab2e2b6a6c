"""What an outcome means for the task's row: it ends, or it waits again."""

from typing import assert_never

from db import leases
from pipelines.outcomes import Apply, Cancel, Done, Fail, Outcome, Retry, Snooze
from pipelines.registry import AnyTask
from workers.attempts import Run

_SNOOZE_LIMIT_SECONDS = 7 * 24 * 3600.0


def settled(run: Run) -> Outcome:
    """Return the outcome of a run that has one."""
    if run.outcome is None:
        raise RuntimeError(f"task {run.attempt.task_id} has no outcome")
    return run.outcome


def apply_of(run: Run) -> Apply | None:
    """Return what writes a run's effects, if it has any."""
    match settled(run):
        case Done(apply=apply) | Snooze(apply=apply) | Cancel(apply=apply):
            return apply
        case Retry() | Fail():
            return None
        case never:
            assert_never(never)


def ending_of(task: AnyTask, run: Run) -> leases.Ending | leases.Rescheduling:
    """Decide how a run ends: for good, or to wait again."""
    attempt = run.attempt
    match settled(run):
        case Done(result=result):
            return leases.Ending(attempt, "done", result)
        case Fail(reason=reason):
            return leases.Ending(attempt, "failed", error=reason)
        case Cancel(reason=reason):
            return leases.Ending(attempt, "cancelled", error=reason)
        case Retry() as retry:
            return _retried(task, attempt, retry)
        case Snooze() as snooze:
            return _snoozed(task, attempt, snooze)
        case never:
            assert_never(never)


def _retried(task: AnyTask, attempt: leases.Attempt, retry: Retry) -> leases.Ending | leases.Rescheduling:
    if attempt.number >= attempt.max_attempts:
        return leases.Ending(attempt, "failed", error=retry.reason)
    return leases.Rescheduling(attempt, task.retry.delay(attempt.number, retry.after), retry.reason)


def _snoozed(task: AnyTask, attempt: leases.Attempt, snooze: Snooze) -> leases.Ending | leases.Rescheduling:
    if attempt.snoozes >= task.max_snoozes:
        return leases.Ending(attempt, "failed", error=f"snoozed more than {task.max_snoozes} times")
    seconds = min(max(snooze.duration.total_seconds(), 0.0), _SNOOZE_LIMIT_SECONDS)
    return leases.Rescheduling(attempt, seconds, snooze.reason, snooze=True)
