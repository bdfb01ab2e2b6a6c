"""The documents pipeline from a task row to search, over a real database, the real parser and the real model."""

import math
from pathlib import Path

import psycopg
import pytest
from pgvector import Vector

from db import documents, spaces
from db import search as store
from db.connection import tenant_transaction
from pipelines.documents.parsing import Block, ParsedDocument, ParseLimits, ParserProcess
from pipelines.documents.payloads import DeleteDocument, IngestDocument
from pipelines.enqueue import enqueue
from pipelines.resources import Resources
from pipelines.storage import LocalStorage, Storage
from tests.integration.documents.library import Library
from tests.support.database import Database

_TEA = "# Tea\n\nOolong is half oxidised.\n\n## Water\n\nGreen tea wants water of seventy degrees.\n"
_KNOTS = "# Knots\n\nA bowline holds a loop that does not slip.\n"


class RewritingParser(ParserProcess):
    """A parser during whose work the producer writes the file anew."""

    def parse(self, path: Path, *, limits: ParseLimits, media_type: str | None = None) -> ParsedDocument:
        parsed = ParsedDocument("Tea", "text/markdown", (Block(path.read_text(encoding="utf-8")),))
        path.write_text(_KNOTS, encoding="utf-8")
        return parsed


def test_a_foreign_row_becomes_searchable_knowledge(library: Library) -> None:
    tea, knots = library.ingest("tea.md", _TEA), library.ingest("knots.md", _KNOTS)

    assert library.document(tea)[:2] == ("completed", 1)
    hit = library.search("how hot should the water for green tea be?")[0]
    assert (hit.document_id, hit.section) == (tea, "Tea \u203a Water")
    assert library.search("a loop that holds")[0].document_id == knots


def test_offsets_give_each_chunk_back(library: Library) -> None:
    document_id = library.ingest("tea.md", _TEA * 40)

    text = library.database.value("SELECT text FROM knowledge.document_texts WHERE document_id = %s", (document_id,))
    chunks = library.database.rows(
        "SELECT text, start_offset, end_offset FROM knowledge.chunks WHERE document_id = %s", (document_id,)
    )
    assert len(chunks) > 1
    assert all(text[start:end] == chunk for chunk, start, end in chunks)


def test_the_same_content_is_not_embedded_again(library: Library) -> None:
    library.ingest("tea.md", _TEA)
    before = library.embedded()

    again = library.write("tea.md", _TEA)
    library.work()
    assert library.line.task(again)["status"] == "done"
    other = library.ingest("copy-of-tea.md", _TEA)

    assert library.embedded() == before
    assert library.document(other)[0] == "completed"


def test_a_new_version_embeds_what_changed_and_replaces_the_old_one(library: Library) -> None:
    sections = [f"## Section {n}\n\n{' '.join(f'word{n}{m}' for m in range(120))}\n" for n in range(6)]
    document_id = library.ingest("book.md", "# Book\n\n" + "\n".join(sections))
    chunks = library.document(document_id)[2]
    before = library.embedded()
    sections[3] = "## Section 3\n\nThis one is about lighthouses now.\n"

    library.ingest("book.md", "# Book\n\n" + "\n".join(sections))

    assert library.document(document_id)[:2] == ("completed", 2)
    assert 0 < library.embedded() - before < chunks
    assert library.search("lighthouses")[0].text.endswith("This one is about lighthouses now.")
    versions = library.database.rows(
        "SELECT DISTINCT version FROM knowledge.chunks WHERE document_id = %s", (document_id,)
    )
    assert versions == [(2,)]


def test_an_edit_of_a_long_document_embeds_what_is_around_it_and_nothing_else(library: Library) -> None:
    paragraphs = [
        f"{' '.join(f'{word}{n}' for word in ('keeper', 'lamp', 'wick', 'oil', 'tower', 'stairs', 'log', 'horn') * 4)}."
        for n in range(600)
    ]
    library.ingest("long.txt", "\n\n".join(paragraphs))
    for place in (3, 300, 596):
        before = library.embedded()
        paragraphs.insert(place, f"In the year {place} a bell was hung.")
        document_id = library.ingest("long.txt", "\n\n".join(paragraphs))
        assert library.document(document_id)[2] > 150
        assert 0 < library.embedded() - before <= 12


def test_readers_see_the_old_version_until_the_new_one_is_whole(library: Library) -> None:
    document_id = library.ingest("tea.md", _TEA)
    library.write("tea.md", _KNOTS)

    seen = set()
    while library.line.run_once():
        with tenant_transaction(library.connection, library.tenant_id):
            rows = library.connection.execute(
                "SELECT string_agg(c.text, ' ' ORDER BY chunk_index) FROM knowledge.chunks c "
                "JOIN knowledge.documents d ON d.id = c.document_id AND d.current_version = c.version WHERE d.id = %s",
                (document_id,),
            ).fetchall()
        seen.add(("Oolong" in rows[0][0], "bowline" in rows[0][0]))
    assert seen == {(True, False), (False, True)}


def test_a_document_deleted_leaves_nothing(library: Library) -> None:
    document_id = library.ingest("tea.md", _TEA)
    with tenant_transaction(library.connection, library.tenant_id):
        enqueue(library.connection, DeleteDocument(document_id=document_id))
    library.work()

    for table in ("documents", "document_texts", "chunks", "chunk_vectors"):
        assert library.database.value(f"SELECT count(*) FROM knowledge.{table}") == 0  # noqa: S608 - our own names
    assert not (library.folder / "tea.md").exists()
    told = library.database.rows("SELECT event_type FROM audit.audit_events ORDER BY created_at")
    assert told == [("file_access",), ("document.deleted",)]


