"""Handlers of `chunks.embed` and `query.embed`: texts become vectors, many tasks in one call of the model."""

from collections.abc import Sequence
from uuid import UUID

from pgvector import Vector

from core.errors import PermanentError
from db import documents
from pipelines.documents.embedding import Embedder
from pipelines.documents.ingest import swap_if_complete
from pipelines.documents.payloads import EmbedChunks, EmbedQuery
from pipelines.outcomes import Apply, Done, Outcome
from pipelines.task import BatchItem
from pipelines.transaction import Transaction


def embed_chunks(items: Sequence[BatchItem[EmbedChunks]]) -> list[Outcome]:
    """Embed the slices of all items in one call; each writes its own vectors, and the last one swaps its version in."""
    context = items[0].context
    embedder = context.resources.get(Embedder)
    wanted: list[list[tuple[UUID, str]]] = []
    with context.read() as transaction:
        for item in items:
            _require_model(documents.get_space(transaction.connection, item.payload.space_id), embedder)
            wanted.append(_texts_of(transaction, item.payload))
    found = embedder.embed([text for part in wanted for _, text in part])
    vectors = [Vector(row) for row in found]
    outcomes: list[Outcome] = []
    position = 0
    for item, part in zip(items, wanted, strict=True):
        mine = vectors[position : position + len(part)]
        position += len(part)
        outcomes.append(Done({"embedded": len(part)}, _writing(item.payload, [chunk_id for chunk_id, _ in part], mine)))
    return outcomes


def embed_queries(items: Sequence[BatchItem[EmbedQuery]]) -> list[Outcome]:
    """Embed the texts of searches; each result holds its vector in pgvector's text form."""
    context = items[0].context
    embedder = context.resources.get(Embedder)
    with context.read() as transaction:
        space = documents.active_space(transaction.connection)
    _require_model(space, embedder)
    vectors = embedder.embed([item.payload.text for item in items])
    return [Done({"space_id": str(space.id), "vector": Vector(row).to_text()}) for row in vectors]


def _texts_of(transaction: Transaction, payload: EmbedChunks) -> list[tuple[UUID, str]]:
    return documents.chunks_to_embed(
        transaction.connection, payload.document_id, payload.version, payload.space_id, payload.first, payload.last
    )


def _writing(payload: EmbedChunks, chunk_ids: list[UUID], vectors: list[Vector]) -> Apply:
    def apply(transaction: Transaction) -> None:
        documents.insert_vectors(transaction.connection, payload.space_id, chunk_ids, vectors)
        swap_if_complete(transaction, payload.document_id, payload.version, payload.space_id)

    return apply


def _require_model(space: documents.Space | None, embedder: Embedder) -> None:
    if space is None:
        raise PermanentError("the space was dropped")
    if (space.model, space.dimensions) != (embedder.name, embedder.dimensions):
        raise PermanentError(
            f"the space is of model {space.model} with {space.dimensions} dimensions, "
            f"this worker embeds with {embedder.name} ({embedder.dimensions}): set GREENROOM_EMBEDDING_MODEL"
        )
