"""Task types that say how many of them run at once, for GREENROOM_TASK_MODULES: one for each kind of limit.

The kernel keeps the count of each type: its handler takes the lowest place that is free, each a file that it locks, and
leaves a byte there. A killed process holds no lock.
"""

import fcntl
import itertools
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

from pipelines.outcomes import Done, Outcome
from pipelines.payload import Payload
from pipelines.task import Task, TaskContext
from tests.faults.tasks import effect

FOLDER = "places"
"""Where the places are, in GREENROOM_HOME."""


class Limited(Payload):
    """Takes a place among those of its type, stays there for a moment, writes its effect."""

    seconds: float = 0.03


class LimitedByQueue(Limited):
    """Has a queue to itself."""

    task_type = "fault.limited_by_queue"


class LimitedByType(Limited):
    """Shares its queue, its tenant and its limit's key, which is none, with others."""

    task_type = "fault.limited_by_type"


class LimitedByKey(Limited):
    """Has a limit's key."""

    task_type = "fault.limited_by_key"


class LimitedByTenant(Limited):
    """Is to be enqueued for a tenant of its own."""

    task_type = "fault.limited_by_tenant"


def places(home: Path, payload: type[Limited]) -> list[int]:
    """Return how often each place of a type was taken, from the first on, and forget it."""
    files = [home / FOLDER / f"{payload.task_type}-{place}" for place in range(1, 100)]
    taken = [file.stat().st_size for file in files if file.exists()]
    for file in files:
        file.unlink(missing_ok=True)
    return taken


def _stay(context: TaskContext, payload: Limited) -> Outcome:
    folder = Path(os.environ["GREENROOM_HOME"]) / FOLDER
    with _alone(folder, payload):
        place = _take_place(folder, payload)
    try:
        time.sleep(payload.seconds)
    finally:
        with _alone(folder, payload):
            place.close()
    return Done(apply=effect(context))


@contextmanager
def _alone(folder: Path, payload: Limited) -> Iterator[None]:
    """Keep others of the type from taking and leaving places: one that is left behind us would not be seen as free."""
    with (folder / payload.task_type).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _take_place(folder: Path, payload: Limited) -> IO[bytes]:
    for number in itertools.count(1):
        place = (folder / f"{payload.task_type}-{number}").open("ab", buffering=0)
        try:
            fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            place.close()
        else:
            place.write(b".")
            return place
    raise AssertionError("numbers have no end")


_ALIKE: dict[str, Any] = {"time_limit": timedelta(minutes=1), "max_attempts": 50}

TASKS: Sequence[Task[Any]] = (
    Task(payload=LimitedByQueue, run=_stay, queue="limited", **_ALIKE),
    Task(payload=LimitedByType, run=_stay, **_ALIKE),
    Task(payload=LimitedByKey, run=_stay, limit_key="provider", **_ALIKE),
    Task(payload=LimitedByTenant, run=_stay, **_ALIKE),
)
