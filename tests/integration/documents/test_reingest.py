"""A request to ingest again is never lost, however it meets one that is under way."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from db import collections, documents, tasks
from db.connection import tenant_transaction
from db.search import Filters
from pipelines.documents import registering
from pipelines.documents.parsing import ParserProcess
from pipelines.documents.payloads import DeleteFile, IngestDocument
from pipelines.enqueue import enqueue
from pipelines.storage import local
from pipelines.transaction import Transaction
from tests.integration.documents.library import Library

_TEA = "# Tea\n\nOolong is half oxidised.\n"
_KNOTS = "# Knots\n\nA bowline holds a loop that does not slip.\n"


def upload(library: Library, name: str, content: str, *, file: str | None = None) -> UUID:
    """Write a file and register it in one go, while whatever runs goes on running; `file` is its name on the disk."""
    file = file or name
    (library.folder / file).write_text(content)
    connection, tenant_id = library.connection, library.tenant_id
    with tenant_transaction(connection, tenant_id):
        registered = documents.register(
            connection,
            tenant_id=tenant_id,
            collection_id=collections.collection_id_of(connection, tenant_id, "default"),
            external_id=name,
            name=name,
            source="storage",
            file_path=f"{tenant_id}/{file}",
            file_size=len(content),
        )
        registering.enqueue_ingest(Transaction(connection, tenant_id), registered.id)
    return registered.id


def text_of(library: Library, document_id: UUID) -> str:
    """Return what readers find of a document."""
    found: str = library.database.value(
        "SELECT string_agg(c.text, ' ') FROM knowledge.chunks c JOIN knowledge.documents d "
        "ON d.id = c.document_id AND d.current_version = c.version WHERE d.id = %s",
        (document_id,),
    )
    return found


def ingest_of(library: Library, document_id: UUID) -> tuple[str, int, int]:
    """Return (status, attempts, snoozes) of a document's only ingest."""
    [row] = library.database.rows(
        "SELECT status, attempts, snoozes FROM queue.outbox_tasks "
        "WHERE task_type = 'document.ingest' AND owner_id = %s",
        (document_id,),
    )
    return row


def assert_newest_is_read(library: Library, document_id: UUID) -> None:
    """Check that the ingest which waits reads the file that came meanwhile."""
    [(task_id,)] = library.database.rows("SELECT id FROM queue.tasks_live WHERE task_type = 'document.ingest'")
    tasks.retry_now(library.connection, task_id)
    library.work()
    assert "bowline" in text_of(library, document_id)
    assert library.document(document_id)[0] == "completed"


def once_after(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, number: int, act: Callable[[], object]) -> None:
    """Do something when a function was called for the `number`-th time, whether it returned or raised."""
    original = getattr(owner, name)
    rest = [number]

    def call_and_act(*given: Any, **named: Any) -> Any:
        try:
            return original(*given, **named)
        finally:
            rest[0] -= 1
            if rest[0] == 0:
                act()

    monkeypatch.setattr(owner, name, call_and_act)


@pytest.mark.parametrize(
    ("owner", "name", "number"),
    [(ParserProcess, "parse", 1), (local, "hash_of", 2)],
    ids=["during the parse", "in the last moment"],
)
def test_the_same_bytes_named_again_while_they_are_read_cost_nothing(
    library: Library, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, number: int
) -> None:
    document_id = upload(library, "knots.md", _KNOTS)
    once_after(monkeypatch, owner, name, number, lambda: upload(library, "knots.md", _KNOTS))
    library.work()

    assert ingest_of(library, document_id) == ("done", 1, 0)
    assert library.document(document_id)[0] == "completed"


def test_a_refused_file_named_again_while_it_is_read_fails_at_once(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    document_id = upload(library, "tea.md", "")
    once_after(monkeypatch, ParserProcess, "parse", 1, lambda: upload(library, "tea.md", ""))
    library.work()

    assert ingest_of(library, document_id) == ("failed", 1, 0)


@pytest.mark.parametrize("file", ["tea.md", "other.md"], ids=["over the old one", "beside the old one"])
@pytest.mark.parametrize("content", [_TEA, ""], ids=["good", "refused"])
def test_a_file_uploaded_while_the_old_one_is_parsed_is_waited_for(
    library: Library, monkeypatch: pytest.MonkeyPatch, content: str, file: str
) -> None:
    document_id = upload(library, "tea.md", content)
    once_after(monkeypatch, ParserProcess, "parse", 1, lambda: upload(library, "tea.md", _KNOTS, file=file))
    library.work()

    assert ingest_of(library, document_id) == ("pending", 0, 1)
    assert_newest_is_read(library, document_id)


@pytest.mark.parametrize("hashes", [1, 2], ids=["after the hash of an unchanged file", "after the last hash"])
def test_a_file_uploaded_in_the_last_moment_is_ingested_too(
    library: Library, monkeypatch: pytest.MonkeyPatch, hashes: int
) -> None:
    document_id = library.ingest("tea.md", _TEA)
    upload(library, "tea.md", _TEA if hashes == 1 else _TEA * 2)
    once_after(monkeypatch, local, "hash_of", hashes, lambda: upload(library, "tea.md", _KNOTS))
    library.work()

    assert_newest_is_read(library, document_id)


def test_force_is_not_lost_to_an_ingest_that_waits(library: Library) -> None:
    document_id = library.ingest("tea.md", _TEA)
    upload(library, "tea.md", _TEA)
    with tenant_transaction(library.connection, library.tenant_id):
        transaction = Transaction(library.connection, library.tenant_id)
        forced = {registering.enqueue_ingest(transaction, document_id, force=True) for _ in range(2)}
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

        hits = library.search("oolong", filters=Filters(persona_id=persona_id))
        assert [hit.document_id for hit in hits] == [document_id]


def test_a_file_that_was_replaced_before_it_was_read_is_removed(library: Library) -> None:
    keys = [f"{library.tenant_id}/{name}" for name in ("first.md", "second.md")]
    for key in keys:
        (library.folder.parent / key).write_text(_TEA)
        with tenant_transaction(library.connection, library.tenant_id):
            registered = documents.register(
                library.connection,
                tenant_id=library.tenant_id,
                external_id="tea.md",
                name="tea.md",
                source="storage",
                file_path=key,
                file_size=1,
            )
            registering.forget_former(Transaction(library.connection, library.tenant_id), registered, key)
    library.work()
    assert [(library.folder.parent / key).exists() for key in keys] == [False, True]


def test_a_file_that_a_version_of_another_document_was_made_of_stays(library: Library) -> None:
    first = upload(library, "a.md", _TEA, file="shared.md")
    library.work()
    upload(library, "b.md", _TEA, file="shared.md")
    library.work()
    upload(library, "a.md", "", file="empty.md")  # is refused: readers go on to see what the shared file said
    with tenant_transaction(library.connection, library.tenant_id):
        Transaction(library.connection, library.tenant_id).enqueue(
            DeleteFile(file_path=f"{library.tenant_id}/shared.md")
        )
        library.connection.execute("DELETE FROM knowledge.documents WHERE name = 'b.md'")
    library.work()
    assert "Oolong" in text_of(library, first)
    assert (library.folder / "shared.md").exists()
