"""Vectors of each kind stand in spaces of their kind, and are seen by who sees what they are of."""

from collections.abc import Iterator
from typing import NamedTuple
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql

from core.errors import ConstraintError, MissingRowError
from db import spaces
from db.connection import Connection
from db.constraints import rules
from db.migrate import migrate
from tests.support.database import Database
from tests.support.factory import Factory, Row
from tests.support.statements import changed, column, rows, value
from tests.support.tenants import GIVE_AWAY, acting, named, refusals, seen

Denied = psycopg.errors.InsufficientPrivilege


class Place(NamedTuple):
    """Where vectors of a kind stand, by which key, and what they are of."""

    table: str
    key: str
    things: str


PLACES: dict[spaces.Kind, Place] = {
    "chunks": Place("knowledge.chunk_vectors", "chunk_id", "knowledge.chunks"),
    "narratives": Place("people.narrative_vectors", "narrative_id", "people.narratives"),
    "tools": Place("tools.tool_vectors", "tool_id", "tools.tools"),
    "product_chunks": Place("knowledge.product_chunk_vectors", "product_chunk_id", "knowledge.product_chunks"),
    "transcript_segments": Place(
        "knowledge.transcript_segment_vectors", "transcript_segment_id", "knowledge.transcript_segments"
    ),
}
NEW = tuple(kind for kind in PLACES if kind != "chunks")
OF_USERS: tuple[spaces.Kind, ...] = ("product_chunks", "transcript_segments")
TABLES = tuple(PLACES[kind].table for kind in NEW)
INSERT = sql.SQL("INSERT INTO {} (space_id, {}, tenant_id, embedding) VALUES (%s, %s, %s, %s)")
NEAREST = sql.SQL(
    "SELECT v.{} FROM {} v WHERE v.space_id = {} ORDER BY v.embedding::vector(4) <=> '[1,0,0,0]'::vector(4) LIMIT 3"
)
GRAPH = """
SELECT indexname FROM pg_indexes WHERE schemaname || '.' || tablename = %s
    AND indexdef LIKE '%%USING hnsw%%vector_cosine_ops%%ef_construction%%128%%'
"""
# As a product asks for them: its own metadata and rows, and the vectors of one space.
IN_STOCK = """
SELECT p.name FROM knowledge.product_chunk_vectors v JOIN knowledge.product_chunks c ON c.id = v.product_chunk_id
JOIN knowledge.products p ON p.id = c.product_id
WHERE v.space_id = %s AND p.in_stock ORDER BY v.embedding::vector(4) <=> %s::vector(4) LIMIT 2
"""


def make(owner: Connection, kind: spaces.Kind, model: str = "small", dimensions: int = 4) -> UUID:
    """Make a space of a kind."""
    return spaces.create_space(owner, model=model, revision="1", dimensions=dimensions, max_tokens=9, kind=kind)


@pytest.fixture(scope="module")
def made(shared: Database) -> dict[str, UUID]:
    """The first space of each kind, all of one model."""
    owner = shared.connect()
    return {kind: make(owner, kind) for kind in PLACES}


@pytest.fixture
def worker(shared: Database, ours: Factory) -> Iterator[Connection]:
    """A worker's transaction, bound to our tenant."""
    with acting(shared, "worker", ours.tenant_id) as connection:
        yield connection


def thing(factory: Factory, kind: spaces.Kind, **given: object) -> Row:
    """Make a thing of a kind, of a user of its own."""
    if kind in OF_USERS:
        owner, table, key = (
            ("knowledge.products", "knowledge.product_chunks", "product_id")
            if kind == "product_chunks"
            else ("assistants.voice_personas", "knowledge.transcript_segments", "persona_id")
        )
        user_id = factory.row("identity.users")["id"]
        of_user = factory.row(owner, user_id=user_id, **given)
        return factory.row(table, **{key: of_user["id"]}) | {"user_id": user_id}
    return factory.row(PLACES[kind].things, **given)


