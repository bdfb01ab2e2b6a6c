"""Handler of `space.fill`: a space comes to have a vector of each chunk, while another one is searched."""

import time
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from uuid import UUID

from db import spaces, standings
from db.connection import Connection
from pipelines.documents.payloads import FillSpace
from pipelines.documents.versions import enqueue_slices
from pipelines.outcomes import Cancel, Done, Outcome, Snooze
from pipelines.task import TaskContext
from pipelines.transaction import Transaction

# Chunks that are looked at a time, minutes of work; the next page follows when a quarter of it is left.
_PAGE = 20_000
_LEFT = 4
# Seconds between looks, each time longer while nothing is done; and so many times what a look takes.
_FIRST_LOOK, _LAST_LOOK, _SLOWER, _MOST_SLOWER = 1.0, 15.0, 1.5, 10
_SHARE = 20


@dataclass(frozen=True, slots=True)
class _Standing:
    """Where a filling stands, in ids of chunks: what is behind `after` up to `until` is looked at, `end` is the last.

    `lacking` counts those of them without a vector, `underway` those of these that have a task, `looks` how often that
    was seen to be so; `enqueued` the chunks of all pages, `total` all that were lacking at the beginning. What comes in
    later has tasks of its own.
    """

    end: str
    total: int
    after: str = standings.FIRST
    until: str = standings.FIRST
    lacking: int = 0
    underway: int = 0
    looks: int = 0
    enqueued: int = 0

    @property
    def is_through(self) -> bool:
        """Whether nothing is left to enqueue: all is looked at together."""
        return (self.after, self.until) == (standings.FIRST, self.end)

    @property
    def done(self) -> int:
        """How many of `total` have their vectors, or will not get them now."""
        is_over = self.is_through and not self.underway
        return self.total if is_over else max(min(self.enqueued - self.underway, self.total), 0)


def fill(context: TaskContext, payload: FillSpace) -> Outcome:
    """Enqueue what the space lacks, page by page; done when each chunk has its vector, or will not get it now.

    What has a task already gets no second one. What no task is left for that may run, since it failed or a suspended
    tenant's is held, is `missing` at the end.
    """
    begun = time.monotonic()
    with context.read() as transaction:
        space = spaces.get_space(transaction.connection, payload.space_id)
        if space is None:
            return Cancel("the space was dropped")
        noted = standings.read(transaction.connection, context.task_id, "filling")
        before = _Standing(**noted) if noted else _beginning(transaction.connection, space.id)
        now, found = _advance(transaction.connection, space.id, before)
    seconds = time.monotonic() - begun
    context.progress(now.done / max(now.total, 1), f"{now.done:,} of {now.total:,} chunks")
    if now.is_through and not now.underway:
        result = {"enqueued": now.enqueued, "missing": now.lacking}
        return Done(result, lambda transaction: _show(transaction, space.id))

    def apply(transaction: Transaction) -> None:
        enqueue_slices(transaction, space, found)
        standings.note(transaction.connection, context.task_id, "filling", asdict(now))

    wait = min(_FIRST_LOOK * _SLOWER ** min(now.looks, _MOST_SLOWER), _LAST_LOOK)
    return Snooze(timedelta(seconds=max(wait, seconds * _SHARE)), apply)


def _advance(connection: Connection, space_id: UUID, now: _Standing) -> tuple[_Standing, list[spaces.Slice]]:
    """Look at what is under way; return where the filling stands then, and the next slices if it is time for them."""
    lacking = _lacking(connection, space_id, now)
    found: list[spaces.Slice] = []
    if not now.is_through and lacking.underway <= _PAGE // _LEFT:
        page = spaces.next_page(connection, space_id, UUID(now.until), UUID(now.end), _PAGE)
        if page is None:
            now = replace(now, after=standings.FIRST, until=now.end)
        else:
            now, found = replace(now, after=now.until, until=str(page.until)), page.slices
        lacking = _lacking(connection, space_id, now)
    chunks = sum(len(each.indexes) for each in found)
    underway = lacking.underway + chunks
    looks = now.looks + 1 if underway == now.underway else 0
    enqueued = now.enqueued + chunks
    return replace(now, lacking=lacking.total, underway=underway, looks=looks, enqueued=enqueued), found


def _beginning(connection: Connection, space_id: UUID) -> _Standing:
    end = spaces.newest_chunk(connection) or UUID(standings.FIRST)
    return _Standing(str(end), spaces.lacking(connection, space_id, UUID(standings.FIRST), end).total)


def _lacking(connection: Connection, space_id: UUID, now: _Standing) -> spaces.Lacking:
    return spaces.lacking(connection, space_id, UUID(now.after), UUID(now.until))


def _show(transaction: Transaction, space_id: UUID) -> None:
    """Have versions shown that were whole here before the space was switched to: nothing of theirs is left to come."""
    space = spaces.get_space(transaction.connection, space_id)
    if space is not None and space.is_active:
        enqueue_slices(transaction, space, spaces.unshown(transaction.connection, space_id))
