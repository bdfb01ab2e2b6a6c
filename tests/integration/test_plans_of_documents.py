"""EXPLAIN guards: among 60,000 documents with their chunks, what handlers and commands do with one reads little."""

from collections.abc import Iterator

import pytest
from psycopg.types.json import Jsonb

from db.embedded import EmbeddedServer
from tests.support.full import ACTIVE, ANALYSED, FEW, MANY, OTHER, Full, Whose, full, key
from tests.support.plans import Guard, Own, cases, faults

DOCUMENT = {"id": Own("documents")}
VERSION = DOCUMENT | {"version": 1}
# what is superseded is the version that is there
NEXT = DOCUMENT | {"version": 2}
TENANT = {"tenant_id": lambda whose: whose.tenant}
COLLECTION = {"collection_id": lambda whose: collection(whose)}
OF_PATH = {"file_path": lambda whose: f"sha256/{whose.number}"}
FILE = TENANT | OF_PATH | {
    "external_id": lambda whose: f"/d/{whose.number}", "name": "x.pdf", "source": "upload", "file_size": 1,
    "metadata": Jsonb({}),
}  # fmt: skip
PARSED = {
    "title": "t", "language": "english", "content_hash": b"0" * 32, "mime_type": "x/y", "file_size": 1, "page_count": 1,
}  # fmt: skip
CHUNKS = {
    "indexes": [300], "headers": [""], "texts": ["word"], "tokens": [1], "pages": [None], "sections": [None],
    "starts": [0], "ends": [4],
}  # fmt: skip
GONE = {"key": lambda whose: f"gone/{whose.number}"}
FILE_KEYS = ("attachments_file_key_idx", "documents_file_key_idx", "document_texts_file_key_idx")
CHUNKS_KEY = "chunks_document_id_version_chunk_index_key"
PAGE = {"limit": 20}
# collections of 120 documents each
AFTER = {"after": key("collections", 100)}
SMALL = {"ids": [key("collections", number) for number in range(101, 106)]}


def collection(whose: Whose) -> object:
    return key("collections", 1 if whose is FEW else 2)


