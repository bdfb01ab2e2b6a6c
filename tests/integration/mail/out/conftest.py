"""A server of SMTP and a mailbox that sends through it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.database import Database
from tests.support.engine import publish
from tests.support.post import REGISTRY, Post
from tests.support.smtp import MailServer, mail_server


@pytest.fixture(scope="session")
def one_server() -> Iterator[MailServer]:
    """The server of all tests that want no other."""
    with mail_server() as found:
        yield found


@pytest.fixture
def server(one_server: MailServer) -> MailServer:
    """A server that took nothing yet, and takes everything."""
    fresh = MailServer()
    for name in ("taken", "sender", "rcpt", "data", "logins"):
        setattr(one_server, name, getattr(fresh, name))
    one_server.given.clear()
    one_server.release.clear()
    return one_server


@pytest.fixture
def post(database: Database, tmp_path: Path) -> Post:
    """What queues and sends, over the test's own database."""
    publish(database, REGISTRY)
    return Post(database, tmp_path)