def embed(connection: Connection, kind: spaces.Kind, space_id: UUID, row: Row, vector: str = "[1,0,0,0]") -> UUID:
    """Write a thing's vector; return the thing's key."""
    place = PLACES[kind]
    statement = INSERT.format(named(place.table), sql.Identifier(place.key))
    with rules():
        connection.execute(statement, (space_id, row["id"], row["tenant_id"], vector))
    found: UUID = row["id"]
    return found


def kept(connection: Connection, kind: spaces.Kind) -> set[UUID]:
    """Return the things of a kind whose vectors a login sees."""
    place = PLACES[kind]
    return column(connection, sql.SQL("SELECT {} FROM {}").format(sql.Identifier(place.key), named(place.table)))


# ------------------------------------------------------------------------------------------------ spaces


@pytest.mark.parametrize("kind", PLACES)
def test_a_space_of_each_kind_has_its_partition_and_its_index(
    shared: Database, made: dict[str, UUID], kind: spaces.Kind
) -> None:
    leaf = f"{PLACES[kind].table}_{made[kind].hex}"
    parent = "SELECT inhparent::regclass::text FROM pg_inherits WHERE inhrelid = %s::regclass"
    assert shared.value(parent, (leaf,)) == PLACES[kind].table
    assert len(shared.rows(GRAPH, (leaf,))) == 1
    connection = shared.connect("worker")
    [space] = spaces.spaces(connection, kind)
    assert (space.id, space.kind, space.is_active) == (made[kind], kind, True)
    assert spaces.index_of(connection, space.id).is_ready


def test_spaces_of_one_model_stand_beside_each_other(made: dict[str, UUID], shared: Database) -> None:
    assert len(set(made.values())) == len(PLACES)
    assert shared.value("SELECT count(DISTINCT model_id) FROM knowledge.spaces") == 1
    owner = shared.connect()
    assert {kind: make(owner, kind) for kind in PLACES} == made, "each once"


def test_a_space_of_no_kind_is_refused(shared: Database) -> None:
    create = "SELECT knowledge.create_space('letters', 'm', '1', 4, 9)"
    with acting(shared, "owner") as owner, pytest.raises(ConstraintError, match="spaces_kind_check"), rules():
        rows(owner, create)


@pytest.mark.parametrize("kind", NEW)
def test_a_second_space_is_filled_indexed_and_dropped(database: Database, kind: spaces.Kind) -> None:
    owner = database.connect()
    ours = Factory(owner, database.value("SELECT identity.default_tenant_id()"))
    first, chunks = make(owner, kind), make(owner, "chunks")
    second = make(owner, kind, "other", 3)
    row = thing(ours, kind)
    embed(owner, kind, first, row)
    embed(owner, kind, second, row, "[0,1,0]")
    space = next(space for space in spaces.spaces(owner, kind) if space.id == second)
    assert (space.is_active, spaces.index_of(owner, second).is_ready) == (False, False)
    spaces.build_index(owner, space)
    assert spaces.index_of(owner, second).is_ready

    spaces.drop(owner, space)

    assert [space.id for space in spaces.spaces(owner, kind)] == [first]
    assert [space.id for space in spaces.spaces(owner)] == [chunks]
    assert database.rows("SELECT name FROM knowledge.embedding_models") == [("small",)]
    assert database.value("SELECT to_regclass(%s)", (f"{PLACES[kind].table}_{second.hex}",)) is None
    assert kept(owner, kind) == {row["id"]}


def test_documents_are_searched_by_spaces_of_chunks(made: dict[str, UUID], ours: Factory, worker: Connection) -> None:
    query = "SELECT * FROM knowledge.search(tenant => %s, query_text => 'x', query_vector => '[1,0,0,0]', space => %s)"
    assert rows(worker, query, ours.tenant_id, made["chunks"]) == []
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="no space"):
        rows(worker, query, ours.tenant_id, made["narratives"])


