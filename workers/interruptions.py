"""What becomes of attempts whose handlers were interrupted, or could not be."""

import sys
import traceback
from collections.abc import Sequence
from dataclasses import replace
from types import FrameType

from core import events
from core.errors import TimeLimitError
from db.leases import Order
from pipelines.outcomes import Cancel
from pipelines.registry import AnyTask
from workers.attempts import TRACEBACK_LIMIT, Run, fail
from workers.running import Seat


def conclude(task: AnyTask, seat: Seat, run: Run, raised: BaseException) -> None:
    """Give a run its outcome whose handler raised: what was ordered counts for more than what was raised."""
    if not heed(task, seat, run):
        # An interruption may show as something else: as a statement that was cancelled, say.
        fail(task, run, raised if seat.cause is None or isinstance(raised, seat.cause) else seat.cause())


def heed(task: AnyTask, seat: Seat, run: Run) -> bool:
    """Return whether a run was cancelled (it has its outcome then) or lost (it has none)."""
    order = seat.orders.get(run.attempt.task_id)
    if order is None:
        return False
    _follow(task, run, order)
    return True


def split_stuck(task: AnyTask, seat: Seat, runs: Sequence[Run]) -> tuple[list[Run], list[Run]]:
    """Tell apart what a stuck thread has to end and what it has not begun: (runs with an outcome, runs without).

    `runs` are what its handler was called with. They are copied: should the thread come back, it writes to the
    originals, and whatever it wants to store then is fenced.
    """
    where = _stack_of(seat.thread)
    stuck = [_ended_by_force(task, seat, run, where) for run in runs]
    others = [run for run in seat.part if not any(run is each for each in runs)]
    ended = [run for run in (*stuck, *others) if run.outcome is not None]
    return ended, [run for run in others if run.outcome is None]


def _ended_by_force(task: AnyTask, seat: Seat, run: Run, where: str) -> Run:
    copy = replace(run, outcome=None)
    order = seat.orders.get(run.attempt.task_id)
    if order is None:
        fail(task, copy, TimeLimitError("the attempt ran for longer than its time limit and could not be interrupted"))
    else:
        _follow(task, copy, order)
    copy.traceback = where
    return copy


def _follow(task: AnyTask, run: Run, order: Order) -> None:
    if order.reason is None:
        events.emit(events.AttemptLost(task.name, run.attempt.task_id, run.attempt.number))
    else:
        run.end(Cancel(order.reason))


def _stack_of(thread: int) -> str:
    """Return where a thread stands: files, functions and source lines, never values."""
    frame: FrameType | None = sys._current_frames().get(thread)
    return "" if frame is None else "".join(traceback.format_stack(frame))[-TRACEBACK_LIMIT:]