GUARDS = [
    Guard("worker", "documents.register", FILE | COLLECTION, ("documents_external_id_key",)),
    Guard("worker", "documents.register", FILE, ("documents_external_id_key",)),
    Guard("operator", "documents.register", FILE | COLLECTION, ("documents_external_id_key",)),
    Guard("worker", "documents.give_chunks_persona", DOCUMENT, (CHUNKS_KEY,), 700, 1000, blind=False),
    Guard("worker", "documents.get", DOCUMENT | {"chunk_size": 256, "chunk_overlap": 32}, ("documents_pkey",), 10, 20),
    Guard("worker", "documents.lock_upload", DOCUMENT, ("documents_pkey",), 10, 20),
    Guard("worker", "documents.begin_version", DOCUMENT | PARSED, ("documents_pkey",), 10, 100),
    Guard(
        "worker", "documents.insert_text",
        NEXT | TENANT | OF_PATH | {"text": "t", "blocks": Jsonb([])}, ("documents_pkey",), 10, 20,
    ),
    Guard("worker", "documents.get_text", VERSION, ("document_texts_pkey",), 10, 20),
    Guard("worker", "documents.insert_chunks", VERSION | CHUNKS, ("documents_pkey",), 30, 100),
    Guard(
        "worker", "documents.copy_vectors",
        VERSION | {"space_id": OTHER}, (CHUNKS_KEY, "chunks_text_hash_idx"), 2000, 4000,
    ),
    Guard("worker", "documents.missing_chunks", VERSION | {"space_id": ACTIVE}, (CHUNKS_KEY,), 700, 1500),
    Guard(
        "worker", "documents.chunks_to_embed",
        VERSION | {"space_id": ACTIVE, "first": 0, "last": 15}, (CHUNKS_KEY,), 100, 200,
    ),
    Guard(
        "worker", "documents.insert_vectors",
        {"space_id": OTHER, "chunk_ids": Own("chunks", 16), "vectors": ["[1,1,1]"] * 16}, ("chunks_pkey",), 150, 400,
    ),
    Guard("worker", "documents.lock_document", DOCUMENT, ("documents_pkey",), 10, 20),
    Guard("worker", "documents.swap_version", NEXT, ("documents_pkey", CHUNKS_KEY), 10, 50),
    # its chunks with their terms and vectors, by foreign keys
    Guard(
        "worker", "documents.delete_older_chunks",
        NEXT, (CHUNKS_KEY, "chunk_terms_pkey", "chunk_vectors_chunk_id_idx"), 2000, 1000, blind=False,
    ),
    Guard("worker", "documents.delete_older_texts", NEXT, ("document_texts_pkey",), 10, 20),
    Guard("worker", "documents.files_of", DOCUMENT, ("documents_pkey", "document_texts_pkey"), 10, 20),
    Guard(
        "worker", "documents.delete",
        DOCUMENT, ("documents_pkey", CHUNKS_KEY, "document_texts_pkey", "chunk_vectors_chunk_id_idx"), 2000, 50,
        blind=False,
    ),
    *(
        Guard(role, "files.is_named", TENANT | {"key": lambda whose, of=of: f"{of}/{whose.number}"}, (index,), 10, 40)
        for role in ("worker", "system")
        for of, index in (
            ("sha256", "documents_file_path_idx"),
            ("text", "document_texts_file_path_idx"),
            ("mail", "attachments_file_path_idx"),
        )
    ),
    Guard("worker", "files.is_named", TENANT | {"key": "no such file"}, (), 10, 40),
    Guard("worker", "files.notes_of", TENANT | GONE, ("released_files_key_idx",), 10, 20),
    Guard("system", "files.released", {"after": 30_000, "most": 100}, ("released_files_pkey",), 150, 20),
    Guard("system", "files.forget", {"ids": [30_001, 30_002, 30_003]}, ("released_files_pkey",), 10, 20),
    # a page of each table's, in the order of bytes
    Guard("system", "files.named", {"after": "mail/3", "most": 100}, FILE_KEYS, 400, 500),
    Guard("system", "files.named", {"after": "mail/3", "before": "mail/4", "most": 100}, FILE_KEYS[:1], 400, 500),
    Guard(
        "system", "files.unowned",
        {
            "tenant_ids": lambda whose: [whose.tenant] * 3,
            "keys": lambda whose: [f"{of}/{whose.number}" for of in ("sha256", "gone", "no such file")],
        },
        ("documents_file_path_idx", "released_files_key_idx"), 30, 150,
    ),
    Guard("operator", "collections.collection_by_slug", TENANT | {"slug": "c"}, ("collections_s*",), 10, 20),
    Guard("operator", "collections.ensure_collection", TENANT | {"slug": "c"}, ("collections_slug_key",), 10, 20),
    Guard("worker", "collections.ensure_collection", TENANT | {"slug": "c"}, ("collections_slug_key",), 10, 20),
    # it counts each collection's documents: as many as the tenant has
    Guard("operator", "collections.list", {}, ("documents_collection_id_idx",), 500, 50, (FEW,)),
    Guard("operator", "collections.change", {"id": collection}, ("collections_*",), 10, 50),
    Guard("operator", "library.list", PAGE, ("documents_tenant_id_id_idx",), 50, 20, blind=False),
    Guard(
        "operator", "library.list",
        PAGE, ("documents_tenant_id_id_idx",), 50, 20, plan="force_custom_plan", blind=False,
    ),
    # An operator's one listing is planned for what it asks; a generic plan would walk over all younger pages.
    Guard(
        "operator", "library.list",
        PAGE | {"before": Own("documents")}, ("documents_tenant_id_id_idx",), 100, 100, plan="force_custom_plan",
    ),
    Guard(
        "operator", "library.list",
        PAGE | {"status": "failed"}, ("documents_status_idx",), 300, 600, plan="force_custom_plan",
    ),
    Guard(
        "operator", "library.list", PAGE | {"collection": "c"}, (), 1000, 100, (FEW,), plan="force_custom_plan"
    ),
    Guard("operator", "library.show", DOCUMENT, ("documents_pkey",), 10, 20),
    Guard(
        "operator", "library.find_by_name",
        {"name": lambda whose: f"{whose.number}.pdf"}, ("documents_name_idx",), 10, 30,
    ),
    Guard(
        "operator", "library.find_by_name",
        {"name": lambda whose: f"/d/{whose.number}"}, ("documents_external_id_key",), 10, 30,
    ),
    Guard(
        "operator", "library.by_external_id",
        COLLECTION | {"external_id": lambda whose: f"/d/{whose.number}"}, ("documents_external_id_key",), 10, 20,
    ),
    Guard("operator", "library.chunk_list", DOCUMENT | PAGE, (CHUNKS_KEY,), 700, 1000),
    Guard("operator", "library.states", {"ids": Own("documents", 5)}, ("tasks_live_owner_idx",), 20, 50),
    Guard("operator", "library.failed_tasks", {"ids": Own("documents", 5)}, ("tasks_history_owner_idx",), 300, 300),
    Guard("operator", "library.failed_tasks", {}, ("documents_status_idx", "tasks_history_owner_idx"), 600, 2500),
    Guard("operator", "library.text", DOCUMENT, ("documents_pkey", "document_texts_pkey"), 10, 20),
    # Pages of counters; of a collection all of its documents.
    Guard(
        "system", "counters.look_at_document_chunks",
        {"after": key("documents", 1000), "most": 1000}, ("documents_pkey", CHUNKS_KEY), 4000, 12_000,
    ),
    *(
        Guard("system", f"counters.look_at_{name}", AFTER | {"most": 20}, ("documents_collection_id_idx",), 5000, 4000)
        for name in ("document_count", "collection_chunks")
    ),
    Guard("system", "counters.lock_document_chunks", {"ids": Own("documents", 5)}, ("documents_pkey",), 10, 50),
    Guard(
        "system", "counters.mend_document_chunks",
        {"ids": Own("documents", 5)}, ("documents_pkey", CHUNKS_KEY), 1000, 1000,
    ),
    *(
        guard
        for name in ("document_count", "collection_chunks")
        for guard in (
            Guard("system", f"counters.lock_{name}", SMALL, ("collections_*",), 10, 50),
            Guard("system", f"counters.mend_{name}", SMALL, ("documents_collection_id_idx",), 1500, 1500),
        )
    ),
    Guard("operator", "library.persona", {"id": Own("personas")}, ("personas_pkey",), 10, 20),
]  # fmt: skip


