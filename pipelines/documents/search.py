"""Search: ask an embedding worker for the query's vector, find the best chunks, log both.

The model lives in workers only: whoever searches imports neither model nor broker.
"""

import time
from dataclasses import dataclass
from uuid import UUID

from core.errors import InvalidOptionsError, RetryableError, UnavailableError
from db import documents
from db.connection import Connection, tenant_transaction
from pipelines.documents.payloads import MAX_QUERY_CHARACTERS, EmbedQuery
from pipelines.enqueue import enqueue
from pipelines.waiting import wait_for

MAX_HITS = 100


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found, best first; feedback on it names `query_id`."""

    query_id: UUID
    hits: list[documents.Hit]
    seconds: float


def search(
    connection: Connection,
    tenant_id: UUID,
    query: str,
    *,
    limit: int = 5,
    collection_id: UUID | None = None,
    timeout: float = 60.0,
) -> Found:
    """Return a tenant's best chunks by meaning and by words. Opens transactions of its own on an autocommit connection.

    Waits up to `timeout` seconds for the query's vector. Raises InvalidOptionsError for a query or limit that cannot
    be, WaitTimeoutError when no worker embeds it in time, UnavailableError when one could not.
    """
    text = query.replace("\0", " ").strip()
    if not 1 <= len(text) <= MAX_QUERY_CHARACTERS or not 1 <= limit <= MAX_HITS:
        raise InvalidOptionsError(f"a query has 1 to {MAX_QUERY_CHARACTERS} characters, and 1 to {MAX_HITS} hits")
    started = time.monotonic()
    space_id, vector = _vector_of(connection, tenant_id, text, timeout)
    with tenant_transaction(connection, tenant_id):
        if documents.active_space(connection).id != space_id:
            raise RetryableError("the active space changed while the query was embedded: search again")
        hits = documents.search(connection, tenant_id, text, vector, limit=limit, collection_id=collection_id)
        seconds = time.monotonic() - started
        query_id = documents.log_query(
            connection,
            tenant_id,
            text,
            hits,
            collection_id=collection_id,
            filters={"limit": limit},
            response_ms=round(seconds * 1000),
        )
    return Found(query_id, hits, seconds)


def _vector_of(connection: Connection, tenant_id: UUID, text: str, timeout: float) -> tuple[UUID, str]:
    """Have a worker embed a text; return the space and the vector, in pgvector's text form."""
    with tenant_transaction(connection, tenant_id):
        task_id = enqueue(connection, EmbedQuery(text=text), tenant_id=tenant_id)
    end = wait_for(connection, task_id, timeout=timeout)
    if end.status != "done":
        raise UnavailableError(f"the query could not be embedded: {end.error or end.status}")
    return UUID(end.result["space_id"]), end.result["vector"]
