"""One database for each module's tests, and two tenants of a test's own in it."""

from collections.abc import Iterator

import pytest

from db.embedded import EmbeddedServer
from tests.support.database import Database, cloned
from tests.support.factory import Factory
from tests.support.tenants import new_tenant


@pytest.fixture(scope="module")
def shared(server_without_fsync: EmbeddedServer, template_database: str) -> Iterator[Database]:
    """A database in which each test has tenants of its own."""
    with cloned(server_without_fsync, template_database) as database:
        yield database


@pytest.fixture
def ours(shared: Database) -> Iterator[Factory]:
    """The maker of a tenant's rows."""
    with new_tenant(shared) as factory:
        yield factory


@pytest.fixture
def theirs(shared: Database) -> Iterator[Factory]:
    """The maker of another tenant's rows."""
    with new_tenant(shared) as factory:
        yield factory
