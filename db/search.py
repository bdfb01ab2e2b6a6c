"""The search's store: the best chunks for a query, what stands around them, and the log of queries with its feedback.

Every call runs in a transaction that the caller bound to one tenant; `knowledge.search` refuses any other's chunks.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from typing import Any, Literal
from uuid import UUID

from psycopg.types.json import Jsonb

from core.errors import NotFoundError
from db.connection import Connection
from db.queries import Queries

QUERIES = Queries("search")

_dumps = partial(json.dumps, default=str)  # ids and times as text

Strategy = Literal["hybrid", "vector", "lexical"]


@dataclass(frozen=True, slots=True)
class Filters:
    """What a search is confined to; None confines nothing. `metadata` is contained in the document's own."""

    collection_id: UUID | None = None
    persona_id: UUID | None = None
    document_ids: Sequence[UUID] | None = None
    metadata: Mapping[str, Any] | None = None
    uploaded_from: datetime | None = None
    uploaded_before: datetime | None = None
    is_curated: bool | None = None


UNFILTERED = Filters()

# As in the function: a transaction of some hundred milliseconds, whatever there is to count.
COUNTED_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class QueryVector:
    """A query's vector in pgvector's text form, and the space that it can be compared in."""

    space_id: UUID
    text: str


@dataclass(frozen=True, slots=True)
class Hit:
    """One result of a search.

    `score` is what the strategy goes by: 0 to 1 for hybrid, the cosine for vector, BM25 for lexical. `similarity` is
    the cosine and `words` BM25, None where the chunk has none. In `highlight` the query's words stand between U+0002
    and U+0003.
    """

    chunk_id: UUID
    document_id: UUID
    document_name: str
    chunk_index: int
    page: int | None
    section: str | None
    text: str
    score: float
    similarity: float | None
    words: float | None
    highlight: str


def search(
    connection: Connection,
    tenant_id: UUID,
    text: str,
    vector: QueryVector | None,
    *,
    strategy: Strategy = "hybrid",
    limit: int,
    filters: Filters = UNFILTERED,
) -> list[Hit]:
    """Return a tenant's best chunks, best first; only the lexical strategy does without a vector."""
    values = {
        "tenant_id": tenant_id,
        "text": text,
        "vector": vector.text if vector else None,
        "space_id": vector.space_id if vector else None,
        "strategy": strategy,
        "limit": limit,
        **_values_of(filters),
    }
    return [Hit(*row) for row in QUERIES.run(connection, "search", values)]


def surroundings(connection: Connection, chunk_ids: Sequence[UUID], around: int) -> dict[UUID, str]:
    """Return the document's text around each chunk: the chunk with `around` neighbours before and behind it."""
    return dict(QUERIES.run(connection, "surroundings", {"chunk_ids": list(chunk_ids), "around": around}))


def log_query(
    connection: Connection,
    tenant_id: UUID,
    text: str,
    hits: Sequence[Hit],
    *,
    strategy: Strategy,
    limit: int,
    filters: Filters,
    response_ms: int,
) -> UUID:
    """Log a search to `knowledge.rag_queries`; return the log's id, by which feedback may come later."""
    given = {name: value for name, value in asdict(filters).items() if value is not None}
    values = {
        "tenant_id": tenant_id,
        "collection_id": filters.collection_id,
        "text": text,
        "chunk_ids": [hit.chunk_id for hit in hits],
        "scores": [hit.score for hit in hits],
        "top_score": hits[0].score if hits else None,
        "strategy": strategy,
        "filters": Jsonb({"limit": limit} | given, dumps=_dumps),
        "response_ms": response_ms,
    }
    [(query_id,)] = QUERIES.run(connection, "log_query", values)
    logged: UUID = query_id
    return logged


def give_feedback(connection: Connection, query_id: UUID, feedback: Mapping[str, Any]) -> None:
    """Keep what a reader thought of a query's results, in place of what was said before; raises NotFoundError."""
    if not QUERIES.count(connection, "give_feedback", {"id": query_id, "feedback": Jsonb(dict(feedback))}):
        raise NotFoundError(f"no query has the id {query_id}: searches print it with --json")


def count_terms(connection: Connection, tenant_id: UUID) -> int:
    """Add changes of the tenant's terms to its statistics; return how many, COUNTED_AT_ONCE if there may be more."""
    [(changes,)] = QUERIES.run(connection, "count_terms", {"tenant_id": tenant_id})
    added: int = changes
    return added


def _values_of(filters: Filters) -> dict[str, Any]:
    return {
        "collection_id": filters.collection_id,
        "persona_id": filters.persona_id,
        "document_ids": None if filters.document_ids is None else list(filters.document_ids),
        "metadata": None if filters.metadata is None else Jsonb(dict(filters.metadata)),
        "uploaded_from": filters.uploaded_from,
        "uploaded_before": filters.uploaded_before,
        "is_curated": filters.is_curated,
    }
