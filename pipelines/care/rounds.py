"""Looking after one thing after another outside of transactions: what is busy is tried again, what fails is named.

Where a task stands is noted on its own row, minute by minute, and each time it looks anew at what there is to do: a
statement that a kill broke off is repeated, one that had ended is not missed.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from typing import Any, TypeVar

from db import maintenance, standings
from db.connection import Connection
from db.maintenance import Ended
from pipelines.outcomes import Done, Fail, Outcome, Snooze
from pipelines.payload import Payload
from pipelines.registry import AnyTask
from pipelines.task import UNCOUNTED, Task, TaskContext
from pipelines.transaction import Transaction

# Of an attempt, and so of its longest statement: a table of terabytes, vacuumed without haste.
_TIME_LIMIT = timedelta(hours=12)
_SECONDS = 60.0
_ROUNDS, _PAUSE = 6, timedelta(minutes=5)
# Names in a result or an error, which have their lengths.
_NAMED = 20
# What is busy or refused stands on the task's row, which has its size: where so much is, a person has to look.
_MOST_WRONG = 100


@dataclass(frozen=True, slots=True)
class _Standing:
    """Where a task stands: tried, by name, up to `after`; what was busy and what was refused, each with its reason.

    `again` is what was busy in the round before, and all that this one is for; None in the first. `done` counts,
    `freed` are bytes, `rounds` counts how often what was busy has been tried again.
    """

    after: str = ""
    again: list[str] | None = None
    done: int = 0
    freed: int = 0
    rounds: int = 0
    busy: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def wrong(self) -> dict[str, str]:
        """What was not done, with its reason."""
        return self.refused | self.busy

    def left(self, chosen: Sequence[str]) -> list[str]:
        """Return what of `chosen` this round has not tried, by name."""
        return sorted(name for name in chosen if name > self.after and (self.again is None or name in self.again))

    def behind(self, name: str, ended: Ended) -> "_Standing":
        """Return where it stands once the next that was left has been tried."""
        rest = replace(self, after=name)
        match ended.outcome:
            case "done":
                return replace(rest, done=self.done + 1, freed=self.freed + ended.freed)
            case "gone":
                return rest
            case "busy":
                return replace(rest, busy=self.busy | {name: ended.reason})
            case "refused":
                return replace(rest, refused=self.refused | {name: ended.reason})


P = TypeVar("P", bound=Payload)


def care_task(
    payload: type[P], run: Callable[[TaskContext, P], Outcome], time_limit: timedelta = _TIME_LIMIT
) -> AnyTask:
    """Return the definition of a task type that looks after one thing after another, outside of a transaction."""
    return Task(
        payload=payload,
        run=run,
        scope="system",
        outside=True,
        batch_size=1,
        time_limit=time_limit,
        max_snoozes=UNCOUNTED,
    )


def work_off(
    context: TaskContext,
    choose: Callable[[Connection], list[str]],
    look_after: Callable[[Connection, str], Ended],
    *,
    advice: str,
) -> Outcome:
    """Look after what `choose` names, for a minute and to the end of a statement; snoozes until nothing is left.

    Fails, when all others are done, where something was refused, or was busy for half an hour; `advice` says what to do
    about that. `choose` is asked in each attempt: what it names no more is done, or gone.
    """
    with context.read() as transaction:
        noted = standings.read(transaction.connection, context.task_id, "care")
    with context.outside() as outward, maintenance.session(outward, _TIME_LIMIT.total_seconds()) as connection:
        maintenance.allow(connection)
        chosen = choose(connection)
        now = _Standing(**noted)
        deadline = time.monotonic() + _SECONDS
        left = now.left(chosen)
        while left and len(now.wrong) < _MOST_WRONG and time.monotonic() <= deadline:
            context.progress(now.done / (now.done + len(left)), left[0])
            now = now.behind(left[0], look_after(connection, left[0]))
            left = left[1:]
    return _outcome(context, now, bool(left), advice)


def _outcome(context: TaskContext, now: _Standing, is_more: bool, advice: str) -> Outcome:
    is_hopeless = len(now.wrong) >= _MOST_WRONG
    if is_more and not is_hopeless:
        return Snooze(timedelta(0), _noting(context, now))
    if now.busy and now.rounds < _ROUNDS and not is_hopeless:
        following = replace(now, after="", again=sorted(now.busy), busy={}, rounds=now.rounds + 1)
        return Snooze(_PAUSE, _noting(context, following), reason=f"in use: {_listed(now.busy)}")
    if now.wrong:
        return Fail(f"{now.done} done, {len(now.wrong)} not: {_listed(now.wrong)}; {advice}")
    return Done({"done": now.done, "bytes_freed": now.freed})


def _noting(context: TaskContext, now: _Standing) -> Callable[[Transaction], Any]:
    return lambda applying: standings.note(applying.connection, context.task_id, "care", asdict(now))


def _listed(reasons: dict[str, str]) -> str:
    told = [f"{name} ({reason})" for name, reason in sorted(reasons.items())]
    more = [f"{len(told) - _NAMED} more"] if len(told) > _NAMED else []
    return ", ".join([*told[:_NAMED], *more])
