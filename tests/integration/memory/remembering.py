"""Personas whose chunks are condensed by the tasks themselves, as workers run them, by the packaged model."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from pgvector import Vector

from console.setup import create_space
from db import documents, identity, spaces
from db import memory as store
from db import search as searching
from db.connection import tenant_transaction
from db.documents import ChunkRow
from db.memory import Memory, SourceRow
from db.search import Filters, Hit, QueryVector
from pipelines.documents import tasks as documents_tasks
from pipelines.documents.models import find_model
from pipelines.documents.tokens import count
from pipelines.memory import tasks
from pipelines.memory.payloads import CurateMemory, unique_key
from pipelines.registry import Registry
from pipelines.resources import Resources
from tests.integration.documents.shared import Shared
from tests.support.database import Database
from tests.support.engine import publish
from workers.testing import TaskRun, drain, run_task

REGISTRY = Registry([*tasks.TASKS, *documents_tasks.TASKS])
[CURATE_ALL, CURATE] = tasks.TASKS
_DOCUMENT = """
INSERT INTO knowledge.documents (tenant_id, persona_id, name, external_id, file_path, next_version)
VALUES (%s, %s, %s, %s, %s, 1) RETURNING id
"""
_CHUNKS = """
SELECT c.id, concat_ws(E'\n', NULLIF(c.header, ''), c.text) FROM knowledge.chunks c
WHERE c.document_id = %s AND c.version = %s ORDER BY c.chunk_index
"""


class Remembering:
    """A tenant's personas, what they read, and what their memory makes of it."""

    def __init__(self, database: Database, resources: Resources, shared: Shared) -> None:
        self.database, self.resources, self.shared = database, resources, shared
        self.connection = database.connect("operator")
        self.worker = database.connect("worker")
        self.tenant_id = identity.tenant_id_of(self.connection, "default")
        create_space(database.connect(), find_model())
        publish(database, REGISTRY)
        self.space_id = spaces.active_space(self.connection).id

    def persona(self, name: str = "Ada") -> UUID:
        """Make a persona."""
        insert = "INSERT INTO assistants.personas (tenant_id, name, system_prompt) VALUES (%s, %s, 'p') RETURNING id"
        made: UUID = self.database.value(insert, (self.tenant_id, name))
        return made

    def read(self, persona_id: UUID | None, *texts: str, name: str = "notes", embedded: bool = True) -> UUID:
        """Have a persona read a document of these chunks; return its id."""
        values = (self.tenant_id, persona_id, name, f"{name}:{persona_id}", f"sha256/{name}")
        document_id: UUID = self.database.value(_DOCUMENT, values)
        self._write(document_id, 1, texts, embedded=embedded)
        return document_id

    def reread(self, document_id: UUID, *texts: str) -> None:
        """Have the document's next version take the place of the one before."""
        raised = "UPDATE knowledge.documents SET next_version = next_version + 1 WHERE id = %s RETURNING next_version"
        self._write(document_id, self.database.value(raised, (document_id,)), texts, embedded=True)

    def _write(self, document_id: UUID, version: int, texts: Sequence[str], *, embedded: bool) -> None:
        rows = [
            ChunkRow(place, "", text, count(text), None, None, place, place + 1) for place, text in enumerate(texts)
        ]
        with tenant_transaction(self.worker, self.tenant_id):
            documents.insert_chunks(self.worker, document_id, version, rows)
        if embedded:
            self.embed(document_id, version)

    def embed(self, document_id: UUID, version: int = 1) -> None:
        """Write the vectors of a version's chunks, and show it."""
        chunks = self.database.rows(_CHUNKS, (document_id, version))
        vectors = self.shared.embedder().embed([text for _, text in chunks])
        with tenant_transaction(self.worker, self.tenant_id):
            ids = [chunk_id for chunk_id, _ in chunks]
            documents.insert_vectors(self.worker, self.space_id, ids, [Vector(vector) for vector in vectors])
            documents.swap_if_complete(self.worker, document_id, version)

    def curate(self, persona_id: UUID, resources: Resources | None = None) -> dict[str, Any]:
        """Curate a persona's memory to the end; return the task's result."""
        options: dict[str, Any] = {"tenant_id": self.tenant_id, "unique_key": unique_key(persona_id)}
        payload = CurateMemory(persona_id=persona_id)
        first = self.attempt(payload, resources, **options)
        drain(self.database, REGISTRY, resources=resources or self.resources)
        [(status, result, error)] = self.database.rows(
            "SELECT status, result, last_error FROM queue.outbox_tasks WHERE id = %s", (first.task_id,)
        )
        assert status == "done", error
        found: dict[str, Any] = result
        return found

    def attempt(self, payload: CurateMemory, resources: Resources | None = None, **options: Any) -> TaskRun:
        """Run one attempt of a curation."""
        options.setdefault("tenant_id", self.tenant_id)
        return run_task(
            self.database, CURATE, payload, registry=REGISTRY, resources=resources or self.resources, **options
        )

    def memories(self, persona_id: UUID, *, is_all: bool = False) -> list[Memory]:
        """Return a persona's memories, the oldest first."""
        with tenant_transaction(self.connection, self.tenant_id):
            return store.listed(self.connection, persona_id, is_all=is_all, limit=1000)[::-1]

    def sources(self, memory: Memory) -> list[SourceRow]:
        """Return what a memory was made of."""
        with tenant_transaction(self.connection, self.tenant_id):
            return store.sources(self.connection, [memory.chunk_id]).get(memory.chunk_id, [])

    def counts(self, persona_id: UUID) -> store.Counts:
        """Return a persona's counts."""
        with tenant_transaction(self.connection, self.tenant_id):
            return store.counts(self.connection, persona_id, self.space_id)

    def due(self, persona_id: UUID) -> list[str]:
        """Return the texts of chunks that are due, by their ids."""
        with tenant_transaction(self.connection, self.tenant_id):
            return [chunk.text for chunk in store.due(self.connection, persona_id, self.space_id, 10_000)]

    def search(self, text: str, persona_id: UUID | None = None, *, is_curated: bool | None = None) -> list[Hit]:
        """Search by meaning and by words."""
        vector = Vector(self.shared.embedder().embed([text])[0]).to_text()
        with tenant_transaction(self.connection, self.tenant_id):
            return searching.search(
                self.connection,
                self.tenant_id,
                text,
                QueryVector(self.space_id, vector),
                limit=20,
                filters=Filters(persona_id=persona_id, is_curated=is_curated),
            )
