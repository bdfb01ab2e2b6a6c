"""The task that retains, run to its end by a worker of its own that is killed again and again."""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from db import tasks
from db.connection import Connection, connect
from pipelines.enqueue import enqueue_fields
from tests.faults.processes import Member
from tests.faults.rig import Rig
from tests.support.waiting import eventually, pass_time

TASK_TYPE = "retention.enforce"
# One statement over one connection, by keys: what watches is no load of its own.
_LOOK = """
SELECT (SELECT id FROM queue.tasks_live WHERE id = ANY (%(fired)s)),
    (SELECT id FROM queue.tasks_live WHERE id = ANY (%(fired)s) AND status = 'in_progress'),
    (SELECT count(*) FROM queue.attempts WHERE task_id = ANY (%(fired)s) AND outcome = 'lost'),
    (SELECT count(DISTINCT policy_name) FROM ops.retention_runs WHERE policy_name = ANY (%(policies)s)
        AND status = 'completed'),
    (SELECT count(*) FROM ops.retention_runs WHERE policy_name = ANY (%(policies)s) AND ended_at IS NULL),
    (SELECT COALESCE(sum(row_count + CASE WHEN status = 'emptied' THEN row_count ELSE rows_deleted END), 0)
        FROM ops.archives WHERE status <> 'writing')
"""
_SAID = """
SELECT status, attempts, snoozes, last_error, progress_message, result FROM queue.outbox_tasks WHERE id = ANY (%s)
ORDER BY id DESC LIMIT 3
"""
_PAUSE = 0.2
# What is left then takes longer than the kills that come late.
_LAST_SHARE = 0.8


class _Seen(NamedTuple):
    """The task that lives, the one that runs, attempts lost, runs completed and open, rows archived and deleted."""

    live: UUID | None
    running: UUID | None
    lost: int
    completed: int
    left: int
    rows: int


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
        with connect(self._rig.database.url("owner"), name="killer") as owner:
            while not self._is_complete(seen := self._look(owner)):
                assert time.monotonic() - begun < seconds, f"not within {seconds:g} s: {self._said(owner)}"
                if self._rig.tend() and seen.live is None:
                    self._fire()
                elif seen.running and shares and seen.rows >= shares[0] * 2 * self._rows:
                    pass_time(self._draw.uniform(_PAUSE, within))
                    shares = shares[self._kill(owner) :]
                else:
                    pass_time(_PAUSE)
            self.tally.seconds = time.monotonic() - begun
            self.tally.hits = self._look(owner).lost
        return self.tally

    def _fire(self) -> None:
        with connect(self._rig.database.url("operator"), name="operator") as operator:
            self._fired.append(enqueue_fields(operator, TASK_TYPE, {"policies": self._policies}))
        self.tally.fires += 1

    def _kill(self, owner: Connection) -> bool:
        """Kill it if it still is at it, every other time with its children, as when its machine goes down.

        Its lease runs out; then an operator has the next attempt begin at once, which would wait ever longer.
        """
        seen = self._look(owner)
        if seen.running is None:
            return False
        self._worker.kill(with_children=self.tally.kills % 2 == 1)
        self._worker.start()
        self.tally.kills += 1
        eventually(lambda: self._rig.tend() and self._look(owner).lost > seen.lost, 60, pause=_PAUSE)
        with connect(self._rig.database.url("operator"), name="operator") as operator:
            tasks.retry_now(operator, seen.running)
        return True

    def _look(self, owner: Connection) -> _Seen:
        [row] = owner.execute(_LOOK, {"fired": self._fired, "policies": self._policies}).fetchall()
        return _Seen(*row)

    def _is_complete(self, seen: _Seen) -> bool:
        return seen.completed == len(self._policies) and seen.left == 0 and seen.live is None

    def _said(self, owner: Connection) -> list[tuple[object, ...]]:
        return owner.execute(_SAID, (self._fired,)).fetchall()
