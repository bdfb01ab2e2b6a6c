"""Search: by meaning, by words and by both; filters; what is shown with a hit; statistics that follow what is there."""

import math
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg
import pytest
from psycopg import sql

from core.errors import InvalidOptionsError, NotFoundError
from db import search as store
from db.connection import tenant_transaction
from db.search import Filters
from pipelines.documents import search as searching
from pipelines.documents.payloads import DeleteDocument
from pipelines.enqueue import enqueue
from tests.integration.documents.library import Library
from tests.support.tenants import let_go, named

TEXTS = {
    "tea.md": "# Tea\n\nOolong is a tea that is partly oxidised. The leaves are withered, rolled and fired.",
    "boats.md": "# Boats\n\nA dinghy is a small boat. Sailors row it from the ship to the shore and back again.",
    "lamp.md": "# Lamp\n\nThe keeper trims the wick of the lamp. A lamp burns oil, and the lamp's oil is rape oil.",
}


@pytest.fixture
def shelf(library: Library) -> Library:
    """A library of three short documents."""
    for name, text in TEXTS.items():
        library.ingest(name, text)
    return library


_CHUNKS = """
INSERT INTO knowledge.chunks (tenant_id, document_id, version, chunk_index, text, text_hash, start_offset, end_offset)
SELECT d.tenant_id, d.id, d.current_version, t.n, t.text, sha256(t.text::bytea), 0, 1
FROM knowledge.documents d, unnest(%s::text[]) WITH ORDINALITY AS t (text, n) WHERE d.id = %s
"""


def names(hits: list[store.Hit]) -> list[str]:
    return [hit.document_name for hit in hits]


def test_each_strategy_finds_the_document_first(shelf: Library) -> None:
    for strategy in ("hybrid", "vector", "lexical"):
        hits = shelf.search("which oil does the lamp burn", strategy=strategy)
        assert names(hits)[0] == "lamp.md", strategy
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    [words] = shelf.search("oolong", strategy="lexical")
    assert (words.document_name, words.score) == ("tea.md", words.words)
    assert words.similarity is not None
    assert len(shelf.search("oolong", strategy="vector")) == 3


def test_meaning_finds_what_words_do_not(shelf: Library) -> None:
    assert shelf.search("vessel", strategy="lexical") == []
    assert names(shelf.search("vessel"))[0] == "boats.md"


def test_a_query_of_common_words_only_finds_by_meaning(shelf: Library) -> None:
    assert shelf.search("the of and", strategy="lexical") == []
    assert len(shelf.search("the of and")) == 3


def bm25(query: list[str], text: list[str], corpus: list[list[str]]) -> float:
    """BM25 as its inventors have it, for words that are stems already."""
    average = sum(map(len, corpus)) / len(corpus)
    score = 0.0
    for word in query:
        held = sum(word in other for other in corpus)
        rarity = math.log(1 + (len(corpus) - held + 0.5) / (held + 0.5))
        frequency = Counter(text)[word]
        score += rarity * frequency * 2.2 / (frequency + 1.2 * (0.25 + 0.75 * len(text) / average))
    return score


@pytest.mark.parametrize("is_counted", [False, True], ids=["not counted yet", "counted"])
def test_words_are_scored_by_bm25(library: Library, is_counted: bool) -> None:
    # Of one document, so that each chunk is weighed by the same average.
    corpus = ["kiln kiln clay", "clay pot", "pot glaze glaze glaze kiln", "brush", "glaze brush clay pot kiln wheel"]
    document_id = library.ingest("start.txt", "unrelated")
    library.database.rows("DELETE FROM knowledge.chunks")
    library.database.rows("TRUNCATE knowledge.term_statistics, knowledge.term_totals, knowledge.term_changes")
    library.database.rows(_CHUNKS, (corpus, document_id))
    if is_counted:
        with tenant_transaction(library.connection, library.tenant_id):
            assert store.count_terms(library.connection, library.tenant_id) == 1
            assert store.count_terms(library.connection, library.tenant_id) == 0

    split = [text.split() for text in corpus]
    expected = {text: bm25(["glaze", "kiln"], text.split(), split) for text in corpus}
    hits = library.search("glaze kiln", strategy="lexical")
    assert {hit.text: hit.score for hit in hits} == pytest.approx(
        {text: score for text, score in expected.items() if score}, rel=1e-5
    )


