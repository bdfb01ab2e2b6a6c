"""Runs one message: take → decode → run → apply and finish → report, each a step over the records of its attempts.

Invariants: effects and completion commit in one transaction, guarded by the claim number (I2); nothing is computed with
a transaction open; what the database does not hear of in time is rescued there, so every step may simply be abandoned.
"""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from uuid import UUID

import psycopg

from core import events, traces
from core.backoff import Backoff
from core.errors import PermanentError, TimeLimitError, UnavailableError
from db import queue
from db.connection import Connection, bind_tenant, connect
from db.queries import is_unavailable
from pipelines.outcomes import Apply, Done, Fail, Outcome, Retry, Snooze
from pipelines.registry import AnyTask
from pipelines.resources import Resources
from pipelines.task import BatchItem
from pipelines.transaction import Transaction
from workers.attempts import Context, Progress, Run, decode, outcome_word
from workers.endings import apply_of, ending_of, settled
from workers.givenup import GivenUp
from workers.guard import GuardedCursor
from workers.sizes import BatchSizes
from workers.timelimits import TimeLimits

# More than 64 savepoints in a transaction overflow Postgres' cache of subtransactions, and every snapshot pays for it.
MAX_SAVEPOINTS = 64
# A part that takes this many times as long as it was meant to gives back what it has not begun.
_PART_FACTOR = 5


@dataclass(frozen=True, slots=True)
class ExecutorConfig:
    """What an executor needs to know: addresses by scope, its process's boot id, and times in seconds."""

    worker_id: UUID
    url: str
    system_url: str | None
    pooled: bool
    lease_seconds: float
    target_seconds: float


