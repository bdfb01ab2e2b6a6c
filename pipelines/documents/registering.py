"""Files become documents: registered under what they are called, each with an ingest of its own to parse it."""

import tempfile
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import UUID

from core.errors import RetryableError
from db import audit, collections, documents, files
from pipelines.documents.fetching import Fetcher
from pipelines.documents.payloads import DeleteFile, IngestDocument
from pipelines.outcomes import Done, Outcome
from pipelines.storage import Storage, StoredObject
from pipelines.storage.errors import FileVanishedError
from pipelines.storage.owning import refuse_foreign
from pipelines.task import TaskContext
from pipelines.transaction import Transaction


def register_path(context: TaskContext, payload: IngestDocument, path: str) -> Outcome:
    """Make a document of a path in the tenant's folder."""
    tenant_id = context.require_tenant_id()
    storage = context.resources.get(Storage)
    named = PurePosixPath(path)
    key = storage.key_of(tenant_id, str(named))
    size = storage.size(tenant_id, key)

    def apply(transaction: Transaction) -> None:
        files.lock(transaction.connection, key)
        facts = {
            "external_id": str(named),
            "name": named.name,
            "source": "storage",
            "file_path": key,
            "file_size": size,
        }
        _register(transaction, tenant_id, payload, facts)

    return Done({"path": str(named)}, apply)


def register_url(context: TaskContext, payload: IngestDocument, url: str) -> Outcome:
    """Make a document of what stands at a URL, fetched into the storage first."""
    tenant_id = context.require_tenant_id()
    storage = context.resources.get(Storage)
    with tempfile.TemporaryDirectory(prefix="greenroom-fetch-") as folder:
        fetched_to = Path(folder) / "file"
        with fetched_to.open("wb") as file:
            fetched = context.resources.get(Fetcher).fetch(url, file)
        with context.read() as transaction:
            refuse_foreign(transaction.connection, storage)
        stored = storage.put(tenant_id, fetched_to)

    def apply(transaction: Transaction) -> None:
        if not is_held(transaction, storage, tenant_id, stored):
            raise RetryableError("the fetched file was removed before its document was made")
        facts = {
            "external_id": url,
            "name": fetched.name,
            "source": "url",
            "source_url": fetched.url,
            "file_path": stored.key,
            "file_size": stored.size,
        }
        document_id = _register(transaction, tenant_id, payload, facts)
        # without its address and its name, which may hold a secret
        audit.record(
            transaction.connection,
            "file_access",
            "file of a document fetched",
            audit.Resource("document", document_id, tenant_id),
            category="access",
            metadata={"file_path": stored.key, "size_bytes": stored.size},
        )

    return Done({"url": url, "size": fetched.size}, apply)


def is_held(transaction: Transaction, storage: Storage, tenant_id: UUID, stored: StoredObject) -> bool:
    """Lock a stored file against removal until the end of the transaction; False if a task was faster to remove it.

    Between `put` and the lock it had no document that names it.
    """
    files.lock(transaction.connection, stored.key)
    try:
        storage.size(tenant_id, stored.key)
    except FileVanishedError:
        return False
    return True


def enqueue_ingest(transaction: Transaction, document_id: UUID, *, force: bool = False) -> UUID:
    """Enqueue the ingest of a registered document; one of the same force that already waits is not doubled."""
    return transaction.enqueue(
        IngestDocument(document_id=document_id, force=force),
        owner_kind="document",
        owner_id=document_id,
        priority=5,
        unique_key=f"ingest:{document_id}:force" if force else f"ingest:{document_id}",
    )


def forget_former(transaction: Transaction, registered: documents.Registered, file_path: str) -> None:
    """Have the file removed that a document had before, unless something names it: it may never have been read."""
    if registered.former_path is not None and registered.former_path != file_path:
        transaction.enqueue(DeleteFile(file_path=registered.former_path))


def _register(transaction: Transaction, tenant_id: UUID, payload: IngestDocument, facts: dict[str, Any]) -> UUID:
    connection = transaction.connection
    registered = documents.register(
        connection,
        tenant_id=tenant_id,
        collection_id=collections.ensure_collection(connection, tenant_id, payload.collection)[0],
        persona_id=payload.persona_id,
        metadata=payload.metadata,
        **facts,
    )
    forget_former(transaction, registered, facts["file_path"])
    enqueue_ingest(transaction, registered.id, force=payload.force)
    return registered.id
