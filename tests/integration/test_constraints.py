"""Errors about rules of the schema come typed, from a plain connection and from a session; a stale write is refused."""

from collections.abc import Iterator
from uuid import UUID, uuid4

import psycopg
import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from core.errors import ConstraintError, DuplicateError, MissingRowError, StaleVersionError
from db import identity
from db.connection import Connection
from db.constraints import rule_error, rules
from db.models.identity import User
from tests.support.database import Database
from tests.support.factory import Factory


@pytest.fixture
def owner(database: Database) -> Connection:
    return database.connect()


@pytest.fixture
def factory(owner: Connection) -> Factory:
    return Factory(owner, identity.tenant_id_of(owner, "default"))


@pytest.fixture
def sessions(database: Database) -> Iterator[tuple[Session, Session]]:
    engine = create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(database.owner_url), poolclass=NullPool
    )
    with Session(engine) as one, Session(engine) as other:
        yield one, other
    engine.dispose()


def test_a_broken_check_names_itself(factory: Factory) -> None:
    with pytest.raises(ConstraintError, match=r"identity\.users breaks the rule users_email_check") as caught, rules():
        factory.row("identity.users", email="nowhere")
    assert (caught.value.table, caught.value.constraint) == ("identity.users", "users_email_check")


def test_a_missing_value_names_its_column(factory: Factory) -> None:
    with pytest.raises(ConstraintError) as caught, rules():
        factory.insert("identity.users", factory.values("identity.users") | {"email": None})
    assert caught.value.constraint == "email"


def test_a_key_that_is_taken_is_a_duplicate(factory: Factory) -> None:
    factory.row("identity.users", email="ada@example.com")
    with pytest.raises(DuplicateError) as caught, rules():
        factory.row("identity.users", email="ada@example.com")
    assert caught.value.constraint == "users_email_key"


def test_a_row_that_refers_to_nothing_says_so(factory: Factory) -> None:
    with pytest.raises(MissingRowError) as caught, rules():
        factory.row("identity.sessions", user_id=uuid4())
    assert caught.value.constraint == "sessions_user_id_tenant_id_fkey"


def test_a_row_that_is_still_referred_to_says_so(owner: Connection, factory: Factory) -> None:
    secret = factory.row("vault.secrets")
    factory.row("mail.mailboxes", imap_secret_id=secret["id"])
    with pytest.raises(MissingRowError, match="still referred to") as caught, rules():
        owner.execute("DELETE FROM vault.secrets WHERE id = %s", (secret["id"],))
    assert caught.value.constraint == "mailboxes_imap_secret_id_tenant_id_fkey"


def test_a_deleted_users_address_is_free(factory: Factory) -> None:
    for _ in range(2):
        factory.row("identity.users", email="ada@example.com", deleted_at="2026-01-01")


def test_other_errors_pass(owner: Connection) -> None:
    with pytest.raises(psycopg.errors.UndefinedTable), rules():
        owner.execute("SELECT FROM nowhere")
    with pytest.raises(ValueError, match="of ours"), rules():
        raise ValueError("of ours")
    assert rule_error(ValueError()) is None


def renamed(owner: Connection, user_id: UUID, name: str, read: int) -> None:
    owner.execute("UPDATE identity.users SET name = %s, version = %s WHERE id = %s", (name, read, user_id))


def test_a_stale_write_is_refused(owner: Connection, factory: Factory) -> None:
    user_id = factory.row("identity.users")["id"]
    renamed(owner, user_id, "Ada", 1)
    with pytest.raises(StaleVersionError, match="read it again") as caught, rules():
        renamed(owner, user_id, "Grace", 1)
    assert caught.value.table == "identity.users"
    renamed(owner, user_id, "Grace", 2)
    owner.execute("UPDATE identity.users SET name = 'Hedy' WHERE id = %s", (user_id,))  # does not speak of it
    [found] = owner.execute("SELECT name, version FROM identity.users WHERE id = %s", (user_id,)).fetchall()
    assert found == ("Hedy", 4)


def test_a_session_refuses_a_stale_write_too(sessions: tuple[Session, Session], factory: Factory) -> None:
    user_id = factory.row("identity.users")["id"]
    mine, theirs = (session.get_one(User, user_id) for session in sessions)
    mine.name = "Ada"
    sessions[0].commit()
    assert mine.version == 2
    theirs.name = "Grace"
    with pytest.raises(StaleVersionError, match="read it again"), rules():
        sessions[1].commit()


def test_a_sessions_errors_come_typed(sessions: tuple[Session, Session], factory: Factory) -> None:
    sessions[0].add(User(tenant_id=factory.tenant_id, email="nowhere"))
    with pytest.raises(ConstraintError) as caught, rules():
        sessions[0].commit()
    assert caught.value.constraint == "users_email_check"


def test_a_transaction_that_acts_for_a_user_sees_that_user_alone(database: Database, factory: Factory) -> None:
    ours, other = (factory.row("identity.users")["id"] for _ in range(2))
    for user_id in (ours, other):
        factory.row("identity.user_sessions", user_id=user_id)
    worker = database.connect("worker")
    with worker.transaction():
        worker.execute("SELECT set_config('app.current_tenant_id', %s, true)", (str(factory.tenant_id),))
        assert len(worker.execute("SELECT FROM identity.users").fetchall()) == 2
        worker.execute("SELECT set_config('app.current_user_id', %s, true)", (str(ours),))
        assert worker.execute("SELECT id FROM identity.users").fetchall() == [(ours,)]
        assert worker.execute("SELECT user_id FROM identity.user_sessions").fetchall() == [(ours,)]
    with worker.transaction():
        worker.execute("SELECT set_config('app.current_tenant_id', %s, true)", (str(factory.tenant_id),))
        assert len(worker.execute("SELECT FROM identity.users").fetchall()) == 2
