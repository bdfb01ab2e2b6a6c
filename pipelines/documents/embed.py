"""Handlers of `chunks.embed` and `query.embed`: texts become vectors, many tasks in one call of the model."""

from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

from pgvector import Vector

from core.errors import PermanentError, RateLimitedError, RetryableError
from db import documents, spaces
from pipelines.documents.embedders import Embedders
from pipelines.documents.payloads import EmbedChunks, EmbedQuery
from pipelines.documents.vectors import Embedded
from pipelines.documents.versions import swap_if_complete
from pipelines.outcomes import Apply, Cancel, Done, Fail, Outcome, Snooze
from pipelines.task import BatchItem
from pipelines.transaction import Transaction

_Texts = list[tuple[UUID, str]]


def embed_chunks(items: Sequence[BatchItem[EmbedChunks]]) -> list[Outcome | Exception]:
    """Embed the slices of all items, one call a space; each writes its own vectors, the last shows its version.

    What befalls one space's embedder is for the slices of that space alone.
    """
    context = items[0].context
    with context.read() as transaction:
        found = [spaces.get_space(transaction.connection, item.payload.space_id) for item in items]
        texts = [_texts_of(transaction, item.payload) for item in items]
    outcomes: dict[int, Outcome | Exception] = {}
    for space in dict.fromkeys(found):
        places = [place for place, each in enumerate(found) if each == space]
        if space is None:
            outcomes |= dict.fromkeys(places, Cancel("the space was dropped"))
            continue
        parts = [texts[place] for place in places]
        try:
            embedded = context.resources.get(Embedders).of(space).compute([text for part in parts for _, text in part])
        except RetryableError as error:
            outcomes |= dict.fromkeys(places, error)
            continue
        ends = _outcomes_of([items[place].payload for place in places], parts, embedded)
        outcomes |= zip(places, ends, strict=True)
    return [outcomes[place] for place in range(len(items))]


def _outcomes_of(
    payloads: Sequence[EmbedChunks], parts: Sequence[_Texts], embedded: Embedded
) -> Iterator[Outcome | Exception]:
    """Yield what becomes of each slice: its vectors are written, or it ends by what befell the first text without.

    One that a provider broke off keeps what it got, and goes on from there.
    """
    texts = [text for part in parts for _, text in part]
    at, total = 0, sum(len(text) for place, text in enumerate(texts) if place not in embedded.failures)
    for payload, part in zip(payloads, parts, strict=True):
        got = [place for place in range(at, at + len(part)) if place not in embedded.failures]
        failures = [embedded.failures[place] for place in range(at, at + len(part)) if place in embedded.failures]
        writing = _writing(
            payload, [part[place - at][0] for place in got], [Vector(embedded.vectors[place]) for place in got]
        )
        # of what all of them cost, by the length of their texts
        share = sum(len(texts[place]) for place in got) / max(total, 1)
        at += len(part)
        if refused := [failure for failure in failures if isinstance(failure, PermanentError)]:
            yield Fail(f"{len(refused)} of its texts cannot be embedded: {refused[0]}")
            continue
        if failures:
            failure = failures[0]
            if got and isinstance(failure, RateLimitedError):
                yield Snooze(failure.pause, writing, str(failure))
            else:
                yield failure
            continue
        yield Done({"embedded": len(part)} | _cost_of(embedded, share), writing)


def _cost_of(embedded: Embedded, share: float) -> dict[str, Any]:
    """Return what a provider counted of a share of its texts, for a task's result; nothing of a local model."""
    if not embedded.tokens:
        return {}
    return {"tokens": round(embedded.tokens * share), "cost": round(embedded.cost * share, 9)}


def embed_queries(items: Sequence[BatchItem[EmbedQuery]]) -> list[Outcome | Exception]:
    """Embed the texts of searches; each result holds its vector in pgvector's text form.

    Somebody waits: what would have to wait for a provider fails at once, with the reason.
    """
    context = items[0].context
    with context.read() as transaction:
        space = spaces.active_space(transaction.connection)
    embedded = context.resources.get(Embedders).of(space).compute([item.payload.text for item in items])
    ends: list[Outcome | Exception] = []
    for place in range(len(items)):
        failure = embedded.failures.get(place)
        if failure is None:
            result: dict[str, Any] = {"space_id": str(space.id), "vector": Vector(embedded.vectors[place]).to_text()}
            ends.append(Done(result | _cost_of(embedded, 1 / (len(items) - len(embedded.failures)))))
        elif isinstance(failure, RateLimitedError):
            ends.append(Fail(str(failure)))
        else:
            ends.append(failure)
    return ends


def _texts_of(transaction: Transaction, payload: EmbedChunks) -> _Texts:
    return documents.chunks_to_embed(
        transaction.connection, payload.document_id, payload.version, payload.space_id, payload.first, payload.last
    )


def _writing(payload: EmbedChunks, chunk_ids: list[UUID], vectors: list[Vector]) -> Apply:
    def apply(transaction: Transaction) -> None:
        documents.insert_vectors(transaction.connection, payload.space_id, chunk_ids, vectors)
        swap_if_complete(transaction, payload.document_id, payload.version)

    return apply
