"""`greenroom ingest`: files become searchable documents."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from console import output
from console.options import AsJson, Collection, Tenant
from console.runtime import operate

if TYPE_CHECKING:
    from console.ingesting import Ingested

_TROUBLE = ("failed", "held", "deleted")


def ingest(
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="Files, folders, patterns or URLs.")],
    collection: Collection = None,
    tenant: Tenant = None,
    wait: Annotated[bool, typer.Option(help="Wait until each document is searchable or has failed.")] = True,
    as_json: AsJson = False,
) -> None:
    """Make files searchable. What has not changed since is left as it is."""
    from console.ingesting import Ingest, find_files
    from pipelines.documents.payloads import DOCUMENTS_QUEUE

    files = find_files(paths)
    with operate(works=wait) as operation:
        tenant_id = operation.tenant_id(tenant)
        if wait:
            operation.require_worker(DOCUMENTS_QUEUE)
        results = Ingest(operation, tenant_id, collection or "default").run(files, wait=wait, quiet=as_json)
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
