"""Vectors are stored as they were computed; those of known texts are copied, at a cost that goes by the chunk."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import psycopg
import pytest
from pgvector import Vector
from psycopg import sql

from db import documents, identity, spaces
from db.connection import Connection, tenant_transaction
from tests.support.database import Database

CHUNKS = 3_000

_DOCUMENT = "INSERT INTO knowledge.documents (tenant_id, name, next_version) VALUES (%s, 'd', 2) RETURNING id"
_CHUNKS = """
INSERT INTO knowledge.chunks (tenant_id, document_id, version, chunk_index, text, text_hash, start_offset, end_offset)
SELECT d.tenant_id, d.id, %(version)s, n, t.text, sha256(convert_to(t.text, 'UTF8')), 0, 1
FROM knowledge.documents d, generate_series(1, %(count)s) n,
    LATERAL (SELECT %(text)s || CASE WHEN %(is_repeated)s THEN '' ELSE n::text END AS text) t
WHERE d.id = %(id)s
"""
# A vector that follows from its text.
_VECTORS = """
INSERT INTO knowledge.chunk_vectors (space_id, chunk_id, tenant_id, embedding)
SELECT %s, id, tenant_id, ARRAY[1, hashtext(text) %% 97 + 0.5, 1, 1]::vector FROM knowledge.chunks
"""
_RIGHT = """
SELECT count(*) FROM knowledge.chunk_vectors v JOIN knowledge.chunks c ON c.id = v.chunk_id
WHERE c.document_id = %s AND c.version = 2 AND v.embedding = ARRAY[1, hashtext(c.text) %% 97 + 0.5, 1, 1]::vector
"""


def add_chunks(owner: Connection, document_id: UUID, version: int, text: str, *, is_repeated: bool) -> None:
    values = {"id": document_id, "version": version, "count": CHUNKS, "text": text, "is_repeated": is_repeated}
    owner.execute(_CHUNKS, values)


def visited(plan: dict[str, Any]) -> Iterator[float]:
    """Yield how many rows each node of a plan that ran has gone through."""
    removed = sum(plan.get(name, 0) for name in ("Rows Removed by Filter", "Rows Removed by Join Filter"))
    yield (plan["Actual Rows"] + removed) * plan["Actual Loops"]
    for child in plan.get("Plans", []):
        yield from visited(child)


@pytest.mark.parametrize("is_analysed", [True, False], ids=["analysed", "no statistics"])
@pytest.mark.parametrize("is_repeated", [True, False], ids=["one text", "many texts"])
def test_copying_vectors_costs_by_the_chunk(database: Database, is_repeated: bool, is_analysed: bool) -> None:
    owner = database.connect()
    tenant_id = identity.tenant_id_of(owner, "default")
    space_id = spaces.create_space(owner, model="test", revision="1", dimensions=4, max_tokens=9)
    document_id, other = (owner.execute(_DOCUMENT, (tenant_id,)).fetchall()[0][0] for _ in range(2))
    add_chunks(owner, other, 1, "what another document says ", is_repeated=False)
    add_chunks(owner, document_id, 1, "again and again ", is_repeated=is_repeated)
    owner.execute(_VECTORS, (space_id,))
    add_chunks(owner, document_id, 2, "again and again ", is_repeated=is_repeated)
    if is_analysed:
        with psycopg.connect(database.superuser_url, autocommit=True) as connection:
            connection.execute("ANALYZE")

    worker = database.connect("worker")
    values = {"id": document_id, "version": 2, "space_id": space_id}
    with tenant_transaction(worker, tenant_id):
        explaining = sql.SQL("EXPLAIN (ANALYZE, FORMAT JSON) ") + documents.QUERIES.text("copy_vectors")
        [(found,)] = psycopg.ClientCursor(worker).execute(explaining, values).fetchall()

    assert max(visited(found[0]["Plan"])) <= 3 * CHUNKS
    assert database.value(_RIGHT, (document_id,)) == CHUNKS


def test_a_vector_is_stored_as_the_model_computed_it(database: Database) -> None:
    owner = database.connect()
    tenant_id = identity.tenant_id_of(owner, "default")
    space_id = spaces.create_space(owner, model="test", revision="1", dimensions=4, max_tokens=9)
    document_id = owner.execute(_DOCUMENT, (tenant_id,)).fetchall()[0][0]
    owner.execute(_CHUNKS, {"id": document_id, "version": 1, "count": 2, "text": "text ", "is_repeated": False})
    [(first,), (second,)] = database.rows("SELECT id FROM knowledge.chunks ORDER BY chunk_index")
    computed = np.asarray([[0.1, -2e-30, 1 / 3, 3e38], [1.0, 0.0, -1.0, 1e-7]], dtype=np.float32)

    worker = database.connect("worker")
    for _ in range(2):
        with tenant_transaction(worker, tenant_id):
            vectors = [Vector(row) for row in computed[[1, 0, 1]]]
            documents.insert_vectors(worker, space_id, [second, first, uuid4()], vectors)

    stored = database.rows(
        "SELECT v.embedding::real[] FROM knowledge.chunk_vectors v JOIN knowledge.chunks c ON c.id = v.chunk_id "
        "ORDER BY c.chunk_index"
    )
    assert np.asarray([row[0] for row in stored], dtype=np.float32).tolist() == computed.tolist()