class Executor:
    """Runs messages for the threads of one worker process; each thread has connections of its own."""

    def __init__(
        self, config: ExecutorConfig, resources: Resources, *, on_message_end: Callable[[], None] = lambda: None
    ) -> None:
        self._config = config
        self._resources = resources
        self._on_message_end = on_message_end
        self._sizes = BatchSizes(config.target_seconds)
        self._longest_part = _PART_FACTOR * config.target_seconds
        self._local = threading.local()
        self._connections: list[Connection] = []
        self._progress = Progress(config.url, pooled=config.pooled)
        self._draining = threading.Event()
        self.time_limits = TimeLimits()
        self.given_up = GivenUp(config.url, config.worker_id, pooled=config.pooled)

    def run_message(self, task: AnyTask, claims: Sequence[tuple[UUID, int]]) -> None:
        """Run the tasks of a message, in parts as large as the measured time of their type allows."""
        rest = list(claims)
        try:
            while rest and not self._draining.is_set():
                size = self._sizes.next_size(task.name, len(rest))
                part, rest = rest[:size], rest[size:]
                try:
                    self._run_part(task, part)
                except BaseException:
                    self.given_up.add(part)
                    raise
            if rest:
                queue.give_back(self._connection(task), rest)
        finally:
            self._on_message_end()

    def drain(self) -> None:
        """Take nothing more; what runs goes on."""
        self._draining.set()

    def close(self) -> None:
        """Close all connections; call it when no message runs any more."""
        self._progress.close()
        for connection in self._connections:
            connection.close()

    # ------------------------------------------------------------------------------------------------ steps

    def _run_part(self, task: AnyTask, claims: Sequence[tuple[UUID, int]]) -> None:
        started = time.monotonic()
        runs = self._take(task, claims)
        for run in runs:
            decode(task, run)
        ready = [run for run in runs if run.outcome is None]
        if ready:
            events.emit(events.AttemptStarted(task.name, len(ready)))
            self._compute(task, ready)
        if runs:
            self._record(task, runs)
            self._sizes.measured(task.name, len(runs), time.monotonic() - started)

    def _take(self, task: AnyTask, claims: Sequence[tuple[UUID, int]]) -> list[Run]:
        try:
            return self._take_once(task, claims)
        except UnavailableError:
            # The server was restarted or a pooler closed us while we were idle: a new connection, at once. A take whose
            # answer was lost may have committed: what it started is given up, or our heartbeat would keep it for ever.
            queue.untake(self._connection(task), claims, self._config.worker_id)
            return self._take_once(task, claims)

    def _take_once(self, task: AnyTask, claims: Sequence[tuple[UUID, int]]) -> list[Run]:
        attempts = queue.take(
            self._connection(task),
            claims,
            worker_id=self._config.worker_id,
            lease_seconds=self._config.lease_seconds,
            # the last of a part starts later than the first
            time_limit=task.time_limit.total_seconds() + self._longest_part,
        )
        return [Run(attempt) for attempt in attempts]

    def _compute(self, task: AnyTask, runs: Sequence[Run]) -> None:
        if task.run_batch is not None:
            self._compute_together(task, runs)
            return
        leave_at = time.monotonic() + self._longest_part
        for position, run in enumerate(runs):
            if position and (self._draining.is_set() or time.monotonic() > leave_at):
                # Slower than was known, or told to stop: what was not begun is for whoever is free.
                run.leave()
            else:
                self._compute_one(task, run)

    def _compute_one(self, task: AnyTask, run: Run) -> None:
        if task.run is None or run.payload is None:
            raise RuntimeError("a run without a handler or a payload")
        run.started = time.monotonic()
        try:
            with self.time_limits.watch(task.time_limit.total_seconds()), _span(task, run):
                outcome = task.run(self._context(task, run), run.payload)
            run.end(outcome)
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            _fail(task, run, error)

    def _compute_together(self, task: AnyTask, runs: Sequence[Run]) -> None:
        try:
            outcomes = self._call_batch(task, runs)
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            # One bad task must not fail its neighbours: each runs again by itself, within the same attempt. Time that
            # is used up is used up for all.
            is_shared = isinstance(error, TimeLimitError) or len(runs) == 1
            for run in runs:
                if is_shared:
                    _fail(task, run, error)
                else:
                    self._compute_together(task, [run])
            return
        for run, outcome in zip(runs, outcomes, strict=True):
            try:
                run.end(outcome)
            except PermanentError as error:
                _fail(task, run, error)

    def _call_batch(self, task: AnyTask, runs: Sequence[Run]) -> Sequence[Outcome]:
        if task.run_batch is None:
            raise RuntimeError("a batch without a handler")
        items = [BatchItem(self._context(task, run), run.payload) for run in runs if run.payload is not None]
        with self.time_limits.watch(task.time_limit.total_seconds()):
            outcomes = task.run_batch(items)
        if len(outcomes) != len(runs):
            raise RuntimeError(f"{task.name} returned {len(outcomes)} outcomes for {len(runs)} tasks")
        return outcomes

    # ------------------------------------------------------------------------------------------------ recording

    def _record(self, task: AnyTask, runs: Sequence[Run]) -> None:
        """Write effects and endings; tries again while the database is away, for as long as the lease may hold."""
        writes = any(apply_of(run) for run in runs)
        step = MAX_SAVEPOINTS if writes else len(runs)
        for i in range(0, len(runs), step):
            part = runs[i : i + step]
            kept = self._persist(task, part)
            for run in part:
                self._progress.forget(run.attempt.task_id)
                self._report(task, run, was_kept=run.attempt.task_id in kept)

    def _persist(self, task: AnyTask, runs: Sequence[Run]) -> set[UUID]:
        backoff = Backoff(base=0.1, maximum=2.0)
        deadline = time.monotonic() + self._config.lease_seconds
        failures = 0
        while True:
            try:
                return self._commit(task, runs)
            except (UnavailableError, UnfinishedError, psycopg.Error) as error:
                if not _is_passing(error):
                    return self._persist_refused(task, runs, error)
            if time.monotonic() > deadline:
                self.given_up.add([(run.attempt.task_id, run.attempt.claim_number) for run in runs])
                return set()
            failures += 1
            time.sleep(backoff.delay(failures))

    def _persist_refused(self, task: AnyTask, runs: Sequence[Run], error: Exception) -> set[UUID]:
        """Go on after the server has refused the common transaction: each alone, and only the culprit pays."""
        if len(runs) > 1:
            return set().union(*(self._persist(task, [run]) for run in runs))
        if isinstance(runs[0].outcome, Retry | Fail):
            raise error  # not even the failure can be stored: the lease will run out
        _fail(task, runs[0], error)
        return self._persist(task, runs)

    def _commit(self, task: AnyTask, runs: Sequence[Run]) -> set[UUID]:
        connection = self._connection(task)
        tenant_id = runs[0].attempt.tenant_id
        with connection.transaction():
            bind_tenant(connection, tenant_id)
            if not any(apply_of(run) for run in runs):
                return self._finish(connection, task, runs)
            held = queue.hold_attempts(connection, [run.attempt for run in runs], self._config.worker_id)
            for run in runs:
                if run.attempt.task_id in held and (apply := apply_of(run)):
                    _apply_in_savepoint(connection, task, run, apply)
            # An apply may have bound another tenant for its own purpose.
            bind_tenant(connection, tenant_id)
            kept = self._finish(connection, task, runs)
            if kept != held:
                raise UnfinishedError("the effects were undone: the task could not be completed with them")
            return kept

    def _finish(self, connection: Connection, task: AnyTask, runs: Sequence[Run]) -> set[UUID]:
        endings: list[queue.Ending] = []
        waits: list[queue.Rescheduling] = []
        records: list[queue.AttemptRecord] = []
        for run in runs:
            ending = ending_of(task, run)
            (endings if isinstance(ending, queue.Ending) else waits).append(ending)  # type: ignore[arg-type]  # paired by the test
            if not isinstance(run.outcome, Done) and not run.is_untouched:
                word = outcome_word(settled(run))
                records.append(queue.AttemptRecord(run.attempt, word, ending.error, run.seconds, run.traceback))
        kept = queue.finish(connection, endings, self._config.worker_id) if endings else set()
        if waits:
            kept |= queue.reschedule(connection, waits, self._config.worker_id)
        if kept_records := [record for record in records if record.attempt.task_id in kept]:
            queue.record_attempts(connection, kept_records, self._config.worker_id)
        return kept

    def _report(self, task: AnyTask, run: Run, *, was_kept: bool) -> None:
        attempt = run.attempt
        if run.is_untouched:
            return
        if not was_kept:
            events.emit(events.AttemptLost(task.name, attempt.task_id, attempt.number))
            return
        outcome = settled(run)
        error = None if isinstance(outcome, Done | Snooze) else outcome.reason
        events.emit(
            events.AttemptEnded(
                task.name, attempt.task_id, outcome_word(outcome), attempt.number, run.seconds, attempt.waited, error,
                attempt.trace_context, run.started,
            )
        )  # fmt: skip

    # ------------------------------------------------------------------------------------------------ connections

    def _context(self, task: AnyTask, run: Run) -> Context:
        return Context(run.attempt, self._resources, self._connection(task), self._progress)

    def _connection(self, task: AnyTask) -> Connection:
        """Return this thread's connection for the task's scope, opened anew if it broke."""
        connection: Connection | None = getattr(self._local, task.scope, None)
        if connection is None or connection.closed or connection.broken:
            url = self._config.url if task.scope == "tenant" else self._config.system_url
            if url is None:
                raise UnavailableError("this worker has no address for the system role")
            connection = connect(url, name=f"worker {task.scope}", pooled=self._config.pooled)
            connection.cursor_factory = GuardedCursor
            self._connections.append(connection)
            setattr(self._local, task.scope, connection)
        return connection


