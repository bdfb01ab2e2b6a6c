"""pytest's fixtures: `pytest_plugins = ["workers.testing.plugin"]` in your conftest.py makes them known."""

from collections.abc import Iterator

import pytest

from db.embedded import EmbeddedServer
from workers.testing.database import Database, cloned, fast_server, migrate_template


@pytest.fixture(scope="session")
def greenroom_server() -> Iterator[EmbeddedServer]:
    """A real PostgreSQL with pgvector for the session, in a folder of its own."""
    with fast_server() as server:
        yield server


@pytest.fixture(scope="session")
def greenroom_template(greenroom_server: EmbeddedServer) -> str:
    """The name of the migrated database that each test's own is cloned from; add your product's tables to it."""
    return migrate_template(greenroom_server)


@pytest.fixture
def greenroom_database(greenroom_server: EmbeddedServer, greenroom_template: str) -> Iterator[Database]:
    """A migrated database of the test's own, dropped at its end."""
    with cloned(greenroom_server, greenroom_template) as database:
        yield database
