"""Writes what came of attempts: effects and endings, in one transaction that the claim number guards (I2)."""

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING
from uuid import UUID

import psycopg

from core import events
from core.backoff import Backoff
from core.errors import PermanentError, UnavailableError
from db import leases, limits
from db.connection import Connection, bind_tenant, patient
from db.queries import is_unavailable
from pipelines.outcomes import Apply, Done, Fail, Retry, Snooze
from pipelines.registry import AnyTask
from pipelines.transaction import Transaction
from workers.attempts import Run, attempt_span, fail
from workers.connections import Connections
from workers.endings import apply_of, ending_of, final, settled
from workers.givenup import GivenUp

if TYPE_CHECKING:
    from pipelines.keyring import KeyRing


class Recorder:
    """Records the outcomes of a worker's attempts; called by the threads that computed them."""

    def __init__(
        self,
        worker_id: UUID,
        lease_seconds: float,
        connections: Connections,
        given_up: GivenUp,
        keyring: "KeyRing | None" = None,
    ) -> None:
        self._worker_id = worker_id
        self._lease_seconds = lease_seconds
        self._connections = connections
        self._given_up = given_up
        self._keyring = keyring

    def record(self, task: AnyTask, runs: Sequence[Run]) -> None:
        """Write effects and endings, and report them; while the database is away, try as long as a lease may hold."""
        kept = self._persist(task, runs)
        for run in runs:
            _report(task, run, was_kept=run.attempt.task_id in kept)

    def _persist(self, task: AnyTask, runs: Sequence[Run]) -> set[UUID]:
        backoff = Backoff(base=0.1, maximum=2.0)
        deadline = time.monotonic() + self._lease_seconds
        failures = 0
        while True:
            try:
                return self._commit(task, runs)
            except ApplyError as refused:
                return self._persist_refused(task, runs, refused.error)
            except (UnavailableError, psycopg.Error) as error:
                if not _is_passing(error):
                    return self._persist_refused(task, runs, error)
            if time.monotonic() > deadline:
                self._given_up.add([run.claim for run in runs])
                return set()
            failures += 1
            time.sleep(backoff.delay(failures))

    def _persist_refused(self, task: AnyTask, runs: Sequence[Run], error: BaseException) -> set[UUID]:
        """Go on after the common transaction has failed: by halves, until the culprit is alone and pays alone."""
        if len(runs) > 1:
            middle = len(runs) // 2
            return self._persist(task, runs[:middle]) | self._persist(task, runs[middle:])
        if isinstance(runs[0].outcome, Retry | Fail):
            raise error  # not even the failure can be stored: the lease will run out
        fail(task, runs[0], _limit_exceeded(error) or error)
        return self._persist(task, runs)

    def _commit(self, task: AnyTask, runs: Sequence[Run]) -> set[UUID]:
        for run in runs:
            run.outcome = final(task, run)
        connection = self._connections.of(task.scope)
        has_effects = any([apply_of(run) is not None for run in runs])
        if not has_effects and all([isinstance(run.outcome, Done) and run.log is None for run in runs]):
            return self._end(connection, task, runs)  # one statement: a transaction of its own
        with patient(connection), connection.pipeline(), connection.transaction():
            return self._commit_together(connection, task, runs)

    def _commit_together(self, connection: Connection, task: AnyTask, runs: Sequence[Run]) -> set[UUID]:
        """Write the endings of all, then the effects of those that were still ours, and what else is kept of them.

        The endings come first: who holds their rows holds the right to write. Only what is asked for is waited for, so
        an error may show later than where it happened: that a transaction failed is certain, and not whose doing.
        """
        tenant_id = runs[0].attempt.tenant_id
        bind_tenant(connection, tenant_id)
        kept = self._end(connection, task, runs)
        ours = [run for run in runs if run.attempt.task_id in kept]
        for run in ours:
            if apply := apply_of(run):
                _apply(Transaction(connection, tenant_id, self._keyring), task, run, apply)
        # An apply may have bound another tenant for its own purpose.
        bind_tenant(connection, tenant_id)
        if any([isinstance(settled(run), Retry | Snooze) for run in ours]):
            leases.end_cancelled(connection)
        if records := [_record_of(task, run) for run in ours if run.log or not isinstance(run.outcome, Done)]:
            leases.record_attempts(connection, records, self._worker_id)
        for key, pause in _pauses(ours):
            limits.pause_key(connection, key, pause)
        return kept

    def _end(self, connection: Connection, task: AnyTask, runs: Sequence[Run]) -> set[UUID]:
        """End tasks, or let them wait again; return the ids of those that were still ours."""
        decided = [ending_of(task, run) for run in runs]
        endings = [each for each in decided if isinstance(each, leases.Ending)]
        waits = [each for each in decided if isinstance(each, leases.Rescheduling)]
        kept = leases.finish(connection, endings, self._worker_id) if endings else set()
        return kept | leases.reschedule(connection, waits, self._worker_id) if waits else kept


def _record_of(task: AnyTask, run: Run) -> leases.AttemptRecord:
    log = None if run.log is None else run.log.text()
    error = ending_of(task, run).error
    return leases.AttemptRecord(run.attempt, settled(run).word, error, run.seconds, run.traceback, log)


def _pauses(runs: Iterable[Run]) -> list[tuple[str, float]]:
    """Return the keys whose providers refused, each with its longest pause in seconds, in the order of their locks."""
    refusals = [run.refusal for run in runs if run.refusal is not None]
    longest: dict[str, float] = {}
    for refusal in refusals:
        longest[refusal.key] = max(refusal.pause.total_seconds(), longest.get(refusal.key, 0.0))
    return sorted(longest.items())


class ApplyError(PermanentError):
    """What an apply raised; the transaction is undone."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        super().__init__(type(error).__name__)


def _apply(transaction: Transaction, task: AnyTask, run: Run, apply: Apply) -> None:
    """Write one task's effects; raises ApplyError, and what says that the database is away as it is."""
    try:
        with attempt_span(task, run):
            apply(transaction)
            transaction.flush()
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        connection = transaction.connection
        if connection.closed or connection.broken or (isinstance(error, psycopg.Error) and _is_passing(error)):
            raise
        raise ApplyError(error) from error


def _report(task: AnyTask, run: Run, *, was_kept: bool) -> None:
    attempt = run.attempt
    if not was_kept:
        events.emit(events.AttemptLost(task.name, attempt.task_id, attempt.number))
        return
    events.emit(
        events.AttemptEnded(
            task.name, attempt.task_id, settled(run).word, attempt.number, run.seconds, attempt.waited,
            attempt.trace_context, run.started,
        )
    )  # fmt: skip
    if (refusal := run.refusal) is not None:
        events.emit(events.KeyPaused(refusal.key, refusal.pause.total_seconds(), task.name, attempt.task_id))


def _is_passing(error: BaseException) -> bool:
    """Return whether a later try may succeed: the server is away, or another transaction was in the way."""
    conflicts = (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected)
    return is_unavailable(error) or isinstance(error, conflicts)


def _limit_exceeded(error: BaseException) -> PermanentError | None:
    """Return what to say of a result that the task's row has no room for: another attempt would compute it again."""
    if isinstance(error, psycopg.errors.CheckViolation) and error.diag.schema_name == "queue":
        return PermanentError(
            f"the result exceeds a limit of the task's row ({error.diag.constraint_name}): store it elsewhere"
        )
    return None
