"""Migrations: up, down, up again; the roles; what a database of another age is told."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from core.errors import SchemaError, UnavailableError
from db import spaces
from db.connection import connect
from db.embedded import EmbeddedServer
from db.migrate import downgrade, migrate, scripted_revisions, status
from db.queries import Queries
from db.roles import ROLES, create_roles
from db.schema import WANTED_REVISION, current_revision, require_revision
from pipelines.enqueue import enqueue
from pipelines.registry import Registry
from tests.support.database import Database, cloned
from tests.support.engine import Line, publish
from tests.support.tasks import Noop

STEPS = ["0001", "0002", "0009", "0024", *(f"{number:04}" for number in range(25, int(WANTED_REVISION)))]
SCHEMA = """
SELECT c.oid::regclass::text, c.relkind::text,
    string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod), ',' ORDER BY a.attname)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE n.nspname NOT IN ('pg_catalog', 'pg_toast', 'information_schema', 'public') GROUP BY 1, 2
UNION ALL
SELECT oid::regprocedure::text, 'f', concat_ws(' ', prosrc, proconfig::text, prosecdef,
    (SELECT string_agg(a::text, ' ' ORDER BY a::text) FROM unnest(COALESCE(proacl, acldefault('f', proowner))) AS a))
FROM pg_proc WHERE pronamespace IN
    (SELECT oid FROM pg_namespace WHERE nspname NOT IN ('pg_catalog', 'pg_toast', 'information_schema', 'public'))
UNION ALL
SELECT polrelid::regclass::text || polname, 'p', pg_get_expr(polqual, polrelid) FROM pg_policy
UNION ALL
SELECT conrelid::regclass::text || ' ' || conname, 'c', pg_get_constraintdef(oid) FROM pg_constraint
WHERE contype = 'c' AND conrelid IN (SELECT oid FROM pg_class WHERE NOT relispartition)
ORDER BY 1, 2
"""


GRAPHS = """
SELECT c.oid::regclass::text, c.reloptions FROM pg_class c JOIN pg_am a ON a.oid = c.relam
WHERE a.amname = 'hnsw' AND c.relkind = 'i'
"""


Schemas = dict[str, list[tuple[Any, ...]]]
"""What `SCHEMA` gives, by the revision."""


@contextmanager
def blank(server: EmbeddedServer) -> Iterator[Database]:
    """A database without a schema."""
    with cloned(server, "template1") as database:
        with psycopg.connect(database.superuser_url, autocommit=True) as connection:
            connection.execute("CREATE EXTENSION vector SCHEMA public")
        yield database


@pytest.fixture
def empty(server_without_fsync: EmbeddedServer) -> Iterator[Database]:
    """A database without a schema, of the test's own."""
    with blank(server_without_fsync) as database:
        yield database


def schema_at(database: Database, revision: str) -> list[tuple[Any, ...]]:
    """Migrate up or down to a revision; return the schema there."""
    assert migrate(database.owner_url, revision=revision).current == revision
    return database.rows(SCHEMA)


def test_up_down_up(empty: Database) -> None:
    assert status(empty.owner_url).current is None
    assert migrate(empty.owner_url).is_current
    first = empty.rows(SCHEMA)
    assert migrate(empty.owner_url).is_current, "again does nothing"
    assert migrate(empty.owner_url, revision="base").current is None
    assert empty.rows(SCHEMA) == []
    assert migrate(empty.owner_url).is_current
    assert empty.rows(SCHEMA) == first


def test_down_with_rows_and_up_again(database: Database, registry: Registry) -> None:
    publish(database, registry)
    enqueue(database.connect("producer"), Noop())
    database.close()
    migrate(database.owner_url, revision="base")
    migrate(database.owner_url)
    assert database.value("SELECT count(*) FROM queue.outbox_tasks") == 0


