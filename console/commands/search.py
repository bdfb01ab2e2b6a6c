"""`greenroom search`: the chunks that answer a query."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from textwrap import shorten
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from console import output
from console.options import AsJson, Collection, Tenant, Timeout, id_of, task_id
from console.runtime import Operation, operate
from console.values import moment_of, payload_of
from db import collections, library
from db.connection import tenant_transaction
from db.memory import SourceRow
from db.search import UNFILTERED, Filters, Hit, Strategy, give_feedback

if TYPE_CHECKING:
    from pipelines.documents.search import Found

Kind = Literal["raw", "curated", "all"]
Rating = Literal["helpful", "unhelpful"]
_BEGINNING = 90


def feedback(
    query_id: Annotated[str, typer.Argument(metavar="QUERY", help="The id that the search printed.")],
    rating: Annotated[Rating, typer.Argument(help="helpful or unhelpful.")],
    comment: Annotated[str | None, typer.Option(help="Why.")] = None,
    tenant: Tenant = None,
    as_json: AsJson = False,
) -> None:
    """Keep what a reader thought of a search, in place of what was said of it before."""
    wanted = task_id(query_id)
    said = {"rating": rating} | ({"comment": comment} if comment else {})
    with operate() as operation, tenant_transaction(operation.connection, operation.tenant_id(tenant)):
        give_feedback(operation.connection, wanted, said)
    if as_json:
        output.show_json({"query_id": wanted, "feedback": said})
    else:
        output.show_line("kept")


def search(
    query: Annotated[str, typer.Argument(help="What you look for, in your own words.")],
    limit: Annotated[int, typer.Option("--limit", min=1, max=100, help="At most so many hits.")] = 5,
    strategy: Annotated[Strategy, typer.Option(help="By meaning and words, by one of them alone.")] = "hybrid",
    collection: Collection = None,
    persona: Annotated[str | None, typer.Option(help="Only chunks of the persona of that id.")] = None,
    document: Annotated[
        list[str] | None, typer.Option(help="Only that document (id or name); may be repeated.")
    ] = None,
    meta: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE in the document's metadata; may be repeated.")
    ] = None,
    uploaded_since: Annotated[str | None, typer.Option(help="A time with zone, or -3600 for an hour ago.")] = None,
    uploaded_until: Annotated[str | None, typer.Option(help="Before that time; as --uploaded-since.")] = None,
    kind: Annotated[Kind, typer.Option(help="Chunks of documents, condensed ones, or both.")] = "all",
    around: Annotated[int, typer.Option(min=0, max=10, help="Show so many neighbours of each hit with it.")] = 0,
    sources: Annotated[bool, typer.Option("--sources", help="Show what condensed hits were made of.")] = False,
    tenant: Tenant = None,
    timeout: Timeout = 60.0,
    as_json: AsJson = False,
) -> None:
    """Search the documents by meaning and by words."""
    filters = Filters(
        persona_id=id_of(persona),
        metadata=payload_of(meta or []) or None,
        uploaded_from=moment_of(uploaded_since) if uploaded_since else None,
        uploaded_before=moment_of(uploaded_until) if uploaded_until else None,
        is_curated={"raw": False, "curated": True, "all": None}[kind],
    )
    with operate(works=strategy != "lexical") as operation:
        filters = _with_names(operation, filters, tenant, collection, document or ())
        found = find(
            operation,
            query,
            strategy=strategy,
            limit=limit,
            filters=filters,
            around=around,
            with_sources=sources,
            tenant=tenant,
            timeout=timeout,
        )
    if as_json:
        hits = [_told(found, hit) for hit in found.hits]
        output.show_json({"query_id": found.query_id, "seconds": round(found.seconds, 3), "hits": hits})
    else:
        show(found)


def find(
    operation: Operation,
    query: str,
    *,
    limit: int,
    strategy: Strategy = "hybrid",
    filters: Filters = UNFILTERED,
    around: int = 0,
    with_sources: bool = False,
    tenant: str | None = None,
    timeout: float = 60.0,
) -> "Found":
    """Search one tenant's documents."""
    from pipelines.documents import search as searching
    from pipelines.documents.payloads import EMBEDDING_QUEUE

    if strategy != "lexical":
        operation.require_worker(EMBEDDING_QUEUE)
    return searching.search(
        operation.connection,
        operation.tenant_id(tenant),
        query,
        strategy=strategy,
        limit=limit,
        filters=filters,
        around=around,
        with_sources=with_sources,
        timeout=timeout,
    )


def _told(found: "Found", hit: Hit) -> dict[str, Any]:
    """Return a hit for programs."""
    sources = [asdict(source) for source in found.sources.get(hit.chunk_id, ())]
    return asdict(hit) | {"context": found.contexts.get(hit.chunk_id)} | ({"sources": sources} if sources else {})


def show(found: "Found") -> None:
    """Print hits, best first: document, page or section, score, and the part that fits."""
    if not found.hits:
        output.show_line("nothing found: see `greenroom documents list` for what there is")
    for place, hit in enumerate(found.hits, 1):
        heading = f"{place}. {hit.document_name}, {_where(hit)}  (score {hit.score:.3f}{_parts(hit)})"
        output.show_hit(heading, found.contexts.get(hit.chunk_id) or hit.highlight)
        for source in found.sources.get(hit.chunk_id, ()):
            output.show_line(f"   ← {source_line(source)}")


def source_line(source: SourceRow) -> str:
    """Return where a chunk that a memory was made of stands, and how it begins."""
    where = f"{source.document_name or source.document_id}, chunk {source.chunk_index + 1}"
    if source.text is None:
        return f"{where}: gone, or changed"
    merged = "" if source.merged_into is None else f" (says the same as {source.merged_into + 1})"
    return f"{where}{merged}: {shorten(source.text, _BEGINNING, placeholder='…')}"


def _with_names(
    operation: Operation, filters: Filters, tenant: str | None, collection: str | None, documents: Sequence[str]
) -> Filters:
    """Look up what the filters name."""
    if not collection and not documents:
        return filters
    tenant_id = operation.tenant_id(tenant)
    with tenant_transaction(operation.connection, tenant_id):
        return replace(
            filters,
            collection_id=collections.collection_id_of(operation.connection, tenant_id, collection)
            if collection
            else None,
            document_ids=[library.find(operation.connection, name) for name in documents] or None,
        )


def _where(hit: Hit) -> str:
    parts = [f"page {hit.page}" if hit.page else "", f"section “{hit.section}”" if hit.section else ""]
    return ", ".join(part for part in parts if part) or f"chunk {hit.chunk_index + 1}"


def _parts(hit: Hit) -> str:
    similarity = "" if hit.similarity is None else f", similarity {hit.similarity:.2f}"
    return similarity + (f", words {hit.words:.1f}" if hit.words else "")
