"""`greenroom search`: the chunks that answer a query."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from console import output
from console.excerpts import excerpt, words_of
from console.options import AsJson, Collection, Tenant, Timeout
from console.runtime import Operation, operate
from db import collections, documents
from db.connection import tenant_transaction

if TYPE_CHECKING:
    from pipelines.documents.search import Found


def search(
    query: Annotated[str, typer.Argument(help="What you look for, in your own words.")],
    limit: Annotated[int, typer.Option("--limit", min=1, max=100, help="At most so many hits.")] = 5,
    collection: Collection = None,
    tenant: Tenant = None,
    timeout: Timeout = 60.0,
    as_json: AsJson = False,
) -> None:
    """Search the documents by meaning and by words."""
    with operate(works=True) as operation:
        found = find(operation, query, limit=limit, collection=collection, tenant=tenant, timeout=timeout)
    if as_json:
        hits = [asdict(hit) | {"excerpt": excerpt(hit.text, words_of(query))} for hit in found.hits]
        output.show_json({"query_id": found.query_id, "seconds": round(found.seconds, 3), "hits": hits})
    else:
        show(found, query)


def find(
    operation: Operation,
    query: str,
    *,
    limit: int,
    collection: str | None = None,
    tenant: str | None = None,
    timeout: float = 60.0,
) -> "Found":
    """Search one tenant's documents, or one collection of them."""
    from pipelines.documents import search as searching
    from pipelines.documents.payloads import EMBEDDING_QUEUE

    operation.require_worker(EMBEDDING_QUEUE)
    tenant_id = operation.tenant_id(tenant)
    collection_id = None
    if collection:
        with tenant_transaction(operation.connection, tenant_id):
            collection_id = collections.collection_id_of(operation.connection, tenant_id, collection)
    return searching.search(
        operation.connection, tenant_id, query, limit=limit, collection_id=collection_id, timeout=timeout
    )


def show(found: "Found", query: str) -> None:
    """Print hits, best first: document, page or section, score, and the part that fits."""
    if not found.hits:
        output.show_line("nothing found: see `greenroom documents list` for what there is")
    words = words_of(query)
    for place, hit in enumerate(found.hits, 1):
        heading = f"{place}. {hit.document_name}, {_where(hit)}  (score {hit.score:.4f}{_similarity(hit)})"
        output.show_hit(heading, excerpt(hit.text, words), words)


def _where(hit: documents.Hit) -> str:
    parts = [f"page {hit.page}" if hit.page else "", f"section “{hit.section}”" if hit.section else ""]
    return ", ".join(part for part in parts if part) or f"chunk {hit.chunk_index + 1}"


def _similarity(hit: documents.Hit) -> str:
    return "" if hit.similarity is None else f", similarity {hit.similarity:.2f}"
