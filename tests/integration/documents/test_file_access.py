"""Files that were read or fetched stand in the audit, by the transaction in which that has its effect."""

from pathlib import Path
from typing import Any
from uuid import UUID

from core.settings import load_settings
from pipelines.documents.payloads import IngestDocument
from pipelines.enqueue import enqueue
from tests.integration.documents.library import Library
from tests.integration.documents.shared import Shared
from tests.support.database import Database
from tests.support.site import Site

TEA = "# Tea\n\nOolong is a tea that is partly oxidised."
QUERY = """
SELECT description, event_category, status, tenant_id, actor, metadata FROM audit.audit_events
WHERE event_type = 'file_access' AND resource_type = 'document' AND resource_id = %s ORDER BY created_at
"""


def accesses(database: Database, document_id: UUID) -> list[tuple[Any, ...]]:
    return database.rows(QUERY, (str(document_id),))


def test_a_file_that_is_read_is_noted_with_its_version(library: Library) -> None:
    tea = library.ingest("tea.md", TEA)
    read = ("file of a document read", "access", "success", library.tenant_id, "greenroom_worker")
    facts = {"file_path": f"{library.tenant_id}/tea.md", "size_bytes": len(TEA), "version": 1}
    assert accesses(library.database, tea) == [(*read, facts)]

    library.ingest("tea.md", TEA)
    assert len(accesses(library.database, tea)) == 1, "nothing was taken of a file that is as it was"

    library.ingest("tea.md", TEA + "!")
    assert [row[-1]["version"] for row in accesses(library.database, tea)] == [1, 2]


def test_a_personas_file_is_noted_as_that_personas(library: Library) -> None:
    create = "INSERT INTO assistants.personas (tenant_id, name, system_prompt) VALUES (%s, 'Ada', 'x') RETURNING id"
    persona_id = library.database.value(create, (library.tenant_id,))
    (library.folder / "tea.md").write_text(TEA)
    enqueue(library.connection, IngestDocument(path="tea.md", persona_id=persona_id))
    library.work()
    assert library.database.rows("SELECT persona_id FROM audit.audit_events") == [(persona_id,)]


def test_a_file_that_cannot_be_read_leaves_no_version_and_no_note(library: Library) -> None:
    broken = library.ingest("tea.pdf", "no PDF")
    assert library.document(broken)[0] == "failed"
    assert accesses(library.database, broken) == []


def test_a_file_that_is_fetched_is_noted_without_its_address(
    database: Database, site: Site, shared: Shared, tmp_path: Path
) -> None:
    site.pages["/secret-7/token-8.md?key=9"] = (200, {"Content-Type": "text/markdown"}, TEA.encode())
    given = {"fetch_networks": "127.0.0.0/8", "max_bytes": 1000}
    settings = load_settings(_env_file=None, storage={"root": tmp_path}, documents=given)
    resources = shared.resources(settings)
    library = Library(database, resources, tmp_path)
    try:
        enqueue(library.connection, IngestDocument(url=site.url("/secret-7/token-8.md?key=9")))
        library.work()
        [(document_id, path)] = database.rows("SELECT id, file_path FROM knowledge.documents")
        fetched, read = accesses(database, document_id)
    finally:
        library.line.close()
        resources.close()
    assert fetched[:3] == ("file of a document fetched", "access", "success")
    assert fetched[-1] == {"file_path": path, "size_bytes": len(TEA)}
    assert read[0] == "file of a document read"
    assert [word for word in ("secret-7", "token-8", "key=9", "127.0.0.1") if word in str((fetched, read))] == []