def test_what_waited_under_the_schema_before_runs_under_this_one(empty: Database, registry: Registry) -> None:
    migrate(empty.owner_url, revision="0001")
    process = "INSERT INTO queue.processes (id, kind, host, pid, task_types) VALUES (%s, 'worker', 'h', 1, '{a}')"
    empty.rows(process, (uuid4(),))
    insert = (
        "INSERT INTO queue.outbox_tasks (task_type, payload, run_after) VALUES ('test.noop', '{}', %s) RETURNING id"
    )
    held, far = (empty.value(insert, (moment,)) for moment in ("2020-01-01", "12000-01-01"))
    empty.close()

    migrate(empty.owner_url)

    line = Line(empty, registry)
    operator = empty.connect("operator")
    for task_id in (held, far):
        assert Queries("tasks").count(operator, "release", {"id": task_id}) == 1
    assert line.run_once() == 1
    assert line.task(held)["status"] == "done"
    assert line.task(far)["run_after"].year == 9998
    line.close()


@pytest.fixture(scope="module")
def on_the_way_up(server_without_fsync: EmbeddedServer) -> Schemas:
    """The schema at each of `STEPS` and at the newest revision, of one database that halts there on its way up."""
    with blank(server_without_fsync) as database:
        return {step: schema_at(database, step) for step in (*STEPS, WANTED_REVISION)}


@pytest.mark.parametrize("revision", STEPS)
def test_down_a_step_and_up_again(database: Database, on_the_way_up: Schemas, revision: str) -> None:
    before, newest = on_the_way_up[revision], on_the_way_up[WANTED_REVISION]
    assert before != newest
    assert database.rows(SCHEMA) == newest, "it came up in one go"
    assert schema_at(database, revision) == before
    assert schema_at(database, WANTED_REVISION) == newest


def test_every_index_over_vectors_looks_at_as_many_candidates(empty: Database) -> None:
    migrate(empty.owner_url, revision="0012")
    with connect(empty.owner_url, name="test") as owner:  # as the programs of that revision made it
        owner.execute("SELECT knowledge.create_space('chunks', 'first', '1', 4, 256)")
    assert list(dict(empty.rows(GRAPHS)).values()) == [None]
    empty.close()

    migrate(empty.owner_url)
    with connect(empty.owner_url, name="test") as owner:
        spaces.create_space(owner, model="second", revision="1", dimensions=4, max_tokens=256)
        spaces.build_index(owner, spaces.named(owner, "second"))
        owner.execute("REINDEX TABLE CONCURRENTLY knowledge.chunk_vectors")  # as docs/documents.md has it
    assert list(dict(empty.rows(GRAPHS)).values()) == [["ef_construction=128"]] * 2
    empty.close()

    migrate(empty.owner_url, revision="0012")
    assert list(dict(empty.rows(GRAPHS)).values()) == [None] * 2


def test_a_first_space_looks_at_as_many_candidates(database: Database) -> None:
    owner = database.connect()
    spaces.create_space(owner, model="first", revision="1", dimensions=4, max_tokens=256)
    assert list(dict(database.rows(GRAPHS)).values()) == [["ef_construction=128"]]


def test_the_wanted_revision_is_the_newest_script() -> None:
    revisions = scripted_revisions()
    assert revisions[0] == WANTED_REVISION
    assert revisions == sorted(revisions, reverse=True), "older and newer are told apart by the text's order"
    assert all(len(revision) == 4 and revision.isdigit() for revision in revisions)


def test_every_role_reads_the_revision(database: Database) -> None:
    for kind in ("owner", *ROLES):
        assert current_revision(database.connect(kind)) == WANTED_REVISION


def test_every_role_gives_a_stuck_statement_up(database: Database) -> None:
    for kind in ROLES:
        [(limit,)] = database.connect(kind).execute("SHOW statement_timeout").fetchall()
        assert limit != "0", kind


def test_no_password_travels_in_clear(database: Database, tmp_path: Path) -> None:
    connection = database.connect()
    with (tmp_path / "wire").open("wb") as wire, connection.transaction(force_rollback=True):
        connection.pgconn.trace(wire.fileno())
        create_roles(connection, dict.fromkeys(ROLES, "hunter2"))
        connection.pgconn.untrace()
    sent = (tmp_path / "wire").read_bytes()
    assert sent.count(b"PASSWORD 'SCRAM-SHA-256$") == len(ROLES)
    assert b"hunter2" not in sent


