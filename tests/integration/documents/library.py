"""A tenant's documents, worked on step by step: for the tests of the whole pipeline."""

from pathlib import Path
from uuid import UUID

from psycopg.types.json import Jsonb

from console.setup import create_space
from db import identity, spaces
from db import search as store
from db.connection import tenant_transaction
from db.search import UNFILTERED, Filters, Hit, QueryVector, Strategy
from pipelines.documents.models import find_model
from pipelines.documents.payloads import EmbedQuery
from pipelines.enqueue import enqueue
from pipelines.registry import load_registry
from pipelines.resources import Resources
from tests.support.database import Database
from tests.support.engine import Line


class Library:
    """A tenant's documents, worked on step by step."""

    def __init__(self, database: Database, resources: Resources, storage_root: Path) -> None:
        self.database = database
        self.line = Line(database, load_registry(), resources=resources)
        self.connection = database.connect("operator")
        self.tenant_id = identity.tenant_id_of(self.connection, "default")
        self.folder = storage_root / str(self.tenant_id)
        self.folder.mkdir(exist_ok=True)
        create_space(database.connect(), find_model())

    def write(self, name: str, content: str | bytes) -> UUID:
        """Put a file into the tenant's folder and insert its task as a foreign producer does."""
        (self.folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        [(task_id,)] = self.database.rows(
            "INSERT INTO queue.outbox_tasks (task_type, payload) VALUES ('document.ingest', %s) RETURNING id",
            (Jsonb({"path": name}),),
        )
        assert isinstance(task_id, UUID)
        return task_id

    def work(self) -> None:
        """Run until nothing is due."""
        while self.line.run_once():
            pass

    def ingest(self, name: str, content: str | bytes) -> UUID:
        """Ingest a file to the end; return its document's id."""
        self.write(name, content)
        self.work()
        found: UUID = self.database.value("SELECT id FROM knowledge.documents WHERE external_id = %s", (name,))
        return found

    def document(self, document_id: UUID) -> tuple[str, int, int, str | None]:
        """Return (status, current version, chunks, error)."""
        [row] = self.database.rows(
            "SELECT status, current_version, chunk_count, error_message FROM knowledge.documents WHERE id = %s",
            (document_id,),
        )
        return row

    def search(self, text: str, *, strategy: Strategy = "hybrid", filters: Filters = UNFILTERED) -> list[Hit]:
        """Search with a vector that an embedding task computes."""
        task_id = enqueue(self.connection, EmbedQuery(text=text))
        self.work()
        found = self.line.task(task_id)["result"]
        vector = QueryVector(UUID(found["space_id"]), found["vector"])
        with tenant_transaction(self.connection, self.tenant_id):
            return store.search(
                self.connection, self.tenant_id, text, vector, strategy=strategy, limit=5, filters=filters
            )

    def any_vector(self) -> QueryVector:
        """Return a vector of no meaning in the active space."""
        return QueryVector(spaces.active_space(self.database.connect()).id, "[" + ",".join(["0.1"] * 384) + "]")

    def embedded(self) -> int:
        """Return how many chunks have been through the model so far."""
        found: int = self.database.value(
            "SELECT COALESCE(sum((result->>'embedded')::integer), 0)::integer FROM queue.outbox_tasks "
            "WHERE task_type = 'chunks.embed' AND status = 'done'"
        )
        return found
