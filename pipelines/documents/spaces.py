"""Handler of `space.fill`: a space comes to have a vector of each chunk, while another one is searched."""

from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

from db import spaces
from pipelines.documents.embedders import limit_key_of
from pipelines.documents.payloads import EmbedChunks, FillSpace
from pipelines.outcomes import Cancel, Done, Outcome, Snooze
from pipelines.task import TaskContext
from pipelines.transaction import Transaction

EMBED_SLICE = 64
"""Chunks of one embedding task: a lost attempt repeats no more than this, and several workers share a long document."""
BESIDE_PRIORITY = -10
"""Of tasks that fill a space which nobody searches yet: what comes in goes first."""
# Chunks that are enqueued at a time: minutes of work, so that the space is seldom counted and the queue stays short.
_PAGE = 20_000
_LOOK = timedelta(seconds=1)


def fill(context: TaskContext, payload: FillSpace) -> Outcome:
    """Enqueue the next page of what the space lacks, once the one before is done; done when it lacks nothing."""
    with context.read() as transaction:
        connection = transaction.connection
        space = spaces.get_space(connection, payload.space_id)
        if space is None:
            return Cancel("the space was dropped")
        since = spaces.asked_at(connection, context.task_id)
        standing = spaces.filling(connection, space.id, since)
        lacking = [] if standing.live else spaces.missing(connection, space.id, since, _PAGE)
    context.progress(min(standing.vectors / max(standing.chunks, 1), 1.0), _told(standing))
    if standing.live == 0 and not lacking:
        return Done({"chunks": standing.chunks, "vectors": standing.vectors, "failed_tasks": standing.failed})

    def apply(transaction: Transaction) -> None:
        for each in lacking:
            enqueue_slices(transaction, space, each, owner=("space", space.id), priority=BESIDE_PRIORITY)

    return Snooze(_LOOK, apply)


def enqueue_slices(
    transaction: Transaction, space: spaces.Space, lacking: spaces.Slice, *, owner: tuple[str, UUID], priority: int
) -> None:
    """Enqueue the embedding of chunks for a space. `owner` is who fails with it: a document, or the space alone."""
    owner_kind, owner_id = owner
    transaction.enqueue_many(
        list(_slices(space.id, lacking)),
        tenant_id=lacking.tenant_id,
        owner_kind=owner_kind,
        owner_id=owner_id,
        priority=priority,
        limit_key=limit_key_of(space.model),
    )


def _slices(space_id: UUID, lacking: spaces.Slice) -> Iterator[EmbedChunks]:
    indexes = lacking.indexes
    for part in (indexes[at : at + EMBED_SLICE] for at in range(0, len(indexes), EMBED_SLICE)):
        yield EmbedChunks(
            document_id=lacking.document_id,
            version=lacking.version,
            space_id=space_id,
            first=part[0],
            last=part[-1],
        )


def _told(standing: spaces.Filling) -> str:
    failed = f", {standing.failed} tasks failed" if standing.failed else ""
    return f"{standing.vectors:,} of {standing.chunks:,} chunks{failed}"