def test_statistics_are_what_a_count_of_the_chunks_gives(shelf: Library) -> None:
    shelf.ingest("tea.md", "# Tea\n\nPu-erh is a tea that ages.")
    enqueue(shelf.connection, DeleteDocument(document_id=document_of(shelf, "boats.md")))
    shelf.work()
    counting(shelf)
    counted = shelf.database.rows("SELECT key, chunk_count FROM knowledge.term_statistics ORDER BY key")
    assert counted == shelf.database.rows(
        "SELECT u.key, count(*)::integer FROM knowledge.chunk_terms, unnest(keys) AS u (key) GROUP BY 1 ORDER BY 1"
    )
    assert shelf.database.rows("SELECT chunk_count, term_count FROM knowledge.term_totals") == shelf.database.rows(
        "SELECT count(*), sum(term_count) FROM knowledge.chunk_terms"
    )
    assert shelf.database.value("SELECT count(*) FROM knowledge.term_changes") == 0


def test_a_tenant_that_goes_leaves_no_terms(shelf: Library) -> None:
    counting(shelf)
    shelf.ingest("late.txt", "what is not counted yet")
    shelf.database.rows("DELETE FROM knowledge.rag_queries")
    let_go(shelf.database.connect())
    for table in ("chunks", "chunk_terms", "term_statistics", "term_totals", "term_changes"):
        query = sql.SQL("SELECT 1 FROM {}").format(named(f"knowledge.{table}"))
        assert shelf.database.rows(query.as_string()) == [], table


def counting(library: Library) -> None:
    """Run the count that the ingests and deletions before asked for, and no other."""
    library.database.rows(
        "UPDATE queue.tasks_live SET run_after = now(), is_due = true WHERE task_type = 'terms.count'"
    )
    library.work()


def document_of(library: Library, name: str) -> UUID:
    found: UUID = library.database.value("SELECT id FROM knowledge.documents WHERE name = %s", (name,))
    return found


def test_filters_confine_what_is_found(shelf: Library) -> None:
    tea, boats = document_of(shelf, "tea.md"), document_of(shelf, "boats.md")
    shelf.database.rows('UPDATE knowledge.documents SET metadata = \'{"kind": {"a": 1}}\' WHERE id = %s', (tea,))
    shelf.database.rows(
        "UPDATE knowledge.documents SET uploaded_at = now() - interval '2 days' WHERE id = %s", (boats,)
    )
    shelf.database.rows("UPDATE knowledge.chunks SET is_curated = true WHERE document_id = %s", (tea,))
    yesterday = datetime.now(UTC) - timedelta(days=1)
    for filters, expected in (
        (Filters(document_ids=[boats, tea]), {"tea.md", "boats.md"}),
        (Filters(document_ids=[]), set()),
        (Filters(metadata={"kind": {"a": 1}}), {"tea.md"}),
        (Filters(metadata={"kind": {"a": 2}}), set()),
        (Filters(uploaded_before=yesterday), {"boats.md"}),
        (Filters(uploaded_from=yesterday), {"tea.md", "lamp.md"}),
        (Filters(is_curated=True), {"tea.md"}),
        (Filters(is_curated=False), {"boats.md", "lamp.md"}),
        (Filters(persona_id=tea), set()),
        (Filters(collection_id=tea), set()),
    ):
        for strategy in ("hybrid", "vector", "lexical"):
            found = set(names(shelf.search("tea boat lamp", strategy=strategy, filters=filters)))
            assert found == expected, (filters, strategy)


