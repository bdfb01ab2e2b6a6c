"""Payloads of the documents pipeline; all that a producer has to import."""

from typing import Any, ClassVar
from uuid import UUID

from pydantic import Field, model_validator

from pipelines.payload import Payload

MAX_QUERY_CHARACTERS = 10_000

DOCUMENTS_QUEUE = "documents"
EMBEDDING_QUEUE = "embedding"


class IngestDocument(Payload):
    """Make a file searchable: parse, chunk, embed, swap in.

    Give `path`, a file below the tenant's folder of the storage, or `url`, a file that is public on the web, to make a
    document of it (or a new version of the document that came from there before), known by that as its `external_id`:
    the task is done when the document stands there, which goes on by tasks of its own. Or give `document_id` of one
    that is registered already. `collection` is made if it is missing; `metadata` is added to what the document has.
    """

    task_type: ClassVar[str] = "document.ingest"

    path: str | None = Field(None, min_length=1, max_length=4096)
    url: str | None = Field(None, min_length=1, max_length=2048)
    document_id: UUID | None = None
    collection: str = Field("default", min_length=1, max_length=100)
    persona_id: UUID | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    force: bool = False

    @model_validator(mode="after")
    def _names_one(self) -> "IngestDocument":
        if sum(given is not None for given in (self.path, self.url, self.document_id)) != 1:
            raise ValueError("give one of path, url and document_id")
        if self.document_id is not None and (self.collection != "default" or self.persona_id or self.metadata):
            raise ValueError("a document that is registered has its collection, persona and metadata")
        return self


class ChunkDocument(Payload):
    """Split a parsed version of a document into chunks."""

    task_type: ClassVar[str] = "document.chunk"

    document_id: UUID
    version: int = Field(ge=1)


class EmbedChunks(Payload):
    """Embed a version's chunks from index `first` to `last` that have no vector in the space yet."""

    task_type: ClassVar[str] = "chunks.embed"

    document_id: UUID
    version: int = Field(ge=1)
    space_id: UUID
    first: int = Field(ge=0)
    last: int = Field(ge=0)


class FillSpace(Payload):
    """Embed all chunks of all tenants that have no vector in a space yet."""

    task_type: ClassVar[str] = "space.fill"

    space_id: UUID


class DeleteDocument(Payload):
    """Delete a document with everything that was made of it."""

    task_type: ClassVar[str] = "document.delete"

    document_id: UUID


class DeleteFile(Payload):
    """Remove a stored file unless a document names it."""

    task_type: ClassVar[str] = "file.delete"

    file_path: str = Field(min_length=1, max_length=4096)


class CountTerms(Payload):
    """Bring the statistics of a tenant's terms up to date, by which searches know rare words from common ones."""

    task_type: ClassVar[str] = "terms.count"


class EmbedQuery(Payload):
    """Embed the text of a search; the result is its vector, and the space that it belongs to."""

    task_type: ClassVar[str] = "query.embed"
    secret_fields: ClassVar[tuple[str, ...]] = ("text",)

    text: str = Field(min_length=1, max_length=MAX_QUERY_CHARACTERS)
