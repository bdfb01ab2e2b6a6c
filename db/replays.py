"""The store of replays by filter: what one would replay, and where one stands. Typed calls over `sql/replays.sql`.

Invariant: a replay's standing is written in the transaction that revives the tasks which it counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from db import tasks
from db.connection import Connection
from db.queries import Queries, transaction
from db.tasks import TaskFilter

QUERIES = Queries("replays")
MOST = 1_000_000
"""The most tasks that one replay looks at."""


@dataclass(frozen=True, slots=True)
class Group:
    """The tasks of one type and queue that a replay would look at."""

    task_type: str
    queue: str
    count: int


class Ended(NamedTuple):
    """A task in a replay's way; `error` is its beginning."""

    id: UUID
    task_type: str
    error: str | None
    completed_at: datetime


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a replay stands: what was revived, what was not (its unique key is taken), and the task that came last."""

    asked_at: datetime
    replayed: int = 0
    skipped: int = 0
    after_at: datetime | None = None
    after_id: UUID | None = None

    @property
    def seen(self) -> int:
        """How many tasks it has come to."""
        return self.replayed + self.skipped


def preview(connection: Connection, wanted: TaskFilter, limit: int = MOST) -> list[Group]:
    """Return how many tasks a replay would look at, by type and queue, the largest first; the oldest `limit` count."""
    with transaction(connection):
        QUERIES.run(connection, "plan_for_values")
        return [Group(*row) for row in QUERIES.run(connection, "preview", wanted.values() | {"limit": limit})]


def following(connection: Connection, wanted: TaskFilter, limit: int, after: Standing | None = None) -> list[Ended]:
    """Return the next tasks that a replay comes to, oldest first. Expects a transaction, whose plans it changes."""
    place = (None, None) if after is None else (after.after_at, after.after_id)
    values = wanted.values() | {"limit": limit, "after_at": place[0], "after_id": place[1]}
    QUERIES.run(connection, "plan_for_values")
    return [Ended._make(row) for row in QUERIES.run(connection, "following", values)]


def standing(connection: Connection, replay_id: UUID) -> Standing:
    """Return where a replay stands that lives."""
    [row] = QUERIES.run(connection, "standing", {"id": replay_id})
    return Standing(*row)


def replay_slice(
    connection: Connection, replay_id: UUID, before: Standing, slice_: Sequence[Ended], until: datetime
) -> None:
    """Let a slice's tasks live again and keep where the replay stands then; expects the replay's own transaction.

    One that was replayed since by somebody else, or whose unique key a live task has, is skipped.
    """
    revived = tasks.replay(connection, [each.id for each in slice_], until=until, replay_id=replay_id)
    values = {
        "id": replay_id,
        "replayed": before.replayed + len(revived),
        "skipped": before.skipped + len(slice_) - len(revived),
        "after_at": slice_[-1].completed_at,
        "after_id": slice_[-1].id,
    }
    QUERIES.run(connection, "note", values)
