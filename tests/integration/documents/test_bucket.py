"""The pipeline over a bucket: what a producer puts there is ingested, followed when it changes, and removed at last."""

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from core.settings import load_settings
from pipelines.documents.payloads import DeleteDocument, IngestDocument
from pipelines.enqueue import enqueue
from tests.integration.documents.library import Library
from tests.integration.documents.shared import Shared
from tests.support.database import Database
from tests.support.s3_server import BUCKET, S3Server, s3_server


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture
def shelf(database: Database, server: S3Server, shared: Shared, tmp_path: Path) -> Iterator[Library]:
    """A library whose files are in the bucket."""
    settings = load_settings(
        _env_file=None, storage={"url": f"s3://{BUCKET}", "options": server.options_json, "root": tmp_path}
    )
    resources = shared.resources(settings)
    library = Library(database, resources, tmp_path)
    yield library
    library.line.close()
    resources.close()


def test_a_document_lives_in_a_bucket_from_its_ingest_to_its_end(shelf: Library, server: S3Server) -> None:
    files, path = server.files(), f"{BUCKET}/{shelf.tenant_id}/notes/tea.md"

    def ingest(content: bytes) -> UUID:
        files.pipe_file(path, content)
        enqueue(shelf.connection, IngestDocument(path="notes/tea.md"))
        shelf.work()
        found: UUID = shelf.database.value("SELECT id FROM knowledge.documents WHERE external_id = 'notes/tea.md'")
        return found

    document_id = ingest(b"# Tea\n\nGreen tea is steeped at eighty degrees.\n")
    assert shelf.document(document_id) == ("completed", 1, 1, None)
    assert "eighty" in shelf.search("at what temperature is tea steeped?")[0].text

    assert ingest(b"# Tea\n\nGreen tea is steeped at eighty degrees.\n") == document_id
    assert shelf.document(document_id)[1] == 1, "the same bytes again are no new version"

    ingest(b"# Tea\n\nGreen tea is steeped at seventy degrees.\n")
    assert shelf.document(document_id) == ("completed", 2, 1, None)
    assert "seventy" in shelf.search("at what temperature is tea steeped?")[0].text

    enqueue(shelf.connection, DeleteDocument(document_id=document_id))
    shelf.work()
    assert not files.exists(path)
    assert shelf.database.value("SELECT count(*) FROM knowledge.documents") == 0
