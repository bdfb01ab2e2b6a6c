"""Readers of a document see its old chunks or its new ones, never a mix (I8), nor chunks that no search finds yet."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from core.settings import load_settings
from db.connection import tenant_transaction
from pipelines.registry import provide_resources
from pipelines.resources import Resources
from tests.integration.documents.library import Library
from tests.support.database import Database

_READABLE = """
    SELECT array_agg(DISTINCT split_part(c.text, ' ', 1)), count(*)::integer, max(d.chunk_count),
        count(*) FILTER (WHERE EXISTS (SELECT FROM knowledge.chunk_vectors v WHERE v.chunk_id = c.id))::integer
    FROM knowledge.documents d JOIN knowledge.chunks c ON c.document_id = d.id AND c.version = d.current_version
    WHERE d.id = %s
"""


@pytest.fixture
def library(database: Database, tmp_path: Path) -> Iterator[Library]:
    """A library over the real parser and model."""
    resources = provide_resources(Resources(), load_settings(_env_file=None, storage={"root": tmp_path}))
    own = Library(database, resources, tmp_path)
    yield own
    own.line.close()
    resources.close()


@pytest.mark.faults
@pytest.mark.timeout(180)
def test_a_version_is_read_whole_or_not_at_all(library: Library) -> None:
    document_id = library.ingest("words.txt", _text("Oolong"))
    library.write("words.txt", _text("Bowline"))
    seen = []
    while library.line.run_once():
        with tenant_transaction(library.connection, library.tenant_id):
            [(words, chunks, counted, embedded)] = library.connection.execute(_READABLE, (document_id,)).fetchall()
        assert chunks == counted == embedded
        seen.append(words)
    assert seen[0] == ["Oolong"]
    assert seen[-1] == ["Bowline"]
    assert all(len(words) == 1 for words in seen)


def _text(word: str) -> str:
    """Return paragraphs of one chunk each, all of which begin with a word."""
    return "\n\n".join(f"{word} {number} {'is what it is about ' * 40}" for number in range(6))
