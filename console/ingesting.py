"""Ingest files: store each, register its document, enqueue its task, and follow the documents to their end."""

import contextlib
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

from console import output
from console.progress import Stages
from console.runtime import Operation
from console.sources import File, Source
from core.errors import NotFoundError, PermanentError, RetryableError, UnavailableError, WaitTimeoutError
from db import collections, documents, library, tasks
from db.connection import tenant_transaction
from db.library import DocumentState, states
from pipelines.documents.payloads import DOCUMENTS_QUEUE, EMBEDDING_QUEUE, ChunkDocument, IngestDocument
from pipelines.documents.registering import enqueue_ingest, forget_former, is_held
from pipelines.storage import StoredObject, storage_of
from pipelines.storage.owning import refuse_foreign
from pipelines.transaction import Transaction
from pipelines.waiting import wait_for

STAGES = ("stored", "parsed", "chunked", "embedded")
_POLL_SECONDS = (0.05, 0.5)
_LOOK_SECONDS = 5.0
_STORE_TRIES = 3


@dataclass(frozen=True, slots=True)
class Ingested:
    """What became of one file: `status` is completed, unchanged, failed, queued, held or deleted."""

    path: str
    name: str
    status: str
    document_id: UUID | None = None
    chunks: int | None = None
    error: str | None = None

    @property
    def has_ended(self) -> bool:
        """Whether nothing more is to come."""
        return self.status != "queued"


def _collection_of(operation: Operation, tenant_id: UUID, slug: str) -> UUID:
    """Return the id of a tenant's collection, made if there is none; raises InvalidOptionsError for a bad slug."""
    with tenant_transaction(operation.connection, tenant_id):
        collection_id, is_new = collections.ensure_collection(operation.connection, tenant_id, slug)
    if is_new:
        output.note(f"made the collection {slug}")
    return collection_id