@pytest.fixture(scope="module")
def filled(server_without_fsync: EmbeddedServer, template_database: str) -> Iterator[Full]:
    """Documents with chunks, terms, vectors and tasks."""
    with full(server_without_fsync, template_database, "documents", "files", "terms", "vectors", "tasks") as database:
        yield database


@pytest.mark.parametrize(("state", "guard"), cases(GUARDS), ids=str)
def test_the_statement_keeps_to_its_index(filled: Full, state: str, guard: Guard) -> None:
    assert faults(filled, state, guard) == []


# What a guard tells where its index is gone: of a statement itself, and of the foreign keys that it follows.
@pytest.mark.parametrize(
    ("statement", "index", "told"),
    [
        ("files.is_named", "knowledge.document_texts_file_path_idx", "it reads all of document_texts"),
        ("files.named", "mail.attachments_file_key_idx", "it does not use attachments_file_key_idx"),
        ("documents.delete", "knowledge.document_texts_pkey", "it reads all of document_texts"),
        ("documents.get_text", "knowledge.document_texts_pkey", "it does not use document_texts_pkey"),
        ("library.find_by_name", "knowledge.documents_name_idx", "rows"),
    ],
)
def test_an_index_that_is_gone_is_missed(filled: Full, statement: str, index: str, told: str) -> None:
    guards = [guard for guard in GUARDS if guard.statement == statement]
    with filled.without(index):
        found = [fault for guard in guards for fault in faults(filled, ANALYSED, guard)]
    assert [fault for fault in found if fault.startswith(MANY.name) and told in fault] != [], found
