"""Months for history: the system role has them made, and who lacks one is told what to do."""

from uuid import uuid4

import psycopg
import pytest

from core.errors import ConstraintError, MissingMonthError
from db.constraints import rules
from tests.support.database import Database
from tests.support.factory import Factory
from tests.support.statements import column, value
from tests.support.tenants import acting

MAKE = "SELECT ops.create_months_of(%s, %s, %s)"
MESSAGES = "assistants.messages"
BOUNDS = """
SELECT pg_get_expr(c.relpartbound, c.oid) FROM pg_class c JOIN pg_inherits i ON i.inhrelid = c.oid
WHERE i.inhparent IN ('assistants.messages'::regclass, 'queue.attempts'::regclass) AND c.relname LIKE '%\\_2024\\_%'
"""


def test_history_is_brought_in_once_its_months_are_made(database: Database) -> None:
    owner, system = database.connect(), database.connect("system")
    factory = Factory(owner, value(owner, "SELECT id FROM identity.tenants LIMIT 1"))
    old = {"created_at": "2023-06-01 12:00+00"}
    told = r"no month for the row's time.*ops.create_months_of\('assistants.messages', since, until\)"
    with pytest.raises(MissingMonthError, match=told) as caught, rules():
        factory.row(MESSAGES, **old)
    assert (caught.value.table, caught.value.constraint) == (MESSAGES, "month")
    assert value(system, MAKE, MESSAGES, "2023-05-31", "2023-07-01") == 2
    assert value(system, MAKE, MESSAGES, "2023-05-01", "2023-07-01 00:00:01") == 1
    assert factory.row(MESSAGES, **old)


@pytest.mark.parametrize(
    ("role", "make"),
    [
        ("system", "SELECT ops.create_months_of('assistants.messages', '02/12/2024', '03/12/2024')"),
        ("owner", "SELECT ops.create_month('assistants.messages', '02/12/2024')"),
        ("owner", "SELECT queue.create_month('queue.attempts', '02/12/2024')"),
    ],
)
def test_a_months_bounds_are_the_same_in_each_session(database: Database, role: str, make: str) -> None:
    connection = database.connect(role)
    connection.execute("SET datestyle = 'SQL, DMY'")
    connection.execute("SET timezone = 'Asia/Kolkata'")
    assert value(connection, make)
    bounds = "FOR VALUES FROM ('2024-12-01 00:00:00+00') TO ('2025-01-01 00:00:00+00')"
    assert column(database.connect(), BOUNDS) == {bounds}


@pytest.mark.parametrize(
    ("relation", "since", "until"),
    [
        ("identity.users", "2023-01-01", "2023-02-01"),
        ("assistants.nothing", "2023-01-01", "2023-02-01"),
        ("assistants.messages_2023_01", "2023-01-01", "2023-02-01"),
        ("pg_catalog.pg_class", "2023-01-01", "2023-02-01"),
        (MESSAGES, "2023-02-01", "2023-02-01"),
        (MESSAGES, "2013-01-01", "2023-01-02"),
        (MESSAGES, "-infinity", "2023-01-01"),
        (MESSAGES, "2023-01-01", "infinity"),
    ],
)
def test_what_has_no_months_and_endless_times_are_refused(
    shared: Database, relation: str, since: str, until: str
) -> None:
    with acting(shared, "system") as system, pytest.raises(psycopg.errors.InvalidParameterValue):
        system.execute(MAKE.encode(), (relation, since, until))


@pytest.mark.parametrize("role", ["worker", "producer", "relay", "operator", "reader"])
def test_months_of_history_are_the_system_roles_to_make(shared: Database, role: str) -> None:
    with acting(shared, role) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(MAKE.encode(), (MESSAGES, "2023-01-01", "2023-02-01"))


def test_a_space_that_is_not_there_is_no_month(ours: Factory) -> None:
    chunk = ours.row("knowledge.chunks")["id"]
    insert = (
        b"INSERT INTO knowledge.chunk_vectors (chunk_id, tenant_id, space_id, embedding) VALUES (%s, %s, %s, '[1]')"
    )
    with pytest.raises(ConstraintError) as caught, rules():
        ours.owner.execute(insert, (chunk, ours.tenant_id, uuid4()))
    assert not isinstance(caught.value, MissingMonthError)
