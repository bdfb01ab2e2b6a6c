"""`greenroom ingest`: files become searchable documents."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from console import output
from console.options import AsJson, Collection, Tenant
from console.runtime import Operation, operate
from db.connection import tenant_transaction
from db.library import ensure_collection

if TYPE_CHECKING:
    from console.ingesting import Ingested

_TROUBLE = ("failed", "held", "deleted")


def ingest(
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="Files, folders or patterns.")],
    collection: Collection = None,
    tenant: Tenant = None,
    wait: Annotated[bool, typer.Option(help="Wait until each document is searchable or has failed.")] = True,
    as_json: AsJson = False,
) -> None:
    """Make files searchable. What has not changed since is left as it is."""
    from console.ingesting import Ingest, find_files

    files = find_files(paths)
    with operate(works=wait) as operation:
        tenant_id = operation.tenant_id(tenant)
        if wait:
            operation.require_worker("documents")
        collection_id = _collection(operation, tenant_id, collection or "default")
        results = Ingest(operation, tenant_id, collection_id).run(files, wait=wait, quiet=as_json)
    show(results, as_json=as_json)
    if any(result.status in _TROUBLE for result in results):
        raise typer.Exit(1)


def show(results: "Sequence[Ingested]", *, as_json: bool) -> None:
    """Print what became of files: a line for all, and a table of what failed and why."""
    counts = Counter(result.status for result in results)
    if as_json:
        output.show_json({"documents": [asdict(result) for result in results], "counts": counts})
        return
    listed = ", ".join(f"{counts[status]} {status}" for status in sorted(counts))
    output.show_line(f"{len(results)} documents: {listed}" if len(results) != 1 else f"1 document: {listed}")
    failed = [result for result in results if result.status in _TROUBLE]
    if failed:
        output.show_table(("document", "status", "why"), [(r.path, r.status, r.error) for r in failed])


def _collection(operation: Operation, tenant_id: UUID, slug: str) -> UUID:
    with tenant_transaction(operation.connection, tenant_id):
        collection_id, is_new = ensure_collection(operation.connection, tenant_id, slug)
    if is_new:
        output.note(f"made the collection {slug}")
    return collection_id
