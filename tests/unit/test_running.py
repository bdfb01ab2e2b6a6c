"""An interruption arrives inside a handler's call, or not at all."""

import os
import sys
import threading
import time
import warnings
from collections.abc import Callable
from uuid import UUID, uuid4

from core.errors import AttemptLostError, TaskCancelledError, TimeLimitError
from db.leases import Order
from db.queue import Attempt
from pipelines.registry import AnyTask
from tests.support.tasks import TASKS
from tests.support.waiting import eventually
from workers.attempts import Run
from workers.running import RunningAttempts, Seat
from workers.timelimits import TimeLimits

TASK: AnyTask = TASKS[0]
FAR = 1e12


def run_of(task_id: UUID | None = None) -> Run:
    return Run(Attempt(task_id or uuid4(), 1, 1, 5, 0, None, "{}", 1, None, 0.0))


def spin() -> None:
    """Run until interrupted."""
    while True:
        time.sleep(0.001)


def count(times: int, step: int) -> int:
    """Be busy in bytecode for a moment."""
    total = 0
    for _ in range(times):
        total += step
    return total


class Handler:
    """A handler in a thread of its own."""

    def __init__(
        self, running: RunningAttempts, handler: Callable[[], object], *runs: Run, deadline: float = FAR
    ) -> None:
        self.runs = runs
        self.raised: BaseException | None = None
        self._arguments = (running, handler, deadline)
        self.thread = threading.Thread(target=self._work)
        self.thread.start()

    def _work(self) -> None:
        running, handler, deadline = self._arguments
        seat = running.begin(TASK, self.runs)
        try:
            seat.call(self.runs, deadline, lambda _, __: handler(), None, None)
        except BaseException as error:
            self.raised = error
        finally:
            running.end(seat)


def seat_inside(running: RunningAttempts) -> Seat:
    [inside] = eventually(lambda: [seat for seat in running.seats if seat.runs])
    return inside


def test_what_is_cancelled_and_what_is_lost_is_interrupted() -> None:
    for reason, kind in (("not wanted", TaskCancelledError), (None, AttemptLostError)):
        running, run = RunningAttempts(), run_of()
        handler = Handler(running, spin, run)
        seat_inside(running)
        running.obey(Order(run.attempt.task_id, 2, reason))  # another claim's
        running.obey(Order(uuid4(), 1, reason))
        assert handler.thread.is_alive()
        running.obey(Order(*run.claim, reason))
        handler.thread.join(5)
        assert type(handler.raised) is kind


def test_what_has_not_begun_is_only_marked() -> None:
    running, begun, waiting = RunningAttempts(), run_of(), run_of()
    seat = running.begin(TASK, [begun, waiting])
    running.obey(Order(*waiting.claim, "no"))
    assert running.is_cancelled(waiting.attempt.task_id)
    assert not running.is_cancelled(begun.attempt.task_id)
    assert seat.call((begun,), FAR, lambda first, second: (first, second), 1, 2) == (1, 2)
    running.end(seat)
    assert not running.is_cancelled(waiting.attempt.task_id)
    assert running.ended() == 2


def test_the_deadline_interrupts_and_what_ends_in_time_is_left_alone() -> None:
    running = RunningAttempts()
    limits = TimeLimits(running, lambda seat, runs: None)
    late, in_time = (
        Handler(running, spin, run_of(), deadline=0.0),
        Handler(running, lambda: None, run_of(), deadline=0.0),
    )
    eventually(lambda: limits.run_once() > 0 and not late.thread.is_alive())
    in_time.thread.join(5)
    assert isinstance(late.raised, TimeLimitError)
    assert in_time.raised is None


def test_what_heeds_no_interruption_is_given_up_once() -> None:
    running, given_up, leave = RunningAttempts(), list[tuple[Run, ...]](), threading.Event()

    def abandon(seat: Seat, runs: tuple[Run, ...]) -> None:
        running.abandon(seat)
        given_up.append(runs)

    limits = TimeLimits(running, abandon, grace_seconds=0.05)
    handler = Handler(running, lambda: leave.wait(30) is None, run_of(), deadline=0.0)
    eventually(lambda: limits.run_once() > 0 and given_up)
    limits.run_once()
    assert given_up == [handler.runs]
    assert len(running.abandoned) == 1
    leave.set()
    handler.thread.join(5)


def test_an_interruption_never_arrives_after_the_call() -> None:
    """Interrupts as fast as can be while calls come and go: it is either the call that raises, or nothing does."""
    running, stop, harm = RunningAttempts(), threading.Event(), list[BaseException]()
    inside = 0

    def work() -> None:
        nonlocal inside
        try:
            while not stop.is_set():
                run = run_of()
                seat = running.begin(TASK, (run,))
                try:
                    seat.call((run,), FAR, count, 4000, 1)  # longer than a turn at the interpreter
                except TaskCancelledError:
                    inside += 1
                count(100, 1)  # what is hit here would have been a neighbour, or a commit
                running.end(seat)
        except BaseException as error:
            harm.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    until = time.monotonic() + 30.0
    while inside < 100 and time.monotonic() < until and thread.is_alive():
        for seat in tuple(running.seats):
            seat.interrupt(seat.runs, TaskCancelledError)
        time.sleep(0)  # let it go on
    sys.setswitchinterval(usual)
    stop.set()
    thread.join(10)
    assert harm == []
    assert inside >= 100


def test_whoever_wants_to_know_is_told_when_work_begins() -> None:
    running, told = RunningAttempts(), list[int]()
    running.on_busy = lambda: told.append(1)
    seat = running.begin(TASK, [run_of()])
    assert running.is_busy()
    running.begin(TASK, [run_of()])
    running.end(seat)
    assert told == [1]
    assert not running.is_busy()
    running.begin(TASK, [run_of()])
    assert told == [1, 1]


def test_what_runs_for_long_is_listed() -> None:
    running, run = RunningAttempts(), run_of()
    handler = Handler(running, spin, run)
    seat_inside(running)
    assert running.longer_than(60.0) == []
    assert eventually(lambda: running.longer_than(0.01)) == [run.claim]
    running.obey(Order(*run.claim, "enough"))
    handler.thread.join(5)


def test_a_child_that_a_handler_forked_does_not_come_back() -> None:
    """It would go on as a worker, over connections that its parent uses too."""
    children: list[int] = []

    def handler(_: None, __: None) -> int:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # newer Pythons say that threads and forks do not go together: that is it
            children.append(os.fork())
        return children[0]

    seat = Seat()
    seat.call((run_of(),), time.monotonic() + 60, handler, None, None)
    _, status = os.waitpid(children[0], 0)
    assert os.waitstatus_to_exitcode(status) == 70
