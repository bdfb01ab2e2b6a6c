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


def final(task: AnyTask, run: Run) -> Outcome:
    """Return the outcome of a run for good: who may not try or look again has failed, and writes no effects."""
    attempt = run.attempt
    match outcome := settled(run):
        case Retry(reason=reason) if attempt.number >= attempt.max_attempts:
            return Fail(reason)
        case Snooze() if attempt.snoozes >= task.max_snoozes:
            return Fail(f"snoozed more than {task.max_snoozes} times")
        case _:
            return outcome


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
    """Decide how a run whose outcome is final ends: for good, or to wait again."""
    attempt = run.attempt
    match settled(run):
        case Done(result=result):
            return leases.Ending(attempt, "done", result)
        case Fail(reason=reason):
            return leases.Ending(attempt, "failed", error=reason)
        case Cancel(reason=reason):
            return leases.Ending(attempt, "cancelled", error=reason)
        case Retry(reason=reason, after=after):
            return leases.Rescheduling(attempt, task.retry.delay(attempt.number, after), reason)
        case Snooze(duration=duration, reason=reason):
            seconds = min(max(duration.total_seconds(), 0.0), _SNOOZE_LIMIT_SECONDS)
            return leases.Rescheduling(attempt, seconds, reason, snooze=True)
        case never:
            assert_never(never)
