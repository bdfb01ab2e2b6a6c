"""Catalogues, transcripts and what documents gained: what the database sees to by itself, and what it refuses."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.types.json import Jsonb

from db.connection import Connection
from db.migrate import migrate
from tests.support.database import Database
from tests.support.factory import Factory, Row
from tests.support.tenants import (
    acting,
    ids,
)

TABLES = ("knowledge.product_chunks", "knowledge.products", "knowledge.transcript_segments")
FIND = """
SELECT id FROM knowledge.find_products(%(tenant)s, %(words)s, metadata => %(metadata)s, in_stock => %(in_stock)s,
    "limit" => %(limit)s)
"""
MANY = """
INSERT INTO knowledge.products (tenant_id, user_id, name, metadata)
SELECT %s, %s, 'thing ' || n, jsonb_build_object('number', n) FROM generate_series(1, 5000) AS n
"""
# As programs of before left them: counted by nobody, uploaded by who is not known, scored without bounds.
BEFORE = """
INSERT INTO identity.users (id, tenant_id, email) VALUES (%(user)s, %(tenant)s, 'ada@example.com');
INSERT INTO knowledge.collections (id, tenant_id, name, slug) VALUES (%(collection)s, %(tenant)s, 'C', 'c');
INSERT INTO knowledge.documents (tenant_id, collection_id, name, uploaded_by, chunk_count)
    VALUES (%(tenant)s, %(collection)s, 'known', %(user)s, 3);
INSERT INTO knowledge.documents (tenant_id, collection_id, name, uploaded_by, chunk_count)
    VALUES (%(tenant)s, %(collection)s, 'lost', gen_random_uuid(), 4);
INSERT INTO knowledge.documents (tenant_id, collection_id, name, deleted_at, chunk_count)
    VALUES (%(tenant)s, %(collection)s, 'deleted', now(), 8);
INSERT INTO knowledge.rag_queries (tenant_id, query_text, strategy, response_ms, top_score)
    VALUES (%(tenant)s, 'wild', 'hybrid', 1, 17.5);
INSERT INTO knowledge.rag_queries (tenant_id, query_text, strategy, response_ms, top_score)
    VALUES (%(tenant)s, 'words', 'lexical', 1, 17.5)
"""


@pytest.fixture
def worker(shared: Database, ours: Factory) -> Iterator[Connection]:
    """A worker's transaction, bound to our tenant."""
    with acting(shared, "worker", ours.tenant_id) as connection:
        yield connection


def fill(factory: Factory) -> dict[str, Row]:
    """Make a user with a product, a piece of it and a segment of a video."""
    user = factory.row("identity.users")
    product = factory.row("knowledge.products", user_id=user["id"])
    persona = factory.row("assistants.voice_personas", user_id=user["id"])
    return {
        "identity.users": user,
        "assistants.voice_personas": persona,
        "knowledge.products": product,
        "knowledge.product_chunks": factory.row("knowledge.product_chunks", product_id=product["id"]),
        "knowledge.transcript_segments": factory.row("knowledge.transcript_segments", persona_id=persona["id"]),
    }


def find(connection: Connection, factory: Factory, words: str | None = None, **asked: Any) -> list[UUID]:
    values = {"tenant": factory.tenant_id, "words": words, "metadata": None, "in_stock": None, "limit": 20} | asked
    return [row[0] for row in connection.execute(FIND.encode(), values).fetchall()]


# tenants


# users


@pytest.mark.parametrize("role", ["worker", "operator", "reader"])
def test_who_acts_for_a_user_sees_what_is_that_users(shared: Database, ours: Factory, role: str) -> None:
    rows, _ = fill(ours), fill(ours)
    with acting(shared, role, ours.tenant_id, rows["identity.users"]["id"]) as connection:
        assert {table: ids(connection, table) for table in TABLES} == {table: {rows[table]["id"]} for table in TABLES}
    with acting(shared, role, ours.tenant_id) as connection:
        assert [len(ids(connection, table)) for table in TABLES] == [2, 2, 2]


def test_another_tenants_user_sees_nothing_of_ours(shared: Database, ours: Factory, theirs: Factory) -> None:
    fill(ours)
    with acting(shared, "worker", ours.tenant_id, fill(theirs)["identity.users"]["id"]) as connection:
        assert [ids(connection, table) for table in TABLES] == [set()] * 3


