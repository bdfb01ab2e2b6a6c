"""What rows of before become under rules that came later, and what they were again on the way down."""

import psycopg
import pytest
from psycopg import sql

from core.errors import ConstraintError
from db.connection import Connection
from db.constraints import rules
from db.migrate import downgrade, migrate
from tests.support.database import Database
from tests.support.factory import Factory
from tests.support.statements import changed
from tests.support.tenants import acting, named

BEFORE = "0029"
TENANT = "INSERT INTO identity.tenants (name, slug, contact_email, metadata) VALUES ('T', %s, %s, '{\"a\": 1}')"
CONTACTS = "SELECT slug, contact_email, metadata FROM identity.tenants WHERE name = 'T' ORDER BY slug"
DOCUMENT = """
INSERT INTO knowledge.documents (tenant_id, name) VALUES (identity.default_tenant_id(), 'D') RETURNING id
"""
CHUNK = """
INSERT INTO knowledge.chunks
    (tenant_id, document_id, version, chunk_index, text, text_hash, start_offset, end_offset,
    is_curated, source_chunk_ids)
VALUES (identity.default_tenant_id(), %s, 1, %s, 'x', sha256('x'), 0, 1, %s, %s)
"""
SOURCES = "SELECT is_curated, source_chunk_ids IS NOT NULL, metadata <> '{}' FROM knowledge.chunks ORDER BY chunk_index"
POLICIES = "SELECT count(*) FROM pg_policies WHERE policyname = 'owner_passes' AND tablename ~ '_vectors_[0-9a-f]{32}$'"
LEAVES = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'tools.tool_vectors'::regclass"


def test_a_contact_that_is_no_address_is_set_aside_and_comes_back(database: Database) -> None:
    downgrade(database.owner_url, BEFORE)
    for slug, contact in (("broken", "the office, 2nd floor"), ("none", None), ("right", "a@example.com")):
        database.rows(TENANT, (slug, contact))
    before = database.rows(CONTACTS)

    migrate(database.owner_url)

    assert database.rows(CONTACTS) == [
        ("broken", None, {"a": 1, "invalid_contact_email": "the office, 2nd floor"}),
        *before[1:],
    ]
    with pytest.raises(psycopg.errors.CheckViolation, match="tenants_contact_email_check"):
        database.rows(TENANT, ("new", "the office"))
    downgrade(database.owner_url, BEFORE)
    assert database.rows(CONTACTS) == before


def test_sources_of_what_is_no_summary_are_set_aside_and_come_back(database: Database) -> None:
    downgrade(database.owner_url, BEFORE)
    document, source = database.value(DOCUMENT), database.value("SELECT ops.uuid_v7()")
    for index, (is_curated, sources) in enumerate(((True, [source]), (False, [source]), (False, None))):
        database.rows(CHUNK, (document, index, is_curated, sources))
    before = database.rows(SOURCES)

    migrate(database.owner_url)

    assert database.rows(SOURCES) == [(True, True, False), (False, False, True), (False, False, False)]
    downgrade(database.owner_url, BEFORE)
    assert database.rows(SOURCES) == before == [(True, True, False), (False, True, False), (False, False, False)]


def test_a_space_of_before_lets_its_owner_pass_like_a_new_one(database: Database) -> None:
    make = "SELECT knowledge.create_space('tools', %s, '1', 1, 512)"
    downgrade(database.owner_url, BEFORE)
    database.rows(make, ("old",))
    known = database.value(POLICIES)

    migrate(database.owner_url)
    database.rows(make, ("new",))

    assert (known, database.value(POLICIES)) == (0, len(database.rows(LEAVES))) == (0, 2)
    downgrade(database.owner_url, BEFORE)
    assert database.value(POLICIES) == 0
    migrate(database.owner_url)


def test_the_owner_reads_and_writes_vectors_where_they_stand(database: Database) -> None:
    """As a backup and a data migration do: a partition by itself."""
    owner = database.connect()
    Factory(owner, database.value("SELECT identity.default_tenant_id()")).row("tools.tool_vectors")
    [(leaf,)] = database.rows(LEAVES)
    with owner.cursor().copy(sql.SQL("COPY (SELECT tool_id FROM {}) TO STDOUT").format(named(leaf))) as copy:
        assert len(list(copy.rows())) == 1
    assert changed(owner, sql.SQL("UPDATE {} SET embedding = '[2]'").format(named(leaf))) == 1


@pytest.mark.parametrize("sign", ["a", "\U0001f4e7"])
def test_a_thread_is_as_long_as_the_message_id_that_began_it(shared: Database, ours: Factory, sign: str) -> None:
    most = min(998, 2000 // len(sign.encode()))
    mail = ours.row("mail.emails", direction="inbound", status="received")["id"]
    with acting(shared, "worker", ours.tenant_id) as worker:
        _thread(worker, mail, sign * most)
        with pytest.raises(ConstraintError) as caught, rules():
            _thread(worker, mail, sign * (most + 1))
    assert caught.value.constraint == "emails_thread_id_check"


def _thread(connection: Connection, mail: object, thread: str) -> None:
    assert changed(connection, "UPDATE mail.emails SET thread_id = %s WHERE id = %s", thread, mail) == 1


def test_a_longer_thread_is_cut_on_the_way_down(database: Database) -> None:
    factory = Factory(database.connect(), database.value("SELECT identity.default_tenant_id()"))
    factory.row("mail.emails", direction="inbound", status="received", thread_id="x" * 998)
    database.close()
    downgrade(database.owner_url, BEFORE)
    assert database.value("SELECT length(thread_id) FROM mail.emails") == 255
