"""Outcomes: the closed set of ways in which an attempt ends.

A handler computes without a transaction and returns an outcome; the effects it wants in Postgres are the outcome's
`apply`, which the worker calls inside the one short transaction that also completes the task. An exception is an
outcome too: the task's retry policy decides on Retry or Fail. `word` is an outcome's public name, in events and in
`queue.attempts`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from pipelines.transaction import Transaction

Apply = Callable[["Transaction"], None]


@dataclass(frozen=True, slots=True)
class Done:
    """The task is done. `result` (at most 1,000,000 characters of JSON) is stored on it; `apply` writes its effects."""

    word: ClassVar[str] = "done"
    result: Any = None
    apply: Apply | None = None


@dataclass(frozen=True, slots=True)
class Retry:
    """The attempt failed; the next starts `after` this long, or as the retry policy says. Counts as an attempt."""

    word: ClassVar[str] = "retry"
    reason: str
    after: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Snooze:
    """Nothing to do yet; look again after `duration`. Costs no attempt, but a task may snooze only so often.

    `reason` is kept with the attempt.
    """

    word: ClassVar[str] = "snooze"
    duration: timedelta
    apply: Apply | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Fail:
    """The task fails now, whatever attempts it has left."""

    word: ClassVar[str] = "fail"
    reason: str


@dataclass(frozen=True, slots=True)
class Cancel:
    """The task is not wanted any more."""

    word: ClassVar[str] = "cancel"
    reason: str
    apply: Apply | None = None


Outcome = Done | Retry | Snooze | Fail | Cancel
