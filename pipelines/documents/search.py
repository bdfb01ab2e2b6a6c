"""Search: ask an embedding worker for the query's vector, find the best chunks, log both.

The model lives in workers only: whoever searches imports neither model nor broker. A search by words alone asks nobody.
"""

import time
from dataclasses import dataclass
from uuid import UUID

from core.errors import InvalidOptionsError, UnavailableError
from db import memory
from db import search as store
from db.connection import Connection, tenant_transaction
from db.memory import SourceRow
from db.search import UNFILTERED, Filters, Hit, QueryVector, Strategy
from pipelines.documents.payloads import MAX_QUERY_CHARACTERS, EmbedQuery
from pipelines.enqueue import enqueue
from pipelines.waiting import wait_for

MAX_HITS = 100
MAX_AROUND = 10


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found, best first; feedback on it names `query_id`.

    `contexts` holds the text of each hit with its neighbours, by the chunk's id, where neighbours were asked for;
    `sources` what those hits were made of that are curated, where that was.
    """

    query_id: UUID
    hits: list[Hit]
    contexts: dict[UUID, str]
    sources: dict[UUID, list[SourceRow]]
    seconds: float


def search(
    connection: Connection,
    tenant_id: UUID,
    query: str,
    *,
    strategy: Strategy = "hybrid",
    limit: int = 5,
    filters: Filters = UNFILTERED,
    around: int = 0,
    with_sources: bool = False,
    timeout: float = 60.0,
) -> Found:
    """Return a tenant's best chunks by meaning and by words. Opens transactions of its own on an autocommit connection.

    `around` is how many neighbours of each hit are returned with it; `with_sources` has curated hits come with the
    chunks that they were made of. Waits up to `timeout` seconds for the query's
    vector. Raises InvalidOptionsError for a query, limit or number of neighbours that cannot be, WaitTimeoutError when
    no worker embeds the query in time, UnavailableError when one could not.
    """
    text = query.replace("\0", " ").strip()
    if not 1 <= len(text) <= MAX_QUERY_CHARACTERS or not 1 <= limit <= MAX_HITS or not 0 <= around <= MAX_AROUND:
        raise InvalidOptionsError(
            f"a query has 1 to {MAX_QUERY_CHARACTERS} characters, 1 to {MAX_HITS} hits and 0 to {MAX_AROUND} neighbours"
        )
    started = time.monotonic()
    vector = None if strategy == "lexical" else _vector_of(connection, tenant_id, text, timeout)
    with tenant_transaction(connection, tenant_id):
        hits = store.search(connection, tenant_id, text, vector, strategy=strategy, limit=limit, filters=filters)
        found = [hit.chunk_id for hit in hits]
        contexts = store.surroundings(connection, found, around) if around else {}
        sources = memory.sources(connection, found) if with_sources else {}
        seconds = time.monotonic() - started
        query_id = store.log_query(
            connection,
            tenant_id,
            text,
            hits,
            strategy=strategy,
            limit=limit,
            filters=filters,
            response_ms=round(seconds * 1000),
        )
    return Found(query_id, hits, contexts, sources, seconds)


def _vector_of(connection: Connection, tenant_id: UUID, text: str, timeout: float) -> QueryVector:
    """Have a worker embed a text in the active space."""
    with tenant_transaction(connection, tenant_id):
        task_id = enqueue(connection, EmbedQuery(text=text), tenant_id=tenant_id)
    end = wait_for(connection, task_id, timeout=timeout)
    if end.status != "done":
        raise UnavailableError(f"the query could not be embedded: {end.error or end.status}")
    return QueryVector(UUID(end.result["space_id"]), end.result["vector"])
