"""What the threads of this process run now, and how a handler is interrupted in its thread.

Invariant: an interruption arrives inside the handler's call, or not at all. The thread says when it is in and out
without a lock, since it does so for every task. Whoever interrupts announces it first and looks then whether the thread
is still in; the thread goes out first and looks then whether something was announced. One of the two sees the other
(as in Dekker's algorithm).
"""

import ctypes
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar
from uuid import UUID

from core.errors import AttemptLostError, TaskCancelledError
from db.leases import Order
from db.queue import Claims
from pipelines.registry import AnyTask
from workers.attempts import Run

A = TypeVar("A")
B = TypeVar("B")
T = TypeVar("T")
_NOTHING: tuple[Run, ...] = ()
_MOST_EARLY = 1000
_FORKED = 70
"""Exit status of a child that a handler forked and that would go on as a worker (EX_SOFTWARE of sysexits.h)."""
_is_child = False


def _note_fork() -> None:
    global _is_child
    _is_child = True


os.register_at_fork(after_in_child=_note_fork)


class Seat:
    """One thread's place: the part of a message that it works off, and of that what its handler is called with now."""

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.task: AnyTask | None = None
        self.coming: Claims = ()
        self.part: Sequence[Run] = _NOTHING
        self.runs: tuple[Run, ...] = _NOTHING
        self.deadline = 0.0
        self.interrupted_at: float | None = None
        self.cause: type[BaseException] | None = None
        self.orders: dict[UUID, Order] = {}
        self.ended = 0
        self._lock = threading.Lock()

    def call(self, runs: tuple[Run, ...], deadline: float, handler: Callable[[A, B], T], first: A, second: B) -> T:
        """Call a handler, which may be interrupted meanwhile; `deadline` is a moment of the monotonic clock."""
        self.deadline = deadline
        self.cause = None
        self.runs = runs
        try:
            try:
                return handler(first, second)
            finally:
                if _is_child:
                    os._exit(_FORKED)  # a handler forked and its child came back too: the connections are not its own
                self.runs = _NOTHING
                if self.interrupted_at is not None:
                    self._settle()
        except BaseException:
            # Again: an interruption may have arrived on the way out. There is never a second one.
            self.runs = _NOTHING
            if self.interrupted_at is not None:
                self._settle()
            raise

    def interrupt(self, runs: tuple[Run, ...], error: type[BaseException]) -> bool:
        """Raise `error` in the thread if it is still inside the call for `runs`; once a call. Return whether it was."""
        with self._lock:
            if self.interrupted_at is not None:
                return False
            self.interrupted_at = time.monotonic()
            if not runs or self.runs is not runs:
                self.interrupted_at = None
                return False
            self.cause = error
            _raise_in(self.thread, error)
            return True

    def _settle(self) -> None:
        """Take back an interruption that has not arrived: the handler's own end came first."""
        with self._lock:
            _raise_in(self.thread, None)
            self.interrupted_at = None


class RunningAttempts:
    """The seats of a process's threads. `on_busy` is called when work begins after `is_busy` found none."""

    def __init__(self) -> None:
        self.seats: list[Seat] = []
        self.abandoned: list[Seat] = []
        self.on_busy: Callable[[], None] = lambda: None
        self.on_interrupted: Callable[[int], None] = lambda thread: None
        self._local = threading.local()
        self._is_known_busy = False
        self._early: dict[tuple[UUID, int], Order] = {}
        self._ordering = threading.Lock()

    def expect(self, claims: Claims) -> None:
        """Say what the calling thread is about to take, before it does: from then on it is known."""
        self._seat().coming = claims

    def begin(self, task: AnyTask, part: Sequence[Run]) -> Seat:
        """Return the calling thread's seat, with what it has taken and is about to work off."""
        seat = self._seat()
        seat.task = task
        seat.part = part
        if self._early:
            with self._ordering:
                early = [self._early.pop(run.claim, None) for run in part]
                seat.orders = {**seat.orders, **{order.task_id: order for order in early if order is not None}}
        if not self._is_known_busy:
            self._is_known_busy = True
            self.on_busy()
        return seat

    def _seat(self) -> Seat:
        seat = self.current()
        if seat is None:
            seat = self._local.seat = Seat()
            self.seats.append(seat)
        return seat

    def current(self) -> Seat | None:
        """Return the calling thread's seat, if it has one."""
        return getattr(self._local, "seat", None)

    def end(self, seat: Seat) -> None:
        """Say that the seat's part is worked off."""
        seat.ended += len(seat.part)
        seat.coming, seat.part = (), _NOTHING
        if seat.orders:
            seat.orders = {}

    def claims(self) -> Claims:
        """Return the claims of all that threads work off or are about to take, with those of threads that are lost."""
        seats = (*self.seats, *self.abandoned)
        return [claim for seat in seats for claim in (*seat.coming, *(run.claim for run in seat.part))]

    def is_busy(self) -> bool:
        """Return whether any thread has work."""
        self._is_known_busy = False  # before the look: a part that begins meanwhile says so itself
        self._is_known_busy = any(seat.part for seat in self.seats)
        return self._is_known_busy

    def ended(self) -> int:
        """Return how many attempts have been worked off."""
        return sum(seat.ended for seat in self.seats)

    def longer_than(self, seconds: float) -> list[tuple[UUID, int]]:
        """Return the attempts, with their claim numbers, whose handlers have been running for longer than that."""
        before = time.monotonic() - seconds
        return [run.claim for seat in self.seats for run in seat.runs if run.started < before]

    def obey(self, order: Order) -> None:
        """Interrupt an attempt that was cancelled or lost; of one that has not begun, let its thread know."""
        claim = order.task_id, order.claim_number
        with self._ordering:
            # First, for whoever begins it now: one of the two sees the other.
            self._early[claim] = order
            while len(self._early) > _MOST_EARLY:
                del self._early[next(iter(self._early))]  # it had ended before its order came
            for seat in self.seats:
                if any(run.claim == claim for run in seat.part):
                    self._early.pop(claim)
                    seat.orders = {**seat.orders, order.task_id: order}
                    runs = seat.runs  # after the order: a handler that begins now sees it
                    break
            else:
                return
        if any(run.claim == claim for run in runs):
            self.interrupt(seat, runs, AttemptLostError if order.reason is None else TaskCancelledError)

    def interrupt(self, seat: Seat, runs: tuple[Run, ...], error: type[BaseException]) -> None:
        """Interrupt a handler that is still in its call; `on_interrupted` is told of the thread then."""
        if seat.interrupt(runs, error):
            self.on_interrupted(seat.thread)

    def is_cancelled(self, task_id: UUID) -> bool:
        """Return whether a running attempt of that task is not wanted any more."""
        return any(task_id in seat.orders for seat in self.seats)

    def abandon(self, seat: Seat) -> None:
        """Count a thread out whose handler cannot be interrupted."""
        self.abandoned.append(seat)
        self.seats.remove(seat)


def _raise_in(thread: int, error: type[BaseException] | None) -> None:
    """Let an exception arrive in a thread at its next bytecode; None takes back one that has not arrived."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread), None if error is None else ctypes.py_object(error)
    )
