"""Handlers of `document.delete` and `file.delete`: nothing of a document stays."""

from db import documents, files
from pipelines.documents.payloads import DeleteDocument, DeleteFile
from pipelines.documents.terms import enqueue_count
from pipelines.outcomes import Done, Outcome
from pipelines.storage import Storage
from pipelines.storage.discarding import discard
from pipelines.task import TaskContext
from pipelines.transaction import Transaction


def delete_document(context: TaskContext, payload: DeleteDocument) -> Outcome:
    """Delete a document's rows in one transaction; its file goes by a task of its own, after the commit."""
    tenant_id = context.require_tenant_id()

    def apply(transaction: Transaction) -> None:
        for file_path in documents.delete(transaction.connection, tenant_id, payload.document_id):
            transaction.enqueue(DeleteFile(file_path=file_path))
        enqueue_count(transaction)

    return Done({"document_id": str(payload.document_id)}, apply)


def delete_file(context: TaskContext, payload: DeleteFile) -> Outcome:
    """Remove a stored file that no row names any more; another ingest of the same bytes keeps it."""
    tenant_id = context.require_tenant_id()
    storage = context.resources.get(Storage)

    def apply(transaction: Transaction) -> None:
        notes = files.notes_of(transaction.connection, tenant_id, payload.file_path)
        discard(transaction.connection, storage, tenant_id, payload.file_path, notes)

    return Done(apply=apply)