@pytest.mark.parametrize(
    ("table", "owner"),
    [
        ("knowledge.products", "user_id"),
        ("knowledge.product_chunks", "product_id"),
        ("knowledge.transcript_segments", "persona_id"),
    ],
)
def test_who_acts_for_a_user_adds_to_that_users_things_alone(
    shared: Database, ours: Factory, table: str, owner: str
) -> None:
    own, other = fill(ours), fill(ours)
    values = {rows["identity.users"]["id"]: ours.values(table, **{owner: rows[table][owner]}) for rows in (own, other)}
    with acting(shared, "worker", ours.tenant_id, own["identity.users"]["id"]) as worker:
        writer = Factory(worker, ours.tenant_id)
        assert writer.insert(table, values.pop(own["identity.users"]["id"]))
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="user_binds"):
            writer.insert(table, *values.values())


def test_a_user_does_not_give_a_product_away(shared: Database, ours: Factory) -> None:
    own, other = (fill(ours)["identity.users"]["id"] for _ in range(2))
    with acting(shared, "worker", ours.tenant_id, own) as worker:
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="user_binds"), worker.transaction():
            worker.execute("UPDATE knowledge.products SET user_id = %s", (other,))
        assert worker.execute("DELETE FROM knowledge.products").rowcount == 1


# products


@pytest.mark.parametrize("role", ["worker", "system", "operator", "reader"])
def test_products_are_found_by_words_of_name_and_description_together(
    shared: Database, ours: Factory, role: str
) -> None:
    notebook = ours.row("knowledge.products", name="AquaGuard notebook", description="Waterproof pages")["id"]
    ours.row("knowledge.products", name="Notebook")
    with acting(shared, role, ours.tenant_id) as connection:
        assert find(connection, ours, "waterproof notebooks") == [notebook]
        assert find(connection, ours, "waterproof pencil") == []


def test_the_product_that_says_it_more_is_found_first(ours: Factory, worker: Connection) -> None:
    once = ours.row("knowledge.products", name="Notebook", description="Lined, of recycled paper")["id"]
    often = ours.row("knowledge.products", name="Notebook for notebooks", description="A notebook")["id"]
    assert find(worker, ours, "notebook") == [often, once]
    assert find(worker, ours, "notebook", limit=1) == [often]


def test_products_are_found_by_what_is_known_of_them(ours: Factory, worker: Connection) -> None:
    red = ours.row("knowledge.products", metadata={"color": "red", "size": "L"}, in_stock=False)["id"]
    blue = ours.row("knowledge.products", metadata={"color": "blue"})["id"]
    assert find(worker, ours, metadata=Jsonb({"color": "red"})) == [red]
    assert find(worker, ours, metadata=Jsonb({"color": "red"}), in_stock=True) == []
    assert find(worker, ours, in_stock=True) == [blue]
    assert set(find(worker, ours)) == {red, blue}


@pytest.mark.parametrize("role", ["worker", "reader"])
def test_one_product_of_many_is_found_by_an_index(shared: Database, ours: Factory, role: str) -> None:
    shared.rows(MANY, (ours.tenant_id, ours.row("identity.users")["id"]))
    shared.rows("VACUUM ANALYZE knowledge.products")
    scans = "SELECT pg_stat_get_xact_numscans(index) FROM unnest(%s::regclass[]) AS index"
    indexes = ["knowledge.products_tsvector_idx", "knowledge.products_metadata_idx"]
    with acting(shared, role, ours.tenant_id) as connection:
        [found] = find(connection, ours, "thing 4711")
        assert find(connection, ours, metadata=Jsonb({"number": 4711})) == [found]
        assert connection.execute(scans.encode(), (indexes,)).fetchall() == [(1,), (1,)]


def test_products_are_found_for_the_user_that_a_transaction_acts_for(shared: Database, ours: Factory) -> None:
    own, _ = fill(ours), fill(ours)
    with acting(shared, "worker", ours.tenant_id, own["identity.users"]["id"]) as worker:
        assert find(worker, ours) == [own["knowledge.products"]["id"]]


