"""A version of a document on its way to its readers: the vectors that it needs, and the moment that it is seen."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from uuid import UUID

from db import documents, spaces
from pipelines.documents.embedders import limit_key_of
from pipelines.documents.payloads import DeleteFile, EmbedChunks
from pipelines.documents.terms import enqueue_count
from pipelines.enqueue import Options
from pipelines.payload import Payload
from pipelines.transaction import Transaction

EMBED_SLICE = 64
"""Chunks of one embedding task: a lost attempt repeats no more than this, and several workers share a long document."""
BESIDE_PRIORITY = -10
"""Of tasks for a space which nobody searches yet: what comes in for the one that is searched goes first."""


def enqueue_slices(transaction: Transaction, space: spaces.Space, lacking: Iterable[spaces.Slice]) -> None:
    """Enqueue the embedding of chunks for a space: for the active one it is their document's, which fails with it."""
    by_owner: dict[tuple[UUID, str, UUID], list[Payload]] = defaultdict(list)
    for each in lacking:
        kind, owner_id = ("document", each.document_id) if space.is_active else ("space", space.id)
        by_owner[each.tenant_id, kind, owner_id] += _payloads(space.id, each)
    for (tenant_id, kind, owner_id), payloads in by_owner.items():
        options: Options = {"tenant_id": tenant_id, "owner_kind": kind, "owner_id": owner_id}
        if not space.is_active:
            options["priority"] = BESIDE_PRIORITY
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


def swap_if_complete(transaction: Transaction, document_id: UUID, version: int) -> None:
    """Let readers see a complete version; the files of the versions that went are removed by tasks of their own."""
    gone = documents.swap_if_complete(transaction.connection, document_id, version)
    for file_path in gone:
        transaction.enqueue(DeleteFile(file_path=file_path))
    if gone:
        enqueue_count(transaction)