def test_a_replaced_file_that_no_document_names_is_removed(library: Library) -> None:
    document_id = library.ingest("tea.md", _TEA)
    (library.folder / "tea-2.md").write_text(_KNOTS)
    library.database.rows(
        "UPDATE knowledge.documents SET file_path = %s WHERE id = %s", (f"{library.tenant_id}/tea-2.md", document_id)
    )
    enqueue(library.connection, IngestDocument(document_id=document_id))
    library.work()

    assert library.document(document_id)[:2] == ("completed", 2)
    assert (library.folder / "tea-2.md").exists()
    assert not (library.folder / "tea.md").exists()


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("empty.md", b"", "EmptyFileError"),
        ("lies.pdf", b"plain text, whatever its name says", "WrongTypeError"),
        ("image.txt", b"\x89PNG\r\n\x1a\n" + b"\0" * 64, "WrongTypeError"),
        ("broken.pdf", b"%PDF-1.7\nnothing of the kind\n%%EOF\n", "BrokenFileError"),
        ("scripts.html", b"<html><body><script>let a = 1;</script></body></html>", "NoTextError"),
    ],
)
def test_a_bad_file_fails_its_own_document_and_no_other(
    library: Library, name: str, content: bytes, error: str
) -> None:
    bad = library.ingest(name, content)
    good = library.ingest("knots.md", _KNOTS)

    status, version, _, message = library.document(bad)
    assert (status, version) == ("failed", 0)
    assert message is not None
    assert message.startswith(error)
    assert library.document(good)[0] == "completed"


def test_a_bad_new_version_leaves_the_old_one_readable(library: Library) -> None:
    document_id = library.ingest("tea.md", _TEA)
    library.ingest("tea.md", b"")

    assert library.document(document_id)[:2] == ("failed", 1)
    assert library.search("oolong oxidation")[0].document_id == document_id


@pytest.mark.parametrize("path", ["../../etc/passwd", "/etc/passwd", "nothing-here.md"])
def test_a_path_that_is_not_the_tenants_fails_its_task(library: Library, path: str) -> None:
    task_id = enqueue(library.connection, IngestDocument(path=path))
    library.work()

    task = library.line.task(task_id)
    assert (task["status"], task["attempts"]) == ("failed", 1)
    assert (
        "StoragePathError" in task["last_error"]
        or "FileVanishedError" in task["last_error"]
        or "PermanentError" in task["last_error"]
    )
    assert path not in task["last_error"]


def test_a_file_rewritten_while_it_is_parsed_is_parsed_again(database: Database, storage_root: Path) -> None:
    resources = Resources()
    resources.provide(Storage, lambda: LocalStorage(storage_root))
    resources.provide(ParseLimits, lambda: ParseLimits(1000, 1, 1.0, 1, 1000))
    resources.provide(ParserProcess, RewritingParser)
    library = Library(database, resources, storage_root)
    library.write("racy.md", _TEA)
    library.line.run_once()
    library.line.run_once()

    [found] = database.rows("SELECT status, attempts, snoozes FROM queue.outbox_tasks WHERE payload ? 'document_id'")
    assert found == ("pending", 0, 1)
    assert database.rows("SELECT 1 FROM knowledge.document_texts") == []
    library.line.close()


def test_special_tokens_nul_and_surrogates_are_ingested(library: Library) -> None:
    document_id = library.ingest(
        "odd.txt",
        b"A text with <|endoftext|> in it, a \x00 and \xed\xa0\x80 too. " + b"Most of it is as it should be. " * 20,
    )

    assert library.document(document_id)[0] == "completed"
    text = library.database.value("SELECT text FROM knowledge.chunks WHERE document_id = %s", (document_id,))
    assert "<|endoftext|>" in text
    assert "\N{REPLACEMENT CHARACTER}" in text


def test_another_tenant_finds_nothing(library: Library) -> None:
    library.ingest("tea.md", _TEA)
    [(other,)] = library.database.rows("INSERT INTO identity.tenants (name, slug) VALUES ('B', 'b') RETURNING id")
    vector = library.any_vector()

    with tenant_transaction(library.connection, other):
        assert store.search(library.connection, other, "oolong", vector, limit=5) == []
    with pytest.raises(psycopg.errors.InsufficientPrivilege), tenant_transaction(library.connection, other):
        store.search(library.connection, library.tenant_id, "oolong", vector, limit=5)


@pytest.mark.parametrize("vector", [[1.0, 2.0, 3.0], [0.0] * 384, [math.nan, *[1.0] * 383]])
def test_a_vector_that_is_no_vector_is_refused(library: Library, vector: list[float]) -> None:
    document_id = library.ingest("tea.md", _TEA)
    owner = library.database.connect()
    space = spaces.active_space(owner)
    [(chunk_id,)] = library.database.rows(
        "SELECT id FROM knowledge.chunks WHERE document_id = %s LIMIT 1", (document_id,)
    )
    library.database.rows("DELETE FROM knowledge.chunk_vectors")

    with pytest.raises((psycopg.errors.IntegrityError, psycopg.errors.DataError)):
        documents.insert_vectors(owner, space.id, [chunk_id], [Vector(vector)])