def test_down_and_up_again_with_vectors_of_each_kind(database: Database) -> None:
    owner = database.connect()
    ours = Factory(owner, database.value("SELECT identity.default_tenant_id()"))
    for kind in PLACES:
        embed(owner, kind, make(owner, kind, f"of {kind}"), thing(ours, kind))
    database.close()
    migrate(database.owner_url, revision="0024")
    assert database.rows("SELECT kind FROM knowledge.spaces") == [("chunks",)]
    assert database.rows("SELECT name FROM knowledge.embedding_models") == [("of chunks",)]
    assert database.value("SELECT count(*) FROM knowledge.chunk_vectors") == 1
    database.rows("SELECT knowledge.create_space('chunks', 'second', '1', 4, 9)")
    database.close()
    migrate(database.owner_url)
    owner = database.connect()
    assert all(make(owner, kind) for kind in PLACES)
    assert database.value("SELECT count(*) FROM knowledge.chunk_vectors") == 1


# ------------------------------------------------------------------------------------------------ vectors


@pytest.mark.parametrize("kind", NEW)
def test_a_vector_goes_with_its_thing(
    made: dict[str, UUID], ours: Factory, worker: Connection, kind: spaces.Kind
) -> None:
    gone, stays = (embed(worker, kind, made[kind], thing(ours, kind)) for _ in "ab")
    assert kept(worker, kind) == {gone, stays}
    assert changed(worker, sql.SQL("DELETE FROM {} WHERE id = %s").format(named(PLACES[kind].things)), gone) == 1
    assert kept(worker, kind) == {stays}


@pytest.mark.parametrize("kind", NEW)
@pytest.mark.parametrize("vector", ["[0,0,0,0]", "[1,0,0]", "[1,0,0,0,0]"], ids=["zero", "too short", "too long"])
def test_a_vector_that_no_search_can_compare_is_refused(
    made: dict[str, UUID], ours: Factory, worker: Connection, kind: spaces.Kind, vector: str
) -> None:
    with pytest.raises(ConstraintError) as caught:
        embed(worker, kind, made[kind], thing(ours, kind), vector)
    assert caught.value.table == f"{PLACES[kind].table}_{made[kind].hex}"
    of_all = f"{PLACES[kind].table.partition('.')[2]}_embedding_check"
    assert (caught.value.constraint == of_all) == (vector == "[0,0,0,0]"), "the dimensions are the space's"


@pytest.mark.parametrize("kind", NEW)
def test_a_vector_needs_its_space_and_its_thing(
    made: dict[str, UUID], ours: Factory, worker: Connection, kind: spaces.Kind
) -> None:
    place = PLACES[kind]
    with pytest.raises(ConstraintError), worker.transaction():
        embed(worker, kind, uuid4(), thing(ours, kind))  # no partition takes it
    with pytest.raises(MissingRowError) as caught, worker.transaction():
        embed(worker, kind, made[kind], {"id": uuid4(), "tenant_id": ours.tenant_id})
    assert caught.value.constraint == f"{place.table.partition('.')[2]}_{place.key}_tenant_id_fkey"


@pytest.mark.parametrize("kind", NEW)
def test_another_tenants_thing_is_refused(
    made: dict[str, UUID], ours: Factory, theirs: Factory, worker: Connection, kind: spaces.Kind
) -> None:
    row = thing(theirs, kind)
    with pytest.raises(MissingRowError), worker.transaction():
        embed(worker, kind, made[kind], row | {"tenant_id": ours.tenant_id})
    with pytest.raises(Denied, match="row-level security"), worker.transaction():
        embed(worker, kind, made[kind], row)


# ------------------------------------------------------------------------------------------------ who sees them