def test_a_language_finds_its_own_forms(library: Library) -> None:
    library.ingest("de.txt", "Der Wärter putzt abends die Lampen und schreibt das Wetter in das große Buch des Turmes.")
    library.ingest("en.txt", "The keeper cleans the lamps in the evening and writes the weather into the book.")
    assert library.database.rows("SELECT language FROM knowledge.documents ORDER BY name") == [
        ("german",),
        ("english",),
    ]
    assert names(library.search("die Türme", strategy="lexical")) == ["de.txt"]
    assert names(library.search("cleaning", strategy="lexical")) == ["en.txt"]


def test_a_highlight_shows_the_words_of_the_query(shelf: Library) -> None:
    [hit] = shelf.search("trimming wicks", strategy="lexical")
    assert re.findall("\x02(.*?)\x03", hit.highlight) == ["trims", "wick"]


def test_a_chunk_is_found_by_its_header(library: Library) -> None:
    library.ingest("manual.md", "# Wombat keeping\n\n## Feeding\n\nTwice a day, and always fresh.\n")
    [hit] = library.search("how are wombats fed", strategy="lexical")
    assert "wombat" not in hit.text.split("\n")[-1].lower()
    header = library.database.value("SELECT header FROM knowledge.chunks WHERE id = %s", (hit.chunk_id,))
    assert header.startswith("Wombat keeping")


def test_neighbours_come_with_a_hit(library: Library) -> None:
    library.database.rows("UPDATE knowledge.collections SET chunk_size = 16, chunk_overlap = 0")
    paragraphs = [
        f"Paragraph number {word} tells us about the {word} thing." for word in ("first", "second", "third", "fourth")
    ]
    document_id = library.ingest("a.txt", "\n\n".join(paragraphs))
    [second] = library.search("second", strategy="lexical")
    with tenant_transaction(library.connection, library.tenant_id):
        around = store.surroundings(library.connection, [second.chunk_id], 1)
        alone = store.surroundings(library.connection, [second.chunk_id], 0)
    assert around == {second.chunk_id: "\n\n".join(paragraphs[:3])}
    assert alone == {second.chunk_id: second.text}
    assert library.document(document_id)[2] == 4


def test_a_search_is_logged_and_takes_feedback(shelf: Library) -> None:
    found = searching.search(
        shelf.connection,
        shelf.tenant_id,
        "oolong",
        strategy="lexical",
        limit=3,
        filters=Filters(is_curated=False),
        around=1,
    )
    assert list(found.contexts) == [found.hits[0].chunk_id]
    with tenant_transaction(shelf.connection, shelf.tenant_id):
        store.give_feedback(shelf.connection, found.query_id, {"helpful": True})
        with pytest.raises(NotFoundError):
            store.give_feedback(shelf.connection, shelf.tenant_id, {})
    [row] = shelf.database.rows(
        "SELECT query_text, strategy, result_chunk_ids, top_score, filters, feedback FROM knowledge.rag_queries"
    )
    assert row[:3] == ("oolong", "lexical", [found.hits[0].chunk_id])
    assert row[3] == pytest.approx(found.hits[0].score)
    assert row[4:] == ({"limit": 3, "is_curated": False}, {"helpful": True})


@pytest.mark.parametrize(
    ("query", "limit", "around"), [("", 5, 0), ("x" * 10_001, 5, 0), ("x", 0, 0), ("x", 101, 0), ("x", 1, 11)]
)
def test_a_search_that_cannot_be_says_so(library: Library, query: str, limit: int, around: int) -> None:
    with pytest.raises(InvalidOptionsError, match="a query has 1 to 10000 characters"):
        searching.search(library.connection, library.tenant_id, query, limit=limit, around=around)


def test_a_strategy_or_a_space_that_is_none_is_refused(library: Library) -> None:
    library.ingest("a.txt", "text")
    vector = library.any_vector()
    for statement in (
        "SELECT * FROM knowledge.search(%(tenant)s, 'x', %(vector)s::vector, %(space)s, 'magic')",
        "SELECT * FROM knowledge.search(%(tenant)s, 'x', %(vector)s::vector, %(tenant)s)",
    ):
        values = {"tenant": library.tenant_id, "vector": vector.text, "space": vector.space_id}
        with (
            pytest.raises(psycopg.errors.InvalidParameterValue),
            tenant_transaction(library.connection, library.tenant_id),
        ):
            library.connection.execute(statement, values)


