"""What statements about personas' memories may read, among 60,000 chunks, memories and twice as many sources.

The many chunks of one tenant are one persona's; a few of them are due.
"""

import hashlib
from dataclasses import replace
from uuid import UUID

from tests.support.full import ACTIVE, FEW, MANY, Whose, key
from tests.support.plans import Guard, Own

TENANT = {"tenant_id": lambda whose: whose.tenant}
PERSONA = {"persona_id": lambda whose: key("personas", whose.number)}
SPACE = {"space_id": ACTIVE}
CHUNKS = {"chunk_ids": Own("chunks", 5)}
MEMORY = {"memory_id": Own("memories")}
DUE, GRAPH = "chunks_due_idx", "chunk_vectors_*_embedding_idx"
SOURCES = ("memory_sources_pkey",)
NAMED = {"name": lambda whose: str(key("personas", whose.number))}
HASH = {"sources_hash": b"0" * 32}
NEAR = TENANT | PERSONA | SPACE | CHUNKS | {"nearest": 12, "at_least": 0.5}
TOLD = {
    "method": "merged", "model": None, "prompt_version": "", "source_count": 2, "source_token_count": 2,
    "token_count": 1,
}  # fmt: skip
WRITTEN = {
    "document_id": Own("documents"),
    "chunk_index": 9000,
    "header": "",
    "text": "t",
    "source_ids": Own("chunks", 2),
}
PLACED = {
    "document_ids": Own("documents", 2), "indexes": [0, 1], "hashes": [b"0" * 32] * 2, "tokens": [1, 1],
    "merged_into": [None, 0],
}  # fmt: skip


def bare(whose: Whose) -> UUID:
    """Return a memory without sources."""
    return key("memories", whose.number + 1)


def language(whose: Whose) -> str:
    """Return the key of a persona's document."""
    return f"memory:{key('personas', whose.number)}:english"


def hashes(whose: Whose) -> list[bytes]:
    """Return what a memory is known by."""
    return [hashlib.sha256(str(whose.number).encode()).digest()]


def last(whose: Whose) -> UUID:
    """Return a chunk of a tenant that no memory is: one of its long document."""
    return key("chunks", 60_000 + whose.number * 10 + 7)


DOCUMENT = TENANT | PERSONA | {"external_id": language, "language": "english"}

_GUARDS = [
    Guard("worker", "memory.due", PERSONA | SPACE | {"limit": 20}, (DUE,), 300, 500, (MANY,)),
    Guard("worker", "memory.chunks", PERSONA | SPACE | CHUNKS, ("chunks_*",), 50, 100),
    # by the graph where a persona knows much, else by all that it knows
    Guard(
        "worker", "memory.related",
        NEAR, (GRAPH,), 12000, 16000, (MANY,),
    ),
    Guard(
        "worker", "memory.related",
        NEAR, (), 4000, 6000, (FEW,),
    ),
    Guard("worker", "memory.holding", CHUNKS, ("memory_sources_chunk_id_idx", "memories_chunk_id_key"), 200, 300),
    Guard(
        "worker", "memory.known",
        PERSONA | {"hashes": hashes}, ("memories_persona_id_sources_hash_key",), 50, 200,
    ),
    Guard("worker", "memory.lock_persona", PERSONA, ("personas_pkey",), 10, 20),
    Guard("worker", "memory.lock_chunks", CHUNKS, ("chunks_*",), 20, 50),
    Guard("worker", "memory.present", PERSONA | CHUNKS, ("chunks_*",), 30, 60),
    Guard("worker", "memory.current", {"memory_ids": Own("memories", 5)}, ("memories_pkey",), 20, 50),
    Guard("worker", "memory.ensure_document", DOCUMENT, (), 10, 60),
    Guard("worker", "memory.document", DOCUMENT, (), 20, 30),
    Guard("worker", "memory.insert_chunk", TENANT | PERSONA | WRITTEN, (), 30, 100),
    Guard("worker", "memory.count_chunk", {"document_id": Own("documents")}, ("documents_pkey",), 10, 80),
    Guard("worker", "memory.insert_memory", TENANT | PERSONA | HASH | TOLD | {"chunk_id": last}, (), 20, 60),
    Guard(
        "worker", "memory.show_again",
        MEMORY | {"source_count": 2, "source_token_count": 2}, ("memories_pkey",), 20, 60,
    ),
    Guard(
        "worker", "memory.link_chunk",
        {"chunk_id": Own("chunks"), "source_ids": None}, ("chunks_*",), 10, 60,
    ),
    Guard("worker", "memory.forget_sources", MEMORY, SOURCES, 10, 30),
    Guard(
        "worker", "memory.insert_sources",
        TENANT | PLACED | {"memory_id": bare, "source_ids": Own("chunks", 2)}, (), 20, 60,
    ),
    # a chunk each is put behind those that searches find
    Guard(
        "worker", "memory.supersede",
        MEMORY | {"memory_ids": Own("memories", 3)}, ("memories_pkey",), 60, 200,
    ),
    Guard("worker", "memory.mark", CHUNKS, ("chunks_*",), 20, 250),
    Guard("system", "memory.due_personas", {"after": key("personas", 0), "most": 20}, (DUE,), 200, 400),
    Guard("operator", "memory.sources", CHUNKS, ("memories_chunk_id_key", *SOURCES), 80, 150),
    Guard(
        "worker", "UPDATE knowledge.documents SET deleted_at = now() WHERE id = %(document_id)s",
        {"document_id": Own("documents")}, ("memory_sources_document_id_idx",), 400, 400,
    ),
]  # fmt: skip
GUARDS = [replace(guard, blind=False) for guard in _GUARDS]
"""They hold where tables are analysed, as autovacuum does once they are large."""
