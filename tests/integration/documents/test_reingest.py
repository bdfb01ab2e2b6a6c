"""A request to ingest again is never lost, however it meets one that is under way."""

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from db import documents, tasks
from db import library as shelves
from db.connection import tenant_transaction
from pipelines.documents import ingest
from pipelines.documents.errors import EmptyFileError
from pipelines.documents.parsing import ParsedDocument, ParserProcess
from pipelines.documents.payloads import IngestDocument
from pipelines.enqueue import enqueue
from pipelines.transaction import Transaction
from tests.integration.documents.library import Library

_TEA = "# Tea\n\nOolong is half oxidised.\n"
_KNOTS = "# Knots\n\nA bowline holds a loop that does not slip.\n"


def upload(library: Library, name: str, content: str) -> UUID:
    """Write a file and register it in one go, while whatever runs goes on running."""
    (library.folder / name).write_text(content)
    connection, tenant_id = library.connection, library.tenant_id
    with tenant_transaction(connection, tenant_id):
        registered = documents.register(
            connection,
            tenant_id=tenant_id,
            collection_id=shelves.collection_id_of(connection, tenant_id, "default"),
            external_id=name,
            name=name,
            source="storage",
            file_path=f"{tenant_id}/{name}",
            file_size=len(content),
        )
        ingest.enqueue_ingest(Transaction(connection, tenant_id), registered.id)
    return registered.id


def text_of(library: Library, document_id: UUID) -> str:
    """Return what readers find of a document."""
    found: str = library.database.value(
        "SELECT string_agg(c.text, ' ') FROM knowledge.chunks c JOIN knowledge.documents d "
        "ON d.id = c.document_id AND d.current_version = c.version WHERE d.id = %s",
        (document_id,),
    )
    return found


def assert_replaced(library: Library, document_id: UUID) -> None:
    """Check that the ingest of the old file waits to be tried again, and then ingests the new one."""
    [(task_id, error)] = library.database.rows("SELECT id, last_error FROM queue.tasks_live")
    assert "another file" in error
    tasks.retry_now(library.connection, task_id)
    library.work()
    assert "bowline" in text_of(library, document_id)
    assert library.document(document_id)[0] == "completed"


@pytest.mark.parametrize("hashes", [1, 2], ids=["after the hash of an unchanged file", "after parsing"])
def test_a_file_uploaded_while_the_old_one_is_ingested_is_ingested_too(
    library: Library, monkeypatch: pytest.MonkeyPatch, hashes: int
) -> None:
    document_id = library.ingest("tea.md", _TEA)
    upload(library, "tea.md", _TEA if hashes == 1 else _TEA * 2)
    hashed = ingest._hash
    rest = [hashes]

    def hash_and_upload(path: Path) -> tuple[bytes, int]:
        found = hashed(path)
        rest[0] -= 1
        if rest[0] == 0:
            upload(library, "tea.md", _KNOTS)
        return found

    monkeypatch.setattr(ingest, "_hash", hash_and_upload)
    library.work()

    assert_replaced(library, document_id)


def test_a_good_file_uploaded_while_a_bad_one_is_refused_is_ingested(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    document_id = upload(library, "tea.md", "")
    parse = ParserProcess.parse

    def refuse_and_upload(*given: Any, **named: Any) -> ParsedDocument:
        try:
            return parse(*given, **named)
        except EmptyFileError:
            upload(library, "tea.md", _KNOTS)
            raise

    monkeypatch.setattr(ParserProcess, "parse", refuse_and_upload)
    library.work()

    assert_replaced(library, document_id)


def test_force_is_not_lost_to_an_ingest_that_waits(library: Library) -> None:
    document_id = library.ingest("tea.md", _TEA)
    upload(library, "tea.md", _TEA)
    with tenant_transaction(library.connection, library.tenant_id):
        transaction = Transaction(library.connection, library.tenant_id)
        forced = {ingest.enqueue_ingest(transaction, document_id, force=True) for _ in range(2)}
    library.work()

    assert len(forced) == 1
    assert library.document(document_id)[:2] == ("completed", 2)


def test_a_persona_that_is_named_later_has_the_document(library: Library) -> None:
    document_id = library.ingest("tea.md", _TEA)
    persona_id: UUID = library.database.value(
        "INSERT INTO assistants.personas (tenant_id, name, system_prompt) VALUES (%s, 'P', 'x') RETURNING id",
        (library.tenant_id,),
    )
    for named in (persona_id, None):
        enqueue(library.connection, IngestDocument(path="tea.md", persona_id=named))
        library.work()

        vector = "[" + ",".join(["0.1"] * 384) + "]"
        with tenant_transaction(library.connection, library.tenant_id):
            hits = documents.search(
                library.connection, library.tenant_id, "oolong", vector, limit=5, persona_id=persona_id
            )
        assert [hit.document_id for hit in hits] == [document_id]