def test_another_tenants_terms_are_not_counted_for_it(shelf: Library) -> None:
    [(other,)] = shelf.database.rows("INSERT INTO identity.tenants (name, slug) VALUES ('B', 'b') RETURNING id")
    with (
        pytest.raises(psycopg.errors.InsufficientPrivilege),
        tenant_transaction(shelf.connection, other),
    ):
        store.count_terms(shelf.connection, shelf.tenant_id)


def test_nothing_is_written_to_terms_but_by_triggers(shelf: Library) -> None:
    for role in ("worker", "operator"):
        connection = shelf.database.connect(role)
        for statement in ("DELETE FROM knowledge.chunk_terms", "UPDATE knowledge.term_totals SET chunk_count = 0"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege), tenant_transaction(connection, shelf.tenant_id):
                connection.execute(statement)


def test_the_terms_are_counted_soon_after_an_ingest(shelf: Library) -> None:
    rows = shelf.database.rows(
        "SELECT task_type, run_after - now() <= interval '5 s' FROM queue.tasks_live WHERE task_type = 'terms.count'"
    )
    assert rows == [("terms.count", True)]
    counting(shelf)
    assert shelf.database.value("SELECT count(*) FROM knowledge.term_changes") == 0


def test_a_chunk_without_terms_is_there_for_its_meaning(library: Library) -> None:
    library.ingest("a.txt", "To be or not to be")
    assert library.database.rows("SELECT term_count, keys FROM knowledge.chunk_terms") == [(0, [])]
    assert len(library.search("to be or not to be")) == 1


def test_more_changes_than_are_counted_at_once_are_all_counted(library: Library) -> None:
    library.ingest("a.txt", "one")
    library.database.rows(
        "INSERT INTO knowledge.term_changes (tenant_id, language, chunk_count, term_count, keys, counts) "
        "SELECT %s, 'english', 1, 1, ARRAY[7], ARRAY[1] FROM generate_series(1, 2500)",
        (library.tenant_id,),
    )
    for _ in range(3):
        counting(library)
    assert library.database.rows("SELECT chunk_count FROM knowledge.term_statistics WHERE key = 7") == [(2500,)]
    assert library.database.value("SELECT count(*) FROM knowledge.term_changes") == 0


def test_a_word_that_is_nowhere_hides_no_common_one(library: Library) -> None:
    library.ingest("a.txt", "The database is large.")
    library.ingest(
        "b.txt", "\u706f\u53f0\u5b88\u306f\u5915\u66ae\u308c\u306b\u30e9\u30f3\u30d7\u3092\u6574\u3048\u307e\u3059"
    )
    counting(library)
    library.database.rows(
        "UPDATE knowledge.term_statistics SET chunk_count = 30000 WHERE key = knowledge.term_key(%s, 'databas')",
        (library.tenant_id,),
    )
    library.database.rows("UPDATE knowledge.term_totals SET chunk_count = 40000 WHERE language = 'english'")
    assert names(library.search("xyzzy databases", strategy="lexical")) == ["a.txt"]


def test_every_hit_that_is_asked_for_comes(library: Library) -> None:
    library.database.rows("UPDATE knowledge.collections SET chunk_size = 16, chunk_overlap = 0")
    library.ingest("a.txt", "\n\n".join(f"Lamp number {n} of the tower burns oil." for n in range(80)))
    for strategy in ("vector", "lexical", "hybrid"):
        vector = library.any_vector()
        with tenant_transaction(library.connection, library.tenant_id):
            hits = store.search(library.connection, library.tenant_id, "lamp", vector, strategy=strategy, limit=70)
        assert len(hits) == 70
