"""The store of dependencies and batches: typed calls over `sql/dependencies.sql`. docs/dependencies.md explains them.

`settle` is what a relay does again and again; the rest reads, or belongs to a replay.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from db.connection import Connection
from db.queries import Queries, Row

QUERIES = Queries("dependencies")
FIRST_ID = UUID(int=0)
"""An id below all."""


class Settled(NamedTuple):
    """What one round did: rows settled, tasks that may start, that failed and were cancelled, callbacks enqueued."""

    settled: int = 0
    started: int = 0
    failed: int = 0
    cancelled: int = 0
    called: int = 0

    @property
    def is_idle(self) -> bool:
        """Whether there was nothing that could be done."""
        return not any(self)


class Node(NamedTuple):
    """A task of a graph, `level` steps below the task that it was asked of (negative: above), next to `near_id`."""

    level: int
    id: UUID
    near_id: UUID
    on_parent_failed: str
    task_type: str | None
    status: str
    is_waiting: bool | None


@dataclass(frozen=True, slots=True)
class Graph:
    """The tasks around one: those shown, and how many it directly waits for and is waited for by."""

    nodes: list[Node]
    parents: int
    children: int


@dataclass(frozen=True, slots=True)
class BatchRow:
    """A batch and its counters, which follow its members within moments."""

    id: UUID
    tenant_id: UUID | None
    name: str
    added: int
    done: int
    failed: int
    cancelled: int
    created_at: datetime
    closed_at: datetime | None
    ended_at: datetime | None
    on_done_task_id: UUID | None
    on_failed_task_id: UUID | None
    on_ended_task_id: UUID | None


def settle(connection: Connection, limit: int) -> Settled:
    """Settle up to `limit` rows in one transaction; nothing while another relay does. Raises as any store call does.

    A batch that a producer is closing waits, and holds up nothing else, however long its transaction stays open.
    """
    if not QUERIES.run(connection, "pending", {"limit": 1, "but": []}):
        return Settled()  # as almost always: it costs one statement
    held: list[UUID] = []
    with connection.transaction():
        [(is_ours, *_)] = QUERIES.run(connection, "lock")
        while is_ours and (rows := QUERIES.run(connection, "pending", {"limit": limit, "but": held})):
            done, batches = _settle(connection, rows, limit)
            wanted = {batch for _, _, batch in rows if batch is not None}
            if not done.is_idle or len(rows) < limit or wanted <= set(batches):
                return done
            held += wanted - set(batches)
    return Settled()


def _settle(connection: Connection, rows: Sequence[Row], limit: int) -> tuple[Settled, list[UUID]]:
    """Settle these rows; return what came of it, and the batches that were free."""
    task_ids = list({task for _, task, _ in rows if task is not None})
    watched = [row[0] for row in QUERIES.run(connection, "watch", {"ids": task_ids})]
    children = {row[0] for row in QUERIES.run(connection, "resolve", {"ids": task_ids, "limit": limit})}
    values = {
        "settlements": [row[0] for row in rows],
        "batches": list({batch for _, _, batch in rows if batch is not None}),
        "watched": watched,
    }
    [(settled, batches)] = QUERIES.run(connection, "settle", values)
    called = QUERIES.run(connection, "call_back", {"batches": batches})[0][0] if batches else 0
    return _move(connection, list(children))._replace(settled=settled, called=called or 0), batches or []


def recheck(connection: Connection, after: UUID, limit: int) -> tuple[Settled, UUID]:
    """Look at the waiting tasks after `after`, whatever was noted; return what moved and where to go on."""
    with connection.transaction():
        [(is_ours, *_)] = QUERIES.run(connection, "lock")
        rows = QUERIES.run(connection, "recheck", {"after": after, "limit": limit}) if is_ours else []
        ids = [row[0] for row in rows]
        if not ids:
            return Settled(), FIRST_ID
        noted = QUERIES.count(connection, "note_strays", {"ids": ids, "limit": limit})
        return _move(connection, ids)._replace(settled=noted), ids[-1]


def wait_again(connection: Connection, ids: Sequence[UUID]) -> int:
    """Let replayed tasks wait again for the parents that were not done; call it in the replay's transaction."""
    return QUERIES.count(connection, "wait_again", {"ids": list(ids)})


def forget(connection: Connection, seconds: float, limit: int) -> int:
    """Forget the resolved dependencies of tasks that were enqueued that long ago; return how many."""
    return QUERIES.count(connection, "forget", {"seconds": seconds, "limit": limit})


def graph(connection: Connection, task_id: UUID, limit: int) -> Graph:
    """Return the tasks around one, nearest first, at most `limit` above and as many below."""
    nodes = [Node._make(row) for row in QUERIES.run(connection, "graph", {"id": task_id, "limit": limit})]
    [(parents, children)] = QUERIES.run(connection, "neighbours", {"id": task_id, "limit": 100_000})
    return Graph(nodes, parents, children)


def batch(connection: Connection, batch_id: UUID) -> BatchRow | None:
    """Return a batch, or None where there is none of that id."""
    rows = QUERIES.run(connection, "batch", {"id": batch_id})
    return BatchRow(*rows[0]) if rows else None


def batch_of(connection: Connection, task_id: UUID) -> BatchRow | None:
    """Return the batch that a live task belongs to, or None."""
    rows = QUERIES.run(connection, "batch_of", {"id": task_id})
    return batch(connection, rows[0][0]) if rows else None


def _move(connection: Connection, children: list[UUID]) -> Settled:
    """End or start those of the waiting tasks whose parents allow it."""
    if not children:
        return Settled()
    ends = [row[0] for row in QUERIES.run(connection, "end_children", {"ids": children})]
    started = len(QUERIES.run(connection, "start_children", {"ids": children}))
    return Settled(started=started, failed=ends.count("failed"), cancelled=ends.count("cancelled"))
