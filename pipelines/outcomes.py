"""Outcomes: the closed set of ways in which an attempt ends.

A handler computes without a transaction and returns an outcome; the effects it wants in Postgres are the outcome's
`apply`, which the worker calls inside the one short transaction that also completes the task. An exception is an
outcome too: the task's retry policy decides on Retry or Fail.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.transaction import Transaction

Apply = Callable[["Transaction"], None]


@dataclass(frozen=True, slots=True)
class Done:
    """The task is done. `result` (JSON, at most 1 MiB) is stored on it; `apply` writes its effects."""

    result: Any = None
    apply: Apply | None = None


@dataclass(frozen=True, slots=True)
class Retry:
    """The attempt failed; the next starts `after` this long, or as the retry policy says. Counts as an attempt."""

    reason: str
    after: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Snooze:
    """Nothing to do yet; look again after `duration`. Costs no attempt, but a task may snooze only so often."""

    duration: timedelta
    apply: Apply | None = None


@dataclass(frozen=True, slots=True)
class Fail:
    """The task fails now, whatever attempts it has left."""

    reason: str


@dataclass(frozen=True, slots=True)
class Cancel:
    """The task is not wanted any more."""

    reason: str
    apply: Apply | None = None


Outcome = Done | Retry | Snooze | Fail | Cancel