def test_a_login_sees_vectors_of_the_tenant_that_it_is_bound_to(
    shared: Database, made: dict[str, UUID], ours: Factory, theirs: Factory
) -> None:
    owner = shared.connect()
    for factory in (ours, theirs):
        for kind in NEW:
            embed(owner, kind, made[kind], thing(factory, kind))
    for role in ("worker", "operator", "reader"):
        assert seen(shared, role, TABLES, ours.tenant_id) == {table: {ours.tenant_id} for table in TABLES}
        assert seen(shared, role, TABLES) == {table: set() for table in TABLES}
    assert all(found >= {ours.tenant_id, theirs.tenant_id} for found in seen(shared, "system", TABLES).values())
    values = (theirs.tenant_id, ours.tenant_id)
    assert refusals(shared, "worker", GIVE_AWAY, TABLES, ours.tenant_id, values) == list(TABLES)
    look = sql.SQL("SELECT FROM {}")
    for role in ("relay", "producer"):
        assert refusals(shared, role, look, TABLES, ours.tenant_id) == list(TABLES)
    leaves = [f"{PLACES[kind].table}_{made[kind].hex}" for kind in NEW]
    for role in ("worker", "system", "operator", "reader"):
        assert refusals(shared, role, look, leaves, ours.tenant_id) == leaves


@pytest.mark.parametrize("kind", OF_USERS)
def test_who_acts_for_a_user_sees_vectors_of_that_users_things(
    shared: Database, made: dict[str, UUID], ours: Factory, kind: spaces.Kind
) -> None:
    mine, other = thing(ours, kind), thing(ours, kind)
    owner = shared.connect()
    for row in (mine, other):
        embed(owner, kind, made[kind], row)
    for role in ("worker", "operator", "reader"):
        with acting(shared, role, ours.tenant_id, mine["user_id"]) as connection:
            assert kept(connection, kind) == {mine["id"]}
        with acting(shared, role, ours.tenant_id) as connection:
            assert kept(connection, kind) == {mine["id"], other["id"]}
    with acting(shared, "worker", ours.tenant_id, mine["user_id"]) as worker:
        changed(worker, sql.SQL("DELETE FROM {}").format(named(PLACES[kind].table)))
        embed(worker, kind, made[kind], mine)
        with pytest.raises(Denied, match="user_binds"):
            embed(worker, kind, made[kind], other)


# ------------------------------------------------------------------------------------------------ the nearest


@pytest.mark.parametrize("kind", NEW)
def test_the_nearest_are_found_by_the_spaces_index(
    shared: Database, made: dict[str, UUID], ours: Factory, worker: Connection, kind: spaces.Kind
) -> None:
    near, far = (embed(worker, kind, made[kind], thing(ours, kind), vector) for vector in ("[1,1,0,0]", "[-1,0,0,0]"))
    nearest = embed(worker, kind, made[kind], thing(ours, kind))
    place = PLACES[kind]
    query = NEAREST.format(sql.Identifier(place.key), named(place.table), made[kind])
    worker.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off")
    plan = "\n".join(line for (line,) in rows(worker, sql.SQL("EXPLAIN ") + query))
    graph = value(worker, GRAPH, f"{place.table}_{made[kind].hex}")
    assert f"Index Scan using {graph}" in plan
    assert [found for (found,) in rows(worker, query)] == [nearest, near, far]


def test_products_in_stock_are_found_by_a_vector(made: dict[str, UUID], ours: Factory, worker: Connection) -> None:
    products = {"bottle": ("[1,0.1,0,0]", True), "cup": ("[1,0,0,0]", False), "lamp": ("[0,0,1,0]", True)}
    for name, (vector, in_stock) in products.items():
        row = thing(ours, "product_chunks", name=name, in_stock=in_stock)
        embed(worker, "product_chunks", made["product_chunks"], row, vector)
    found = rows(worker, IN_STOCK, made["product_chunks"], "[1,0,0,0]")
    assert found == [("bottle",), ("lamp",)]


def test_a_transaction_that_is_bound_to_nobody_finds_nothing(
    shared: Database, made: dict[str, UUID], ours: Factory
) -> None:
    row = thing(ours, "product_chunks", name="bottle", in_stock=True)
    embed(shared.connect(), "product_chunks", made["product_chunks"], row)
    with acting(shared, "worker") as worker:
        assert value(worker, "SELECT count(*) FROM knowledge.product_chunk_vectors") == 0
        assert rows(worker, IN_STOCK, made["product_chunks"], "[1,0,0,0]") == []
