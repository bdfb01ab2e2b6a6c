"""One database for each module's tests, with the task types of the tests published."""

from collections.abc import Iterator

import pytest

from db.connection import Connection
from db.embedded import EmbeddedServer
from pipelines.publish import publish_types
from pipelines.registry import Registry
from tests.support import tasks
from tests.support.database import Database, cloned
from tests.support.factory import Factory
from tests.support.tenants import new_tenant


@pytest.fixture(scope="module")
def shared(server_without_fsync: EmbeddedServer, template_database: str) -> Iterator[Database]:
    """A database in which each test has schedules of its own."""
    with cloned(server_without_fsync, template_database) as database:
        publish_types(database.connect(), Registry(tasks.TASKS))
        yield database


@pytest.fixture(scope="module")
def operator(shared: Database) -> Connection:
    """The operator's connection, which adds and steers schedules."""
    return shared.connect("operator")


@pytest.fixture(scope="module")
def scheduler(shared: Database) -> Connection:
    """The connection of a scheduler, which fires them."""
    return shared.connect("scheduler")


@pytest.fixture
def theirs(shared: Database) -> Iterator[Factory]:
    """The maker of another tenant's rows."""
    with new_tenant(shared) as factory:
        yield factory