@pytest.mark.parametrize("role", ["worker", "system", "operator", "reader"])
def test_products_of_a_tenant_that_a_transaction_is_not_bound_to_are_refused(
    shared: Database, ours: Factory, theirs: Factory, role: str
) -> None:
    fill(theirs)
    for bound in (ours.tenant_id, None):
        with (
            acting(shared, role, bound) as connection,
            pytest.raises(psycopg.errors.InsufficientPrivilege, match="not bound to"),
        ):
            find(connection, theirs)


def test_products_of_no_tenant_are_none(shared: Database, ours: Factory) -> None:
    fill(ours)
    with acting(shared, "worker") as worker:
        assert find(worker, ours, tenant=None) == []


@pytest.mark.parametrize("role", ["relay", "producer"])
def test_who_only_hands_tasks_on_finds_no_products(shared: Database, ours: Factory, role: str) -> None:
    with (
        acting(shared, role, ours.tenant_id) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied"),
    ):
        find(connection, ours)


def test_a_products_pieces_and_a_personas_segments_go_with_their_user(ours: Factory, worker: Connection) -> None:
    worker.execute("DELETE FROM identity.users WHERE id = %s", (fill(ours)["identity.users"]["id"],))
    assert [ids(worker, table) for table in TABLES] == [set()] * 3


def test_a_piece_does_not_belong_to_another_tenants_product(ours: Factory, theirs: Factory) -> None:
    product_id = fill(theirs)["knowledge.products"]["id"]
    with pytest.raises(psycopg.errors.ForeignKeyViolation, match="product_chunks_product_id_tenant_id_fkey"):
        ours.row("knowledge.product_chunks", product_id=product_id)


# documents


def test_a_document_outlives_who_uploaded_it(ours: Factory, worker: Connection) -> None:
    user_id = ours.row("identity.users")["id"]
    document = ours.row("knowledge.documents", uploaded_by=user_id)["id"]
    worker.execute("DELETE FROM identity.users WHERE id = %s", (user_id,))
    query = "SELECT id, tenant_id, uploaded_by FROM knowledge.documents"
    assert worker.execute(query).fetchall() == [(document, ours.tenant_id, None)]


def test_a_document_is_not_uploaded_by_another_tenants_user(ours: Factory, theirs: Factory) -> None:
    user_id = theirs.row("identity.users")["id"]
    with pytest.raises(psycopg.errors.ForeignKeyViolation, match="documents_uploaded_by_tenant_id_fkey"):
        ours.row("knowledge.documents", uploaded_by=user_id)


@pytest.mark.parametrize(
    ("strategy", "score", "is_taken"),
    [
        ("lexical", 17.5, True),
        ("lexical", -0.5, False),
        ("vector", -0.5, True),
        ("vector", 1.5, False),
        ("hybrid", 0.5, True),
        ("hybrid", -1.5, False),
    ],
)
def test_a_score_is_one_that_its_strategy_gives(ours: Factory, strategy: str, score: float, is_taken: bool) -> None:
    if is_taken:
        assert ours.row("knowledge.rag_queries", strategy=strategy, top_score=score)
        return
    with pytest.raises(psycopg.errors.CheckViolation, match="rag_queries_top_score_check"):
        ours.row("knowledge.rag_queries", strategy=strategy, top_score=score)


def test_what_was_there_before_is_counted_and_keeps_the_rules(database: Database) -> None:
    migrate(database.owner_url, revision="0020")
    values = {
        "tenant": database.value("SELECT identity.default_tenant_id()"),
        "user": database.value("SELECT ops.uuid_v7()"),
        "collection": database.value("SELECT ops.uuid_v7()"),
    }
    for statement in BEFORE.strip().split(";\n"):
        database.rows(statement, values)

    migrate(database.owner_url)

    counts = "SELECT document_count, chunk_count FROM knowledge.collections WHERE id = %s"
    assert database.rows(counts, (values["collection"],)) == [(2, 7)]
    uploaders = dict(database.rows("SELECT name, uploaded_by FROM knowledge.documents"))
    assert uploaders == {"known": values["user"], "lost": None, "deleted": None}
    assert dict(database.rows("SELECT query_text, top_score FROM knowledge.rag_queries")) == {
        "wild": None,
        "words": 17.5,
    }
