"""Handler of `space.fill`: a space comes to have a vector of each chunk, while another one is searched."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from uuid import UUID

from db import spaces
from pipelines.documents.embedders import limit_key_of
from pipelines.documents.payloads import EmbedChunks, FillSpace
from pipelines.enqueue import Options
from pipelines.outcomes import Cancel, Done, Outcome, Snooze
from pipelines.payload import Payload
from pipelines.task import TaskContext
from pipelines.transaction import Transaction

EMBED_SLICE = 64
"""Chunks of one embedding task: a lost attempt repeats no more than this, and several workers share a long document."""
BESIDE_PRIORITY = -10
"""Of tasks for a space which nobody searches yet: what comes in for the one that is searched goes first."""
# Chunks that are enqueued at a time, minutes of work; the next page follows when a quarter of it is left.
_PAGE = 20_000
_LEFT = 4
# Looks of which the next comes later each time, and after how many that found nothing done a page is left as it is:
# what is left was refused, or is held for a tenant that is suspended.
_FIRST_LOOK, _LAST_LOOK, _SLOWER, _VAIN_LOOKS = 1.0, 15.0, 1.5, 12
_FIRST, _LAST = UUID(int=0), UUID(int=2**128 - 1)


@dataclass(frozen=True, slots=True)
class _Standing:
    """Where a filling stands: the page between two ids, what is left of it, and how often that was seen to be so.

    `enqueued` counts the chunks of all pages, `total` all that there were at the beginning.
    """

    after: str = str(_FIRST)
    until: str = ""
    left: int = 0
    looks: int = 0
    enqueued: int = 0
    total: int = 0


def fill(context: TaskContext, payload: FillSpace) -> Outcome:
    """Enqueue what the space lacks, page by page; done when each chunk has its vector, or will not get it now."""
    with context.read() as transaction:
        connection = transaction.connection
        space = spaces.get_space(connection, payload.space_id)
        if space is None:
            return Cancel("the space was dropped")
        now = _Standing(**spaces.standing(connection, context.task_id))
        if not now.until:
            now = replace(now, total=spaces.lacking(connection, space.id, _FIRST, _LAST), until=str(_FIRST))
        left = spaces.lacking(connection, space.id, UUID(now.after), UUID(now.until))
        now = replace(now, left=left, looks=now.looks + 1 if left == now.left else 0)
        is_over = left == 0 or now.looks >= _VAIN_LOOKS
        is_last = now.until == str(_LAST)
        wants_more = not is_last and (is_over or left <= _PAGE // _LEFT)
        page = spaces.next_page(connection, space.id, UUID(now.until), _PAGE) if wants_more else None
    context.progress(_done(now) / max(now.total, 1), f"{_done(now):,} of {now.total:,} chunks")
    if is_last and is_over:
        return Done({"enqueued": now.enqueued, "missing": left}, lambda transaction: _show(transaction, space))
    if page is not None:
        chunks = sum(len(each.indexes) for each in page.slices)
        now = replace(now, after=now.until, until=str(page.until), left=chunks, looks=0, enqueued=now.enqueued + chunks)
    elif wants_more:  # the last look is at all of them, whoever came meanwhile
        now = replace(now, after=str(_FIRST), until=str(_LAST), left=0, looks=0)

    def apply(transaction: Transaction) -> None:
        if page is not None:
            enqueue_slices(transaction, space, page.slices)
        spaces.note(transaction.connection, context.task_id, asdict(now))

    return Snooze(timedelta(seconds=min(_FIRST_LOOK * _SLOWER**now.looks, _LAST_LOOK)), apply)


def _show(transaction: Transaction, space: spaces.Space) -> None:
    """Have versions shown that were whole here before the space was switched to: nothing of theirs is left to come."""
    if space.is_active:
        enqueue_slices(transaction, space, spaces.unshown(transaction.connection, space.id))


def _done(now: _Standing) -> int:
    return max(min(now.enqueued - now.left, now.total), 0)


def enqueue_slices(transaction: Transaction, space: spaces.Space, lacking: Iterable[spaces.Slice]) -> None:
    """Enqueue the embedding of chunks for a space: for the active one it is their document's, which fails with it."""
    by_owner: dict[tuple[UUID, str, UUID], list[Payload]] = defaultdict(list)
    for each in lacking:
        kind, owner_id = ("document", each.document_id) if space.is_active else ("space", space.id)
        by_owner[each.tenant_id, kind, owner_id] += _payloads(space.id, each)
    for (tenant_id, kind, owner_id), payloads in by_owner.items():
        options: Options = {
            "tenant_id": tenant_id,
            "owner_kind": kind,
            "owner_id": owner_id,
            "priority": 0 if space.is_active else BESIDE_PRIORITY,
        }
        if (key := limit_key_of(space)) is not None:
            options["limit_key"] = key
        transaction.enqueue_many(payloads, **options)


def _payloads(space_id: UUID, lacking: spaces.Slice) -> Iterator[EmbedChunks]:
    indexes = lacking.indexes
    for part in (indexes[at : at + EMBED_SLICE] for at in range(0, len(indexes), EMBED_SLICE)):
        yield EmbedChunks(
            document_id=lacking.document_id,
            version=lacking.version,
            space_id=space_id,
            first=part[0],
            last=part[-1],
        )
