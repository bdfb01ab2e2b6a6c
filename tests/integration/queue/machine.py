"""The model of a task's life, and the random calls that it is compared with (test_machine.py).

Every message and every attempt is kept and used again later, so most calls come late, double or from the wrong worker.
The model is docs/state-machine.md in Python; the oracle compares each row after each step, and at the end drains the
queue: every task has ended, and a done one has had its effect once.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
)
from psycopg import sql

from db import leases, queue, tasks
from db.connection import Connection
from pipelines.enqueue import enqueue
from tests.integration.queue.model import Model
from tests.support.engine import Line
from tests.support.tasks import Noop

_MAX_ATTEMPTS = 3
_LEASE, _LIMIT = 300.0, 600.0
_TASKS = 4
_rarely = st.sampled_from([False, False, False, True])
_ROWS = """
    SELECT id, status, attempts, snoozes, claim_number, worker_id, claimed_until IS NOT NULL AND status = 'pending'
    FROM queue.outbox_tasks
"""


@dataclass(frozen=True)
class Hands:
    """Whoever calls the stores: a line with its relay and worker, a producer, an operator, and the owner who looks."""

    line: Line
    producer: Connection
    operator: Connection
    owner: Connection

    @classmethod
    def of(cls, line: Line) -> "Hands":
        """Connect them."""
        return cls(line, *(line.database.connect(role) for role in ("producer", "operator", "owner")))


class Machine(RuleBasedStateMachine):
    """Calls of the stores in any order, by two workers, one relay and an operator."""

    made = Bundle("made")
    messages = Bundle("messages")
    attempts = Bundle("attempts")

    def __init__(self, hands: Hands) -> None:
        super().__init__()
        self.line, self.producer, self.operator = hands.line, hands.producer, hands.operator
        self.owner = hands.owner
        self.workers = (self.line.process.id, uuid4())
        self.tasks: dict[UUID, Model] = {}
        self.is_paused = False

    @initialize(target=made)
    def begin(self) -> Any:
        """Forget the run before, and begin with some tasks."""
        for table in ("queue.tasks_live", "queue.tasks_history", "queue.attempts", "queue.queues", "public.effects"):
            self.owner.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(*table.split("."))))
        return multiple(*(self._enqueue(None) for _ in range(_TASKS)))

    # -------------------------------------------------------------------------------------------- producer, relay

    @rule(target=made, key=st.sampled_from([None, None, "a", "b"]))
    def enqueue(self, key: str | None) -> UUID:
        """A live task of the key stands for a second one."""
        return self._enqueue(key)

    def _enqueue(self, key: str | None) -> UUID:
        options: Any = {} if key is None else {"unique_key": key}
        task_id = enqueue(self.producer, Noop(), max_attempts=_MAX_ATTEMPTS, **options)
        holder = self._holder(key)
        if holder is None:
            assert task_id not in self.tasks
            self.tasks[task_id] = Model(key)
        else:
            assert task_id == holder
        return task_id

    @rule(target=messages, seconds=st.sampled_from([0.0, 30.0]))
    def claim(self, seconds: float) -> Any:
        """Every task that is due is claimed, and nothing else."""
        found = self.line.claim(claim_seconds=seconds)
        for claim in found:
            task = self.tasks[claim.task_id]
            assert (task.status, task.is_claimed, self.is_paused) == ("pending", False, False)
            task.claim_number += 1
            task.is_claimed, task.is_deferred, task.is_over = True, False, seconds == 0.0
            assert claim.claim_number == task.claim_number
        if not self.is_paused:
            left = [t for t in self.tasks.values() if t.status == "pending" and not t.is_claimed and not t.is_deferred]
            assert left == []
        return multiple(*found)

    @rule(target=attempts, who=st.integers(0, 1))
    def start(self, who: int) -> Any:
        """Claim and take whatever is due, as most of the time it goes."""
        claims = self.claim(30.0).values
        return multiple(*(held for claim in claims for held in self.take(claim, who).values))

    @rule(target=attempts, who=st.integers(0, 1))
    def start_with_the_claim(self, who: int) -> Any:
        """A claim for the worker in the relay's own process starts the attempts as well."""
        queue.promote(self.line.relay, 1000)
        starter = queue.Starter(self.workers[who], _LEASE, [_LIMIT])
        wanted = queue.Capacity("default", 1e9, [Noop.task_type], [1], [1], starter)
        found = queue.claim_first(self.line.relay, wanted, lanes=10, each=1000, claim_seconds=30.0)
        started = [claim.attempt for claim in found if claim.attempt is not None]
        assert len(started) == len(found)
        for attempt in started:
            task = self.tasks[attempt.task_id]
            assert (task.status, task.is_claimed, self.is_paused) == ("pending", False, False)
            task.claim_number += 1
            task.start(self.workers[who])
            task.is_deferred = False
            assert (attempt.claim_number, attempt.number) == (task.claim_number, task.attempts)
        return multiple(*((attempt, who) for attempt in started))

    @rule(message=messages)
    def give_back(self, message: queue.Claim) -> None:
        """A claim that is still the relay's waits again."""
        is_ours = self._is_waiting(message)
        given = queue.give_back(self.line.relay, [(message.task_id, message.claim_number)])
        assert given == is_ours
        if is_ours:
            self.tasks[message.task_id].is_claimed = False

    @rule()
    def reclaim(self) -> None:
        """Claims that are over wait again."""
        over = [t for t in self.tasks.values() if t.status == "pending" and t.is_claimed and t.is_over]
        assert queue.reclaim(self.line.relay, 1000) == len(over)
        for task in over:
            task.is_claimed = task.is_over = False

    @rule()
    def rescue(self) -> None:
        """Leases that are over, and no others, cost an attempt; the last one fails the task."""
        over = [task for task in self.tasks.values() if task.status == "in_progress" and task.is_over]
        last = [task for task in over if task.attempts >= _MAX_ATTEMPTS or task.is_unwanted]
        cancelled = [task for task in over if task.is_unwanted]
        counts = len(over) - len(last), len(last) - len(cancelled), len(cancelled)
        assert queue.rescue(self.line.relay, 1000) == counts
        for task in over:
            task.is_deferred = task.attempts > 1
            task.wait("lost")
            if task.is_live and task.attempts >= _MAX_ATTEMPTS:
                task.end("failed")

    # -------------------------------------------------------------------------------------------- workers

    @rule(target=attempts, message=messages, who=st.integers(0, 1))
    def take(self, message: queue.Claim, who: int) -> Any:
        """The claim that is the last one starts an attempt, once."""
        found = leases.take(
            self.line.worker,
            [(message.task_id, message.claim_number)],
            worker_id=self.workers[who],
            lease_seconds=_LEASE,
            time_limit=_LIMIT,
        )
        assert len(found) == self._is_waiting(message)
        for attempt in found:
            task = self.tasks[attempt.task_id]
            task.start(self.workers[who])
            assert attempt.number == task.attempts
        return multiple(*((attempt, who) for attempt in found))

    @rule(held=attempts, status=st.sampled_from(["done", "done", "failed", "cancelled"]), is_impostor=_rarely)
    def finish(self, held: tuple[queue.Attempt, int], status: str, is_impostor: bool) -> None:
        """Effects are written, and the task ends, with the attempt that is still its worker's."""
        attempt, who = held
        worker_id = self.workers[who ^ is_impostor]
        is_ours = self._runs(attempt, worker_id)
        ending = leases.Ending(attempt, status, error=None if status == "done" else "no use")
        with self.line.worker.transaction():
            kept = leases.finish(self.line.worker, [ending], worker_id)
            if kept and status == "done":
                effect = "INSERT INTO public.effects (n, note) VALUES (0, %s)"
                self.line.worker.execute(effect, (str(attempt.task_id),))
        assert kept == ({attempt.task_id} if is_ours else set())
        if is_ours:
            self.tasks[attempt.task_id].end(status)

    @rule(held=attempts, is_snooze=st.booleans(), is_late=_rarely, is_impostor=_rarely)
    def reschedule(self, held: tuple[queue.Attempt, int], is_snooze: bool, is_late: bool, is_impostor: bool) -> None:
        """A retry keeps its attempt counted, a snooze does not."""
        attempt, who = held
        worker_id = self.workers[who ^ is_impostor]
        is_ours = self._runs(attempt, worker_id)
        waiting = leases.Rescheduling(attempt, 3600.0 if is_late else 0.0, "again", is_snooze)
        with self.line.worker.transaction():
            kept = leases.reschedule(self.line.worker, [waiting], worker_id)
            leases.end_cancelled(self.line.worker)
        assert kept == ({attempt.task_id} if is_ours else set())
        if is_ours:
            task = self.tasks[attempt.task_id]
            task.snoozes += is_snooze
            task.is_deferred = is_late
            task.wait(counts=not is_snooze)

    @rule(held=attempts)
    def untake(self, held: tuple[queue.Attempt, int]) -> None:
        """What was not begun costs nothing."""
        attempt, who = held
        is_ours = self._runs(attempt, self.workers[who])
        claims = [(attempt.task_id, attempt.claim_number)]
        assert leases.untake(self.line.worker, claims, self.workers[who]) == is_ours
        if is_ours:
            self.tasks[attempt.task_id].wait(counts=False)

    @rule(who=st.integers(0, 1))
    def look_what_runs(self, who: int) -> None:
        """What a worker holds is what it started and has not ended, but for leases that are over."""
        mine = ("in_progress", self.workers[who], False)
        held = {(i, t.claim_number) for i, t in self.tasks.items() if (t.status, t.worker_id, t.is_over) == mine}
        assert set(leases.running(self.line.relay, self.workers[who])) == held

    @rule(held=attempts)
    def give_up(self, held: tuple[queue.Attempt, int]) -> None:
        """The lease of an attempt that its worker has given up is over."""
        attempt, who = held
        is_ours = self._runs(attempt, self.workers[who])
        claims = [(attempt.task_id, attempt.claim_number)]
        assert leases.end_leases(self.line.worker, claims, self.workers[who]) == is_ours
        if is_ours:
            task = self.tasks[attempt.task_id]
            task.is_over = task.is_given_up = True

    @rule(held=attempts)
    def report(self, held: tuple[queue.Attempt, int]) -> None:
        """Progress is told of what runs."""
        attempt, _ = held
        task = self.tasks[attempt.task_id]
        is_ours = (task.status, task.claim_number) == ("in_progress", attempt.claim_number)
        assert leases.report_progress(self.line.worker, attempt, 0.5, None) == is_ours

    @rule(who=st.integers(0, 1))
    def renew(self, who: int) -> None:
        """A lease that is over is not renewed."""
        valid = [task for task in self._running(who) if not task.is_over]
        assert leases.renew(self.line.worker, self.workers[who], _LEASE) == len(valid)

    @rule(who=st.integers(0, 1))
    def expire(self, who: int) -> None:
        """A worker that is gone holds no lease."""
        running = self._running(who)
        assert leases.expire_leases(self.line.worker, self.workers[who]) == len(running)
        for task in running:
            task.is_over = True

    @rule(who=st.integers(0, 1))
    def hand_back(self, who: int) -> None:
        """What a worker that stops could not end waits again, at no cost; what it gave up is left to the rescuer."""
        running = [task for task in self._running(who) if not task.is_given_up]
        assert leases.hand_back(self.line.worker, self.workers[who]) == len(running)
        for task in running:
            task.wait("cancel" if task.is_unwanted else "handed_back", counts=task.is_unwanted)

    # -------------------------------------------------------------------------------------------- operator

    @rule(task_id=made)
    def cancel(self, task_id: UUID) -> None:
        """What waits ends; what runs is asked to."""
        task = self.tasks[task_id]
        answers = {"pending": "cancelled", "in_progress": "requested"}
        assert tasks.cancel(self.operator, task_id, "not wanted") == answers.get(task.status)
        if task.status == "pending":
            task.end("cancelled")
        task.is_unwanted = task.status == "in_progress"

    @rule(task_id=made)
    def replay(self, task_id: UUID) -> None:
        """What failed or was cancelled lives again, unless another task does its work by now."""
        task = self.tasks[task_id]
        assert set(tasks.replay(self.operator, self._with("done"))) == set()
        may = task.status in {"failed", "cancelled"} and self._holder(task.key) is None
        assert tasks.replay(self.operator, [task_id]) == ([task_id] if may else [])
        if may:
            task.wait()
            task.attempts, task.snoozes, task.is_claimed, task.is_deferred = 0, 0, False, False

    @rule(task_id=made)
    def retry_now(self, task_id: UUID) -> None:
        """What waits is due."""
        task = self.tasks[task_id]
        assert tasks.retry_now(self.operator, task_id) == (task.status == "pending")
        if task.status == "pending":
            task.is_deferred = False

    @rule(is_paused=_rarely)
    def steer(self, is_paused: bool) -> None:
        """Nothing is claimed while the queue is paused."""
        (tasks.pause if is_paused else tasks.resume)(self.operator, "default")
        self.is_paused = is_paused

    # -------------------------------------------------------------------------------------------- the oracle

    @invariant()
    def every_row_is_as_the_model_says(self) -> None:
        """Statuses, counters, claims and owners of all tasks (I1, I3)."""
        rows = {row[0]: row[1:] for row in self.owner.execute(_ROWS)}
        for task_id, row in rows.items():
            task = self.tasks[task_id]
            worker_id = task.worker_id if task.status == "in_progress" else row[4]
            assert row == (
                task.status, task.attempts, task.snoozes, task.claim_number, worker_id, task.is_claimed
            )  # fmt: skip
        assert rows.keys() == self.tasks.keys()

    def teardown(self) -> None:
        """Drain the queue: all tasks end, each done one with its one effect, each attempt recorded (I1, I2)."""
        self.steer(is_paused=False)
        for who in (0, 1):
            self.expire(who)
        self.rescue()
        for task_id, task in self.tasks.items():
            if task.status == "pending":
                self.retry_now(task_id)
                self.owner.execute("UPDATE queue.tasks_live SET claimed_until = NULL WHERE id = %s", (task_id,))
                task.is_claimed = False
        self._run_all()
        assert [task for task in self.tasks.values() if task.is_live] == []
        done = {str(task_id): 1 for task_id, task in self.tasks.items() if task.status == "done"}
        assert dict(self.owner.execute("SELECT note, count(*)::integer FROM effects GROUP BY 1")) == done
        self._check_attempts()

    def _run_all(self) -> None:
        claims = self.line.claim()
        for claim in claims:
            task = self.tasks[claim.task_id]
            task.claim_number += 1
            task.is_claimed = True
            for held in self.take(claim, 0).values:
                self.finish(held, "done", is_impostor=False)
        self.every_row_is_as_the_model_says()

    def _check_attempts(self) -> None:
        found: Counter[tuple[UUID, str]] = Counter()
        for task_id, outcome in self.owner.execute("SELECT task_id, outcome FROM queue.attempts"):
            found[task_id, outcome] += 1
        wanted = {(task_id, how): n for task_id, task in self.tasks.items() for how, n in task.recorded.items()}
        assert found == wanted

    def _holder(self, key: str | None) -> UUID | None:
        return next((i for i, task in self.tasks.items() if key and task.key == key and task.is_live), None)

    def _with(self, status: str) -> list[UUID]:
        return [task_id for task_id, task in self.tasks.items() if task.status == status]

    def _is_waiting(self, message: queue.Claim) -> bool:
        task = self.tasks[message.task_id]
        return task.status == "pending" and task.is_claimed and task.claim_number == message.claim_number

    def _runs(self, attempt: queue.Attempt, worker_id: UUID) -> bool:
        task = self.tasks[attempt.task_id]
        return (task.status, task.claim_number, task.worker_id) == ("in_progress", attempt.claim_number, worker_id)

    def _running(self, who: int) -> list[Model]:
        worker_id = self.workers[who]
        return [t for t in self.tasks.values() if (t.status, t.worker_id) == ("in_progress", worker_id)]
