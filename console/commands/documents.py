"""`greenroom documents`: what has been ingested, and the end of it."""

from dataclasses import asdict
from typing import Annotated, Literal
from uuid import UUID

import typer

from console import output
from console.options import AsJson, Before, Collection, Limit, Tenant, Timeout, id_of
from console.runtime import Operation, operate
from core.errors import GreenroomError, NotFoundError, UnavailableError, UsageError
from db import library, tasks
from db.connection import tenant_transaction

app = typer.Typer(help="Documents: list, show, retry, delete.", no_args_is_help=True)
Status = Literal["pending", "processing", "completed", "failed"]
Named = Annotated[str, typer.Argument(metavar="DOCUMENT", help="Its id, name or path.")]


@app.command("list")
def list_(
    status: Annotated[Status | None, typer.Option("--status", help="Only those of that status.")] = None,
    collection: Collection = None,
    limit: Limit = 20,
    before: Before = None,
    tenant: Tenant = None,
    as_json: AsJson = False,
) -> None:
    """List documents, newest first."""
    page = id_of(before)
    with operate() as operation, tenant_transaction(operation.connection, operation.tenant_id(tenant)):
        rows = library.list_documents(
            operation.connection, status=status, collection=collection, limit=limit, before=page
        )
    following = rows[-1].id if len(rows) == limit else None
    if as_json:
        output.show_json({"documents": [asdict(row) for row in rows], "next": following})
        return
    output.show_table(
        ("id", "document", "collection", "status", "#chunks", "#pages", "#size", "error"),
        [
            (
                r.id,
                r.name,
                r.collection,
                r.status,
                r.chunk_count,
                r.page_count,
                output.size(r.file_size),
                r.error_message,
            )
            for r in rows
        ],
        empty="no documents: `greenroom ingest PATH` makes some",
    )
    if following:
        output.note(f"more: --before {following}")


@app.command()
def show(
    document: Named,
    chunks: Annotated[int, typer.Option("--chunks", min=0, max=10_000, help="Show so many chunks.")] = 5,
    tenant: Tenant = None,
    as_json: AsJson = False,
) -> None:
    """Show one document and its first chunks."""
    with operate() as operation, tenant_transaction(operation.connection, operation.tenant_id(tenant)):
        document_id = library.find(operation.connection, document)
        found = library.show(operation.connection, document_id)
        listed = library.chunks(operation.connection, document_id, limit=chunks)
    if found is None:  # deleted between the two reads
        raise GreenroomError("the document was deleted just now")
    if as_json:
        output.show_json(asdict(found) | {"chunks": [asdict(chunk) for chunk in listed]})
        return
    output.show_fields(list(asdict(found).items()))
    if listed:
        columns = ("#chunk", "#tokens", "#page", "section", "text")
        output.show_table(columns, [(c.chunk_index + 1, c.token_count, c.page, c.section, c.text) for c in listed])


@app.command()
def text(document: Named, tenant: Tenant = None, as_json: AsJson = False) -> None:
    """Print a document's whole text, as searches find it: what its chunks' offsets count in."""
    with operate() as operation, tenant_transaction(operation.connection, operation.tenant_id(tenant)):
        found = library.text_of(operation.connection, library.find(operation.connection, document))
    if found is None:
        raise NotFoundError(f"{document} has no text that searches find: `greenroom documents show` says why")
    if as_json:
        output.show_json({"text": found})
    else:
        output.show_line(found)


@app.command()
def retry(
    documents: Annotated[list[str] | None, typer.Argument(metavar="[DOCUMENT]...", help="Ids, names or paths.")] = None,
    failed: Annotated[bool, typer.Option("--failed", help="All that failed.")] = False,
    tenant: Tenant = None,
    as_json: AsJson = False,
) -> None:
    """Let failed documents go on at the stage that failed: what was done before is not done again."""
    if bool(documents) == failed:
        raise UsageError("name documents, or say --failed")
    replayed: dict[UUID, None] = {}
    with operate() as operation:
        tenant_id = operation.tenant_id(tenant)
        with tenant_transaction(operation.connection, tenant_id):
            ids = [library.find(operation.connection, name) for name in dict.fromkeys(documents or ())]
        found = _replay_failed(operation, tenant_id, ids)
        while found - replayed.keys():  # one that fails again meanwhile is not tried for ever
            replayed |= dict.fromkeys(found)
            found = _replay_failed(operation, tenant_id, ids)
    if as_json:
        output.show_json({"tasks": list(replayed)})
    else:
        output.show_line(f"{len(replayed)} tasks replayed" if replayed else "no document failed")


def _replay_failed(operation: Operation, tenant_id: UUID, ids: list[UUID]) -> set[UUID]:
    with tenant_transaction(operation.connection, tenant_id):
        return set(tasks.replay(operation.connection, library.failed_tasks(operation.connection, ids or None)))


@app.command()
def delete(
    documents: Annotated[list[str], typer.Argument(metavar="DOCUMENT...", help="Ids, names or paths.")],
    tenant: Tenant = None,
    wait: Annotated[bool, typer.Option(help="Wait until they are gone.")] = True,
    timeout: Timeout = 60.0,
    as_json: AsJson = False,
) -> None:
    """Delete documents with their texts, chunks, vectors and stored files."""
    from pipelines.documents.payloads import DOCUMENTS_QUEUE, DeleteDocument
    from pipelines.enqueue import enqueue_many
    from pipelines.waiting import wait_for_all

    with operate(works=wait) as operation:
        if wait:
            operation.require_worker(DOCUMENTS_QUEUE)
        tenant_id = operation.tenant_id(tenant)
        with tenant_transaction(operation.connection, tenant_id):
            ids = [library.find(operation.connection, name) for name in dict.fromkeys(documents)]
            payloads = [DeleteDocument(document_id=document_id) for document_id in ids]
            task_ids = enqueue_many(operation.connection, payloads, tenant_id=tenant_id)
        ends = wait_for_all(operation.connection, task_ids, timeout=timeout) if wait else []
    failed = [end for end in ends if end.status != "done"]
    _show_deleted(ids, task_ids, len(ids) - len(failed) if wait else None, as_json=as_json)
    if failed:
        raise UnavailableError(f"{len(failed)} of {len(ids)} were not deleted: {failed[0].error or failed[0].status}")


def _show_deleted(ids: list[UUID], task_ids: list[UUID], deleted: int | None, *, as_json: bool) -> None:
    if as_json:
        output.show_json({"documents": ids, "tasks": task_ids, "waited": deleted is not None, "deleted": deleted})
    else:
        output.show_line(f"{len(ids)} to be deleted" if deleted is None else f"{deleted} deleted")
