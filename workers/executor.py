"""Runs one message: take → decode → run → record, each a step over the records of its attempts.

Invariant: nothing is computed with a transaction open. What the database does not hear of in time is rescued there, so
every step may simply be abandoned.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from core import events
from core.errors import InterruptionError, PermanentError, RateLimitedError, TimeLimitError, UnavailableError
from db import leases
from db.queue import Claims
from pipelines.outcomes import Outcome
from pipelines.registry import AnyTask
from pipelines.resources import Resources
from pipelines.task import BatchItem
from workers.attempts import Context, Progress, Run, attempt_span, decode, fail
from workers.connections import Connections
from workers.givenup import GivenUp
from workers.handed import Handed
from workers.interruptions import conclude, heed, split_stuck
from workers.recording import Recorder
from workers.running import RunningAttempts, Seat
from workers.sizes import BatchSizes
from workers.timelimits import TimeLimits

if TYPE_CHECKING:
    from pipelines.keyring import KeyRing

# A part that takes this many times as long as it was meant to gives back what it has not begun.
_PART_FACTOR = 5
# A task that this worker cannot run is not offered again at once: it would come back as likely as not.
_STRANGER_SECONDS = 1.0
# What a handler may raise without harm to its neighbours.
_RAISED = (Exception, SystemExit, KeyboardInterrupt, InterruptionError)


@dataclass(frozen=True, slots=True)
class ExecutorConfig:
    """What an executor needs to know: addresses by scope, its process's boot id, and times in seconds.

    `direct_url` is the system role's past the pooler, where one stands between.
    """

    worker_id: UUID
    url: str
    system_url: str | None
    pooled: bool
    lease_seconds: float
    target_seconds: float
    interrupt_seconds: float = 5.0
    direct_url: str | None = None


class Executor:
    """Runs messages for the threads of one worker process; each thread has connections of its own."""

    def __init__(
        self,
        config: ExecutorConfig,
        resources: Resources,
        keyring: "KeyRing | None" = None,
    ) -> None:
        self._config = config
        self._resources = resources
        self._keyring = keyring
        self.sizes = BatchSizes(config.target_seconds)
        self._longest_part = _PART_FACTOR * config.target_seconds
        urls = {"tenant": config.url, "system": config.system_url}
        self._connections = Connections(urls, pooled=config.pooled, direct_url=config.direct_url)
        self._progress = Progress(config.url, pooled=config.pooled)
        self._draining = threading.Event()
        self.on_stuck: Callable[[], None] = lambda: None
        self.running = RunningAttempts()
        self.running.on_interrupted = self._connections.cancel
        self.time_limits = TimeLimits(self.running, self._abandon, grace_seconds=config.interrupt_seconds)
        self.handed = Handed(config.worker_id, config.lease_seconds, self._held)
        self.given_up = GivenUp(config.url, config.worker_id, self.handed, pooled=config.pooled)
        self._recorder = Recorder(config.worker_id, config.lease_seconds, self._connections, self.given_up, keyring)

    def run_message(self, task: AnyTask, claims: Claims) -> None:
        """Run the tasks of a message, in parts as large as the measured time of their type allows."""
        rest = list(claims)
        is_refused = False
        while rest and not is_refused and not self._draining.is_set():
            size = self.sizes.next_size(task.name, len(rest))
            part, rest = rest[:size], rest[size:]
            try:
                is_refused = self._run_part(task, part)
            except BaseException:
                self.given_up.add(part)
                self.given_up.add_unbegun(rest)
                raise
        if rest:
            self.give_back(rest)

    def give_back(self, claims: Claims, *, delay: float = 0.0) -> None:
        """Give claims back that were not begun, started or not; a relay that sleeps is woken for them."""
        self.handed.collect(claims)
        self._give_back("tenant", claims, delay=delay)

    def _held(self) -> Claims:
        """Return all attempts that are this worker's to end."""
        return [*self.running.claims(), *self.given_up.claims()]

    def most_seconds(self, task: AnyTask) -> float:
        """Return within how many seconds of its take an attempt has ended: the last of a part starts later."""
        return task.time_limit.total_seconds() + self._longest_part

    def refuse(self, claims: Claims) -> None:
        """Give back what another worker of the queue was meant to get: this one does not know the task type."""
        self.give_back(claims, delay=_STRANGER_SECONDS)

    def _abandon(self, seat: Seat, runs: Sequence[Run]) -> None:
        """End what a thread holds whose handler cannot be interrupted; the thread is lost to this process."""
        task = seat.task
        if task is None:
            raise RuntimeError("a seat that runs something has a task")
        self.running.abandon(seat)
        ended, waiting = split_stuck(task, seat, runs)
        if waiting:
            self._give_back(task.scope, [run.claim for run in waiting])
        if ended:
            self._recorder.record(task, ended)
        events.emit(events.HandlerStuck(task.name, runs[0].attempt.task_id, len(runs)))
        self.on_stuck()

    def drain(self) -> None:
        """Take nothing more; what runs goes on."""
        self._draining.set()

    def close(self) -> None:
        """Close all connections; call it when no message runs any more."""
        self._progress.close()
        self._connections.close()

    # ------------------------------------------------------------------------------------------------ steps

    def _run_part(self, task: AnyTask, claims: Claims) -> bool:
        """Run what can be taken of the claims; return whether a provider has refused."""
        started = time.monotonic()
        self.running.expect(claims)
        taken, known = self._take(task, claims), task.payload.payload_version
        runs = [run for run in taken if run.attempt.payload_version <= known]
        if len(runs) < len(taken):
            # A newer program enqueued the others: they wait, at no cost, for a worker that knows them.
            newer = [run.claim for run in taken if run.attempt.payload_version > known]
            self._give_back(task.scope, newer, delay=_STRANGER_SECONDS)
        seat = self.running.begin(task, runs)
        try:
            self._work_off(task, seat, runs, started)
        finally:
            self.running.end(seat)
        return any(run.refusal is not None for run in runs)

    def _work_off(self, task: AnyTask, seat: Seat, runs: Sequence[Run], started: float) -> None:
        for run in runs:
            decode(task, run, self._keyring)
        ready = [run for run in runs if run.outcome is None]
        begun = time.monotonic()
        if ready:
            events.emit(events.AttemptStarted(task.name, len(ready)))
            self._compute(task, seat, ready)
        # those of a batch are called together, and their call may cost the same for few as for many
        handling = 0.0 if task.run_batch is not None else time.monotonic() - begun
        ended = [run for run in runs if run.outcome is not None]
        if ended:
            self._recorder.record(task, ended)
            self.sizes.measured(task.name, len(ended), time.monotonic() - started, handling=handling)
        for run in ended:
            self._progress.forget(run.attempt.task_id)

    def _take(self, task: AnyTask, claims: Claims) -> list[Run]:
        fresh, stale = self.handed.collect(claims)
        if stale:
            self._give_back(task.scope, [(a.task_id, a.claim_number) for a in stale])
        if fresh or stale:  # a message is started as a whole
            return [Run(attempt) for attempt in fresh]
        try:
            return self._take_once(task, claims)
        except UnavailableError:
            # The server was restarted or a pooler closed us while we were idle: a new connection, at once. A take whose
            # answer was lost may have committed: what it started is given up, or our heartbeat would keep it for ever.
            leases.untake(self._connections.of(task.scope), claims, self._config.worker_id)
            return self._take_once(task, claims)

    def _take_once(self, task: AnyTask, claims: Claims) -> list[Run]:
        attempts = leases.take(
            self._connections.of(task.scope),
            claims,
            worker_id=self._config.worker_id,
            lease_seconds=self._config.lease_seconds,
            time_limit=self.most_seconds(task),
        )
        return [Run(attempt) for attempt in attempts]

    def _give_back(self, scope: str, claims: Claims, *, delay: float = 0.0) -> None:
        """Give back what was not begun, at no cost; give it, and nothing else, up if the database is away."""
        for is_last in (False, True):  # the first may find that its connection went while the part was computed
            try:
                leases.give_back(self._connections.of(scope), claims, self._config.worker_id, delay=delay)
            except UnavailableError:
                if is_last:
                    self.given_up.add(claims)
            else:
                return

    def _compute(self, task: AnyTask, seat: Seat, runs: Sequence[Run]) -> None:
        """Run handlers until each run has its outcome, or is given back as not begun."""
        if task.run_batch is not None:
            self._compute_together(task, seat, runs)
            return
        leave_at = time.monotonic() + self._longest_part
        for position, run in enumerate(runs):
            if position and (self._draining.is_set() or time.monotonic() > leave_at):
                # Slower than was known, or told to stop: what was not begun is for whoever is free.
                self._give_back(task.scope, [run.claim for run in runs[position:]])
                return
            if not (seat.orders and heed(task, seat, run)):
                self._compute_one(task, seat, run)
            if run.refusal is not None:
                self._leave(task, run.refusal, runs[position + 1 :])
                return

    def _leave(self, task: AnyTask, refusal: RateLimitedError, rest: Sequence[Run]) -> None:
        """Give back what was not begun: the refusing provider's waits, the rest is for whoever is free."""
        same = [run.claim for run in rest if run.attempt.limit_key == refusal.key]
        others = [run.claim for run in rest if run.attempt.limit_key != refusal.key]
        if same:
            self._give_back(task.scope, same, delay=refusal.pause.total_seconds())
        if others:
            self._give_back(task.scope, others)

    def _compute_one(self, task: AnyTask, seat: Seat, run: Run) -> None:
        if task.run is None or run.payload is None:
            raise RuntimeError("a run without a handler or a payload")
        run.started = time.monotonic()
        deadline = run.started + task.time_limit.total_seconds()
        try:
            with attempt_span(task, run):
                outcome = seat.call((run,), deadline, task.run, self._context(task, run), run.payload)
            run.end(outcome)
        except _RAISED as error:
            if seat.cause is not None:
                self._connections.renew()
            conclude(task, seat, run, error)

    def _compute_together(self, task: AnyTask, seat: Seat, together: Sequence[Run]) -> None:
        runs = [run for run in together if not heed(task, seat, run)] if seat.orders else together
        if not runs:
            return
        try:
            outcomes = self._call_batch(task, seat, runs)
        except _RAISED as error:
            self._compute_apart(task, seat, runs, error)
            return
        for run, outcome in zip(runs, outcomes, strict=True):
            try:
                if isinstance(outcome, Exception):
                    conclude(task, seat, run, outcome)
                else:
                    run.end(outcome)
            except PermanentError as error:
                fail(task, run, error)

    def _compute_apart(self, task: AnyTask, seat: Seat, runs: Sequence[Run], error: BaseException) -> None:
        """Go on after a batch raised, within the same attempts: one bad task must not fail its neighbours."""
        if seat.cause is not None:
            self._connections.renew()
        if any(run.attempt.task_id in seat.orders for run in runs):
            self._compute_together(task, seat, runs)  # without those that are not wanted
        elif isinstance(error, RateLimitedError) and seat.cause is None:
            # who refused one refuses all that go there; the tasks of other keys only travelled with them
            same = [run for run in runs if run.attempt.limit_key == error.key]
            _conclude_all(task, seat, same or runs, error)
            if same:
                self._compute_together(task, seat, [run for run in runs if run.attempt.limit_key != error.key])
        elif len(runs) == 1 or seat.cause is TimeLimitError or isinstance(error, TimeLimitError):
            _conclude_all(task, seat, runs, error)  # time that is used up is used up for all
        else:
            for run in runs:
                self._compute_together(task, seat, [run])

    def _call_batch(self, task: AnyTask, seat: Seat, runs: Sequence[Run]) -> Sequence[Outcome | Exception]:
        items = [BatchItem(self._context(task, run), run.payload) for run in runs if run.payload is not None]
        started = time.monotonic()
        for run in runs:
            run.started = started
        outcomes = seat.call(tuple(runs), started + task.time_limit.total_seconds(), _run_batch, task, items)
        if len(outcomes) != len(runs):
            raise RuntimeError(f"{task.name} returned {len(outcomes)} outcomes for {len(runs)} tasks")
        return outcomes

    def _context(self, task: AnyTask, run: Run) -> Context:
        kept = self._connections.kept
        outward = kept("outside") if task.outside else None
        common = self._resources, kept(task.scope), self._progress, self.running
        return Context(run.attempt, *common, self._config.worker_id, self._keyring, outward, task.time_limit)


def _conclude_all(task: AnyTask, seat: Seat, runs: Sequence[Run], error: BaseException) -> None:
    for run in runs:
        conclude(task, seat, run, error)


def _run_batch(task: AnyTask, items: Sequence[BatchItem[Any]]) -> Sequence[Outcome | Exception]:
    if task.run_batch is None:
        raise RuntimeError("a batch without a handler")
    return task.run_batch(items)
