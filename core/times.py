"""When something recurs: the words that a schedule in code, its row and its trigger have in common."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

Gap = Literal["shift", "skip"]
"""A wall time that daylight saving leaves out comes later by what was left out, or not at all."""
Fold = Literal["first", "second", "both"]
"""A wall time that comes twice is meant at its first, its second, or both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Exactly one of `cron`, `every` and `at`, within bounds that are both inclusive. Datetimes are aware.

    `cron` is read on the wall clock of the IANA zone `zone`, under the policies `gap` and `fold`. `every` counts in UTC
    from `starts_at`, which is its first fire, or else from the schedule's making.
    """

    cron: str | None = None
    every: timedelta | None = None
    at: datetime | None = None
    zone: str = "UTC"
    gap: Gap = "shift"
    fold: Fold = "first"
    starts_at: datetime | None = None
    ends_at: datetime | None = None
