"""The task that retains, run to its end by a worker of its own that is killed again and again."""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from db import tasks
from db.connection import connect
from pipelines.enqueue import enqueue_fields
from tests.faults.processes import Member
from tests.faults.rig import Rig
from tests.support.waiting import eventually, pass_time

TASK_TYPE = "retention.enforce"
_LIVE = "SELECT count(*) FROM queue.tasks_live WHERE task_type = %s"
_OPEN = "SELECT policy_name, status FROM ops.retention_runs WHERE ended_at IS NULL AND policy_name = ANY (%s)"
_ENDED = """
SELECT count(DISTINCT policy_name) FROM ops.retention_runs WHERE status = 'completed' AND policy_name = ANY (%s)
"""
# By the tasks' ids: to look for them among millions in history would be a load of its own.
_LOST = "SELECT count(*) FROM queue.attempts WHERE task_id = ANY (%s) AND outcome = 'lost'"
_SAID = """
SELECT status, attempts, snoozes, last_error, progress_message, result FROM queue.outbox_tasks WHERE task_type = %s
ORDER BY id DESC LIMIT 3
"""
_DONE = """
SELECT COALESCE(sum(row_count + CASE WHEN status = 'emptied' THEN row_count ELSE rows_deleted END), 0) FROM ops.archives
WHERE status <> 'writing'
"""
_LOOK = 0.05
# What is left then takes longer than the kills that come late.
_LAST_SHARE = 0.8


@dataclass
class Tally:
    """What was done: `hits` are attempts that a kill ended, `fires` is how often the task was enqueued."""

    kills: int = 0
    hits: int = 0
    fires: int = 0
    seconds: float = 0.0


class Killer:
    """Has policies enforced by one worker, and kills that by its process id at moments drawn from a seed.

    A kill comes some seconds after a share of the `rows` was passed, which counts twice: archived, and deleted.
    """

    def __init__(self, rig: Rig, worker: Member, policies: Sequence[str], rows: int, draw: random.Random) -> None:
        self.tally = Tally()
        self._rig, self._worker, self._policies, self._draw = rig, worker, list(policies), draw
        self._rows = rows
        self._fired: list[UUID] = []

    def enforce(self, kills: int, within: float, seconds: float) -> Tally:
        """Enqueue the task, as its schedule would, until its policies' runs are complete; fails after `seconds`."""
        begun = time.monotonic()
        shares = sorted(self._draw.uniform(0, _LAST_SHARE) for _ in range(kills))
        while not self._is_complete():
            assert time.monotonic() - begun < seconds, f"not within {seconds:g} s: {self._said()}"
            if self._rig.tend() and not self._rig.database.value(_LIVE, (TASK_TYPE,)):
                self._fire()
            elif self.tally.kills < kills and self._share() >= shares[self.tally.kills] and self._is_at_it():
                pass_time(self._draw.uniform(_LOOK, within))
                self._kill()
            else:
                pass_time(_LOOK)
        self.tally.seconds = time.monotonic() - begun
        self.tally.hits = self._lost()
        return self.tally

    def _fire(self) -> None:
        with connect(self._rig.database.url("operator"), name="operator") as operator:
            self._fired.append(enqueue_fields(operator, TASK_TYPE, {"policies": self._policies}))
        self.tally.fires += 1

    def _kill(self) -> None:
        """Kill it if it still is at it, every other time with its children, as when its machine goes down.

        Its lease runs out; then an operator has the next attempt begin at once, which would wait ever longer.
        """
        running = [task_id for task_id, task_type, _ in self._rig.running(self._worker) if task_type == TASK_TYPE]
        if not running:
            return
        lost = self._lost()
        self._worker.kill(with_children=self.tally.kills % 2 == 1)
        self._worker.start()
        self.tally.kills += 1
        eventually(lambda: self._rig.tend() and self._lost() > lost, 60, pause=_LOOK)
        with connect(self._rig.database.url("operator"), name="operator") as operator:
            tasks.retry_now(operator, running[0])

    def _share(self) -> float:
        return int(self._rig.database.value(_DONE)) / (2 * self._rows)

    def _lost(self) -> int:
        return int(self._rig.database.value(_LOST, (self._fired,)))

    def _is_at_it(self) -> bool:
        return any(task_type == TASK_TYPE for _, task_type, _ in self._rig.running(self._worker))

    def _is_complete(self) -> bool:
        ended = self._rig.database.value(_ENDED, (self._policies,))
        return ended == len(self._policies) and not self._open() and not self._rig.database.value(_LIVE, (TASK_TYPE,))

    def _said(self) -> list[object]:
        return [self._open(), *self._rig.database.rows(_SAID, (TASK_TYPE,))]

    def _open(self) -> list[tuple[str, str]]:
        rows: list[tuple[str, str]] = self._rig.database.rows(_OPEN, (self._policies,))
        return rows
