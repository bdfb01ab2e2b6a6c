"""One IMAP server a session, one database for each module's tests, and a tenant of a test's own in it."""

from collections.abc import Iterator

import pytest

from db.embedded import EmbeddedServer
from tests.support.database import Database, cloned
from tests.support.dovecot import Dovecot, dovecot_server
from tests.support.engine import publish
from tests.support.mailboxes import REGISTRY, Mailboxes, mailboxes
from tests.support.tenants import new_tenant


@pytest.fixture(scope="session")
def imap() -> Iterator[Dovecot]:
    """A real IMAP server, on which any user name is a fresh mailbox."""
    with dovecot_server() as server:
        yield server


@pytest.fixture(scope="module")
def shared(server_without_fsync: EmbeddedServer, template_database: str) -> Iterator[Database]:
    """A database in which each test has a tenant of its own."""
    with cloned(server_without_fsync, template_database) as database:
        publish(database, REGISTRY)
        yield database


@pytest.fixture
def boxes(shared: Database, imap: Dovecot) -> Iterator[Mailboxes]:
    """Mailboxes of a tenant of its own."""
    with new_tenant(shared) as factory:
        own = Database(shared.server, shared.name)  # closes what it has opened at the test's end
        with mailboxes(own, factory, imap) as found:
            yield found
        own.close()