class Ingest:
    """Ingests files into one collection of one tenant, with metadata, of a persona if one is given.

    With `force`, those that have not changed are made anew, too.
    """

    def __init__(
        self,
        operation: Operation,
        tenant_id: UUID,
        slug: str,
        *,
        persona_id: UUID | None = None,
        metadata: Mapping[str, Any] | None = None,
        force: bool = False,
    ) -> None:
        self._metadata = dict(metadata or {})
        self._persona_id = persona_id
        self._force = force
        self._slug = slug
        self._operation = operation
        self._connection = operation.connection
        self._tenant_id = tenant_id
        self._require_persona()
        self._collection_id = _collection_of(operation, tenant_id, slug)
        self._storage = storage_of(operation.settings)
        refuse_foreign(self._connection, self._storage)

    def run(self, files: Sequence[Source], *, wait: bool, quiet: bool) -> list[Ingested]:
        """Store and enqueue files, have those at URLs fetched; with `wait`, follow them until each has ended."""
        with Stages(STAGES, len(files), quiet=quiet) as stages:
            fetches = {file: self._enqueue_fetch(file) for file in files if isinstance(file, str)}
            results, stored = [], 0
            for file in files:
                results.append(self._add(file) if isinstance(file, File) else Ingested(file, file, "queued"))
                stored += isinstance(file, File)
                stages.reach("stored", stored)
            if not wait:
                return results
            ended = {}
            for url, task_id in fetches.items():
                ended[url] = self._fetched(url, task_id)
                stages.reach("stored", len(results) - len(fetches) + len(ended))
            return self._follow([ended.get(result.path, result) for result in results], stages)

    def _require_persona(self) -> None:
        if self._persona_id is None:
            return
        with tenant_transaction(self._connection, self._tenant_id):
            if not library.has_persona(self._connection, self._persona_id):
                raise NotFoundError(f"the tenant has no persona with the id {self._persona_id}")

    def _enqueue_fetch(self, url: str) -> UUID:
        with tenant_transaction(self._connection, self._tenant_id):
            payload = IngestDocument(
                url=url, collection=self._slug, persona_id=self._persona_id, metadata=self._metadata, force=self._force
            )
            return Transaction(self._connection, self._tenant_id).enqueue(payload)

    def _fetched(self, url: str, task_id: UUID) -> Ingested:
        """Wait until a worker has made a document of a URL; raises UnavailableError when nobody works any more."""
        result = Ingested(url, url, "queued")
        while True:
            with contextlib.suppress(WaitTimeoutError):
                end = wait_for(self._connection, task_id, timeout=_LOOK_SECONDS)
                break
            self._require_workers()
            task = tasks.show(self._connection, task_id)
            if task is not None and task.hold_reason:
                return replace(result, status="held", error=task.hold_reason)
        if end.status != "done":
            return replace(result, status="failed", error=end.error or end.status)
        with tenant_transaction(self._connection, self._tenant_id):
            document_id = library.by_external_id(self._connection, self._collection_id, url)
        return replace(result, document_id=document_id, status="queued" if document_id else "deleted")

    def _add(self, file: File) -> Ingested:
        result = Ingested(file.source, file.name, "queued")
        try:
            document_id, is_unchanged = self._register(file.path, result)
        except (PermanentError, RetryableError) as error:
            return replace(result, status="failed", error=str(error))
        except OSError as error:
            return replace(result, status="failed", error=f"{error.strerror or error}: the file cannot be stored")
        return replace(result, document_id=document_id, status="unchanged" if is_unchanged else "queued")

    def _register(self, path: Path, result: Ingested) -> tuple[UUID, bool]:
        """Store a file and make it a document's; return the document's id and whether nothing has to be done."""
        for _ in range(_STORE_TRIES):
            stored = self._storage.put(self._tenant_id, path)
            with tenant_transaction(self._connection, self._tenant_id):
                if is_held(Transaction(self._connection, self._tenant_id), self._storage, self._tenant_id, stored):
                    return self._write(result, stored)
        raise RetryableError("the stored file was removed again and again: is another program cleaning the storage?")

    def _write(self, result: Ingested, stored: StoredObject) -> tuple[UUID, bool]:
        registered = documents.register(
            self._connection,
            tenant_id=self._tenant_id,
            collection_id=self._collection_id,
            persona_id=self._persona_id,
            metadata=self._metadata,
            external_id=_key_of(result.path),
            name=result.name,
            source="file",
            file_path=stored.key,
            file_size=stored.size,
        )
        forget_former(Transaction(self._connection, self._tenant_id), registered, stored.key)
        is_unchanged = registered.status == "completed" and registered.content_hash == bytes.fromhex(stored.sha256)
        if is_unchanged and not self._force:
            return registered.id, True
        enqueue_ingest(Transaction(self._connection, self._tenant_id), registered.id, force=self._force)
        return registered.id, False

    def _follow(self, results: list[Ingested], stages: Stages) -> list[Ingested]:
        """Poll the documents until none has a live task; raises UnavailableError when nobody works any more."""
        pause, longest = _POLL_SECONDS
        look_at = time.monotonic() + _LOOK_SECONDS
        while True:
            results = self._look(results, stages)
            if all(result.has_ended for result in results):
                return results
            if time.monotonic() > look_at:
                self._require_workers()
                look_at = time.monotonic() + _LOOK_SECONDS
            time.sleep(pause)
            pause = min(pause * 1.3, longest)

    def _look(self, results: Sequence[Ingested], stages: Stages) -> list[Ingested]:
        waiting = [result.document_id for result in results if not result.has_ended and result.document_id]
        with tenant_transaction(self._connection, self._tenant_id):
            now = states(self._connection, waiting)
        looked = [_seen(result, now) for result in results]
        for stage, passed in _PASSED.items():
            live = [now[key].live_types for key in waiting if key in now and not now[key].has_ended]
            stages.reach(stage, len(results) - sum(not passed(types) for types in live))
        return looked

    def _require_workers(self) -> None:
        for queue in (DOCUMENTS_QUEUE, EMBEDDING_QUEUE):
            if not self._operation.is_served(queue):
                raise UnavailableError(
                    f"no worker serves the queue {queue!r} any more; the documents stay queued: start `greenroom up`"
                )


# A stage is passed by a document none of whose live tasks belongs to it or to one before.
_PASSED: dict[str, Callable[[frozenset[str]], bool]] = {
    "parsed": lambda types: IngestDocument.task_type not in types,
    "chunked": lambda types: not types & {IngestDocument.task_type, ChunkDocument.task_type},
    "embedded": lambda types: not types,
}


def _seen(result: Ingested, now: Mapping[UUID, DocumentState]) -> Ingested:
    if result.has_ended or result.document_id is None:
        return result
    state = now.get(result.document_id)
    if state is None:
        return replace(result, status="deleted", error="the document was deleted meanwhile")
    if state.hold_reason:
        return replace(result, status="held", error=state.hold_reason)
    if not state.has_ended:
        return result
    return replace(result, status=state.status, chunks=state.chunk_count, error=state.error_message)


def _key_of(source: str) -> str:
    """Return the external id of a source; one of escapes may be longer than a row holds."""
    return source if len(source) <= 4096 else "sha256:" + hashlib.sha256(source.encode()).hexdigest()
