"""Handlers of `chunks.embed` and `query.embed`: texts become vectors, many tasks in one call of the model."""

from collections.abc import Sequence
from itertools import islice
from uuid import UUID

from pgvector import Vector

from db import documents, spaces
from pipelines.documents.embedding import Embedders
from pipelines.documents.ingest import swap_if_complete
from pipelines.documents.payloads import EmbedChunks, EmbedQuery
from pipelines.outcomes import Apply, Cancel, Done, Outcome
from pipelines.task import BatchItem
from pipelines.transaction import Transaction


def embed_chunks(items: Sequence[BatchItem[EmbedChunks]]) -> list[Outcome]:
    """Embed the slices of all items, one call a space; each writes its own vectors, the last shows its version."""
    context = items[0].context
    with context.read() as transaction:
        found = [spaces.get_space(transaction.connection, item.payload.space_id) for item in items]
        texts = [_texts_of(transaction, item.payload) for item in items]
    embedders = context.resources.get(Embedders)
    outcomes: dict[int, Outcome] = {}
    for space in dict.fromkeys(found):
        places = [place for place, each in enumerate(found) if each == space]
        if space is None:
            outcomes |= dict.fromkeys(places, Cancel("the space was dropped"))
            continue
        vectors = iter(embedders.of(space).embed([text for place in places for _, text in texts[place]]))
        for place in places:
            mine = [Vector(row) for row in islice(vectors, len(texts[place]))]
            chunk_ids = [chunk_id for chunk_id, _ in texts[place]]
            outcomes[place] = Done({"embedded": len(mine)}, _writing(items[place].payload, chunk_ids, mine))
    return [outcomes[place] for place in range(len(items))]


def embed_queries(items: Sequence[BatchItem[EmbedQuery]]) -> list[Outcome]:
    """Embed the texts of searches; each result holds its vector in pgvector's text form."""
    context = items[0].context
    with context.read() as transaction:
        space = spaces.active_space(transaction.connection)
    vectors = context.resources.get(Embedders).of(space).embed([item.payload.text for item in items])
    return [Done({"space_id": str(space.id), "vector": Vector(row).to_text()}) for row in vectors]


def _texts_of(transaction: Transaction, payload: EmbedChunks) -> list[tuple[UUID, str]]:
    return documents.chunks_to_embed(
        transaction.connection, payload.document_id, payload.version, payload.space_id, payload.first, payload.last
    )


def _writing(payload: EmbedChunks, chunk_ids: list[UUID], vectors: list[Vector]) -> Apply:
    def apply(transaction: Transaction) -> None:
        documents.insert_vectors(transaction.connection, payload.space_id, chunk_ids, vectors)
        swap_if_complete(transaction, payload.document_id, payload.version)

    return apply