class UnfinishedError(PermanentError):
    """Effects were written and their tasks not completed: the transaction is undone."""


def _is_passing(error: Exception) -> bool:
    """Return whether a later try may succeed: the server is away, or another transaction was in the way."""
    conflicts = (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected)
    return is_unavailable(error) or isinstance(error, conflicts)


def _apply_in_savepoint(connection: Connection, task: AnyTask, run: Run, apply: Apply) -> None:
    """Write one task's effects; a failure undoes them alone and becomes the task's outcome."""
    try:
        with _span(task, run), connection.transaction():
            transaction = Transaction(connection, run.attempt.tenant_id)
            apply(transaction)
            transaction.flush()
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        if connection.closed or connection.broken or (isinstance(error, psycopg.Error) and _is_passing(error)):
            raise
        _fail(task, run, error)


def _fail(task: AnyTask, run: Run, raised: BaseException) -> None:
    """Turn an exception into the attempt's outcome, and say what raised and where."""
    error = raised if isinstance(raised, Exception) else RuntimeError(f"the handler raised {type(raised).__name__}")
    run.fail(task, error.with_traceback(raised.__traceback__))
    attempt, kind = run.attempt, type(error).__name__
    events.emit(events.AttemptRaised(task.name, attempt.task_id, attempt.number, kind, events.raised_at(error)))


def _span(task: AnyTask, run: Run) -> AbstractContextManager[None]:
    """Make the attempt's span the current one of this thread, where tracing is on."""
    attempt = run.attempt
    return traces.attempt_span(task.name, attempt.task_id, attempt.number, attempt.trace_context, run.started)
