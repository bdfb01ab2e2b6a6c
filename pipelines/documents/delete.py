"""Handlers of `document.delete` and `file.delete`: nothing of a document stays."""

from pathlib import PurePosixPath

from db import documents
from pipelines.documents.errors import StoragePathError
from pipelines.documents.payloads import DeleteDocument, DeleteFile
from pipelines.documents.storage import LocalStorage
from pipelines.outcomes import Done, Outcome
from pipelines.task import TaskContext
from pipelines.transaction import Transaction


def delete_document(context: TaskContext, payload: DeleteDocument) -> Outcome:
    """Delete a document's rows in one transaction; its file goes by a task of its own, after the commit."""

    def apply(transaction: Transaction) -> None:
        if context.tenant_id is None:
            return
        for file_path in documents.delete(transaction.connection, context.tenant_id, payload.document_id):
            transaction.enqueue(DeleteFile(file_path=file_path))

    return Done({"document_id": str(payload.document_id)}, apply)


def delete_file(context: TaskContext, payload: DeleteFile) -> Outcome:
    """Remove a stored file that no document names any more; another ingest of the same bytes keeps it."""
    storage = context.resources.get(LocalStorage)
    if not payload.file_path.startswith(f"{context.tenant_id}/") or ".." in PurePosixPath(payload.file_path).parts:
        raise StoragePathError("The storage key is not one of the task's tenant.")

    def apply(transaction: Transaction) -> None:
        if context.tenant_id is None:
            return
        # Under the lock that registering takes too; removing is repeatable, should this transaction not commit.
        documents.lock_file(transaction.connection, payload.file_path)
        if not documents.is_file_used(transaction.connection, context.tenant_id, payload.file_path):
            storage.delete(payload.file_path)

    return Done(apply=apply)