def test_an_empty_an_older_and_a_newer_schema_are_told_apart() -> None:
    require_revision(WANTED_REVISION)
    for revision, what_to_do in (
        (None, "greenroom db migrate"),
        ("0000", "older.*migrate"),
        ("9999", "newer.*upgrade"),
    ):
        with pytest.raises(SchemaError, match=what_to_do):
            require_revision(revision)


def test_a_newer_schema_is_not_migrated(empty: Database) -> None:
    with connect(empty.owner_url, name="test") as connection:
        assert current_revision(connection) is None
    migrate(empty.owner_url)
    empty.rows("UPDATE public.alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaError, match="newer"):
        migrate(empty.owner_url)


def test_a_pgvector_that_cannot_search_is_refused_before_anything_is_made(empty: Database) -> None:
    with psycopg.connect(empty.superuser_url, autocommit=True) as superuser:
        superuser.execute("UPDATE pg_extension SET extversion = '0.7.4' WHERE extname = 'vector'")
    with pytest.raises(SchemaError, match=r"pgvector 0\.7\.4 is too old.*install 0\.8\.4 or newer"):
        migrate(empty.owner_url)
    assert status(empty.owner_url).current is None
    with psycopg.connect(empty.superuser_url, autocommit=True) as superuser:
        superuser.execute("UPDATE pg_extension SET extversion = '0.8.0' WHERE extname = 'vector'")
    assert migrate(empty.owner_url).is_current


def test_history_has_partitions_ahead(database: Database) -> None:
    query = "SELECT count(*) FROM pg_inherits WHERE inhparent = %s::regclass"
    assert database.value(query, ("queue.tasks_history",)) == 3
    assert database.value("SELECT queue.create_months()") == 0
    assert database.value("SELECT queue.create_month('queue.tasks_history', now() + interval '5 months')") is not None
    assert database.value("SELECT queue.create_month('queue.tasks_history', now() + interval '5 months')") is None
    assert database.value(query, ("queue.tasks_history",)) == 4


def test_a_downgrade_leaves_the_roles_passwords_as_they_are(database: Database) -> None:
    passwords = "SELECT rolname, rolpassword FROM pg_authid WHERE rolname LIKE 'greenroom%' ORDER BY 1"
    with psycopg.connect(database.superuser_url, autocommit=True) as superuser:
        before = superuser.execute(passwords).fetchall()
        downgrade(database.owner_url, "0024")
        assert superuser.execute(passwords).fetchall() == before != []
    migrate(database.owner_url)


@pytest.mark.parametrize("revision", ["0100", "nonsense"])
def test_a_revision_that_is_not_there_is_refused(database: Database, revision: str) -> None:
    with pytest.raises(SchemaError, match=f"no revision {revision} below {WANTED_REVISION}"):
        downgrade(database.owner_url, revision)


@pytest.mark.parametrize("revision", ["0005", "base"])
def test_nothing_is_taken_back_where_there_is_no_schema(empty: Database, revision: str) -> None:
    with pytest.raises(SchemaError, match="no Greenroom schema: there is nothing to take back"):
        downgrade(empty.owner_url, revision)
    assert status(empty.owner_url).current is None
    assert empty.value("SELECT to_regnamespace('queue')") is None


def test_a_server_that_only_reads_is_told_as_such(database: Database) -> None:
    database.rows(f"ALTER DATABASE {database.name} SET default_transaction_read_only = on")
    with pytest.raises(UnavailableError, match="the database only reads"):
        migrate(database.owner_url)
    with pytest.raises(UnavailableError, match="the database only reads"):
        downgrade(database.owner_url, "0024")
    assert status(database.owner_url).is_current


def test_a_database_that_slept_for_months_is_migrated(database: Database) -> None:
    months = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'audit.audit_log'::regclass"
    for (month,) in database.rows(months):
        database.rows(f"DROP TABLE {month}")
    downgrade(database.owner_url, "0024")
    assert migrate(database.owner_url).is_current
    noted = "SELECT new_values ->> 'version_num' FROM audit.audit_log WHERE table_name = 'alembic_version' ORDER BY id"
    assert database.rows(noted)[-1] == (WANTED_REVISION,)
