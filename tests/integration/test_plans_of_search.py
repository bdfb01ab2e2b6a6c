"""EXPLAIN guards: searches among 60,000 chunks, their log and their statistics, and spaces that fill beside them."""

from collections.abc import Iterator

import pytest
from psycopg.types.json import Jsonb

from db.embedded import EmbeddedServer
from tests.support.full import ACTIVE, ANALYSED, FEW, MANY, OTHER, Full, Whose, full, key
from tests.support.memory_guards import GUARDS as MEMORY
from tests.support.plans import Guard, Own, cases, faults

TENANT = {"tenant_id": lambda whose: whose.tenant}
WORD = {"text": lambda whose: f"word{whose.number}"}
PLACE = {"metadata": lambda whose: Jsonb({"place": whose.number})}
SEARCH = TENANT | WORD | {"vector": "[1,0.5,0.5]", "space_id": ACTIVE, "limit": 10}
LOOKING = ("worker", "operator", "reader")
FILLS = ("documents", "terms", "vectors", "graph", "memories", "tasks", "asked")
GRAPH, WORDS = "chunk_vectors_*_embedding_idx", "chunk_terms_keys_idx"
PRODUCTS = "SELECT * FROM knowledge.find_products(%(tenant_id)s, %(text)s, %(metadata)s)"
TOOLS = "SELECT * FROM tools.find_tools(%(tenant_id)s, %(text)s, %(category)s)"
CATEGORY = {"category": lambda whose: f"c{whose.number}"}
# A page of 100 chunks that the space lacks, among 60,000.
SLICE = {"id": OTHER, "after": key("chunks", 20_000), "end": key("chunks", 60_000), "limit": 100}
LOGGED = {
    "chunk_ids": Own("chunks", 3), "scores": [1.0] * 3, "top_score": 1.0, "strategy": "lexical", "filters": Jsonb({}),
    "response_ms": 1,
}  # fmt: skip


def collection(whose: Whose) -> object:
    return key("collections", 1 if whose is FEW else 2)


def searches(role: str) -> Iterator[Guard]:
    """Yield guards of a search: by the graph where a tenant has many chunks, of all vectors where it has few.

    Without statistics it reads all that the tenant has.
    """
    for strategy, indexes in (("hybrid", (GRAPH, WORDS)), ("vector", (GRAPH,)), ("lexical", (WORDS,))):
        asked = SEARCH | {"strategy": strategy}
        yield Guard(role, "search.search", asked, indexes, 2500, 4000, (MANY,), blind=False)
        few = (WORDS,) if WORDS in indexes else ()
        yield Guard(role, "search.search", asked, few, 4000, 5000, (FEW,), blind=False)


GUARDS = [
    *(guard for role in LOOKING for guard in searches(role)),
    Guard(
        "worker", "search.search",
        SEARCH | {"strategy": "hybrid", "document_ids": Own("documents", 2)}, ("documents_*",), 4000, 4000,
    ),
    Guard(
        "worker", "search.search",
        SEARCH | {"strategy": "hybrid"} | PLACE, ("documents_metadata_idx",), 4000, 4000, (MANY,), blind=False,
    ),
    Guard(
        "worker", "search.search",
        SEARCH | {"strategy": "hybrid", "is_curated": True}, ("chunks_curated_idx",), 2000, 1000, blind=False,
    ),
    Guard(
        "worker", "search.surroundings",
        {"chunk_ids": Own("chunks", 5), "around": 2}, ("chunks_*", "document_texts_pkey"), 100, 200,
    ),
    Guard("worker", "search.log_query", TENANT | WORD | LOGGED | {"collection_id": collection}, (), 10, 50),
    Guard(
        "operator", "search.give_feedback",
        {"id": Own("rag_queries"), "feedback": Jsonb({})}, ("rag_queries_pkey",), 10, 50,
    ),
    # a thousand changes at once
    Guard(
        "worker", "search.count_terms",
        TENANT, ("term_changes_tenant_id_idx", "term_statistics_gone_idx"), 2500, 7500,
    ),
    # of the few all are looked at
    *(
        Guard(role, PRODUCTS, TENANT | WORD, (index,), 500, 500, (whose,), blind=False)
        for role in LOOKING
        for whose, index in ((MANY, "products_tsvector_idx"), (FEW, "products_*"))
    ),
    *(
        Guard(role, TOOLS, TENANT | WORD, (index,), 500, 500, (whose,), blind=False)
        for role in LOOKING
        for whose, index in ((MANY, "tools_description_idx"), (FEW, "tools_*"))
    ),
    Guard("worker", TOOLS, TENANT | CATEGORY, ("tools_category_idx",), 10, 100, blind=False),
    Guard("worker", PRODUCTS, TENANT | PLACE, ("products_metadata_idx",), 500, 500, (MANY,), blind=False),
    Guard("worker", "documents.active", {}, ("spaces_active_key",), 10, 20),
    Guard("system", "spaces.newest", {}, ("chunks_pkey",), 10, 20),
    Guard("system", "spaces.page", SLICE, ("chunks_pkey", "tasks_live_owner_idx"), 500, 1000),
    Guard(
        "system", "spaces.lacking",
        {"id": OTHER, "after": key("chunks", 20_000), "until": key("chunks", 20_100)},
        ("chunks_pkey", "tasks_live_owner_idx"), 500, 1000,
    ),
    Guard("owner", "spaces.forget", {"id": OTHER}, (), 20, 20),
    *MEMORY,
]  # fmt: skip


@pytest.fixture(scope="module")
def filled(server_without_fsync: EmbeddedServer, template_database: str) -> Iterator[Full]:
    """Documents with chunks, terms, vectors and tasks; products; tools; a log of searches."""
    with full(server_without_fsync, template_database, *FILLS) as database:
        yield database


@pytest.mark.parametrize(("state", "guard"), cases(GUARDS), ids=str)
def test_the_statement_keeps_to_its_index(filled: Full, state: str, guard: Guard) -> None:
    assert faults(filled, state, guard) == []


# What a function reads is told by the counters alone: its plan is its own.
@pytest.mark.parametrize(
    ("statement", "index"),
    [
        ("search.search", "knowledge.chunk_terms_keys_idx"),
        (PRODUCTS, "knowledge.products_tsvector_idx"),
        (TOOLS, "tools.tools_description_idx"),
    ],
)
def test_an_index_that_is_gone_is_missed_in_a_function(filled: Full, statement: str, index: str) -> None:
    guards = [guard for guard in GUARDS if guard.statement == statement and guard.role == "operator"]
    with filled.without(index):
        found = [fault for guard in guards for fault in faults(filled, ANALYSED, guard)]
    assert [fault for fault in found if fault.startswith(MANY.name) and "rows" in fault] != [], found
