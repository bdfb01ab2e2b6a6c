"""Handlers of `chunks.embed` and `query.embed`: texts become vectors, many tasks in one call of the model."""

import threading
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


class SharedModel:
    """The process's one model, used by one thread at a time: the model's own threads share the work of a call."""

    def __init__(self, embedder: Embedder) -> None:
        self.name = embedder.name
        self.dimensions = embedder.dimensions
        self._embedder = embedder
        self._lock = threading.Lock()

    def vectors(self, texts: Sequence[str]) -> list[Vector]:
        """Embed texts and return their vectors in the same order."""
        if not texts:
            return []
        with self._lock:
            return [Vector(row) for row in self._embedder.embed(texts)]

    def close(self) -> None:
        """End the model's threads."""
        self._embedder.close()


def embed_chunks(items: Sequence[BatchItem[EmbedChunks]]) -> list[Outcome]:
    """Embed the slices of all items in one call; each writes its own vectors, and the last one swaps its version in."""
    context = items[0].context
    model = context.resources.get(SharedModel)
    wanted: list[list[tuple[UUID, str]]] = []
    with context.read() as transaction:
        for item in items:
            _require_model(documents.get_space(transaction.connection, item.payload.space_id), model)
            wanted.append(_texts_of(transaction, item.payload))
    vectors = model.vectors([text for part in wanted for _, text in part])
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
    model = context.resources.get(SharedModel)
    with context.read() as transaction:
        space = documents.active_space(transaction.connection)
    _require_model(space, model)
    vectors = model.vectors([item.payload.text for item in items])
    return [Done({"space_id": str(space.id), "vector": vector.to_text()}) for vector in vectors]


def _texts_of(transaction: Transaction, payload: EmbedChunks) -> list[tuple[UUID, str]]:
    return documents.chunks_to_embed(
        transaction.connection, payload.document_id, payload.version, payload.space_id, payload.first, payload.last
    )


def _writing(payload: EmbedChunks, chunk_ids: list[UUID], vectors: list[Vector]) -> Apply:
    def apply(transaction: Transaction) -> None:
        documents.insert_vectors(transaction.connection, payload.space_id, chunk_ids, vectors)
        swap_if_complete(transaction, payload.document_id, payload.version, payload.space_id)

    return apply


def _require_model(space: documents.Space | None, model: SharedModel) -> None:
    if space is None:
        raise PermanentError("the space was dropped")
    if (space.model, space.dimensions) != (model.name, model.dimensions):
        raise PermanentError(
            f"the space is of model {space.model} with {space.dimensions} dimensions, "
            f"this worker embeds with {model.name} ({model.dimensions}): set GREENROOM_EMBEDDING_MODEL"
        )
