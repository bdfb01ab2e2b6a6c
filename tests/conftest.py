"""Fixtures of the whole suite. The environment is scrubbed; every database and every Redis is the suite's own."""

import os
import socket
from collections.abc import Iterator

import pytest

from core import events
from db.embedded import EmbeddedServer
from pipelines.registry import Registry
from tests.support import postgres16, tasks
from tests.support.database import Clones, Database, fast_server, migrate_template
from tests.support.engine import Line
from tests.support.redis_server import flush, redis_server
from tests.support.site import Site, web_site
from workers.broker import AnyBroker, open_broker

_FOREIGN = ("GREENROOM_", "OTEL_", "PG")
for _name in [name for name in os.environ if name.startswith(_FOREIGN)]:
    del os.environ[_name]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take `--postgres 16`."""
    parser.addoption("--postgres", choices=("16",), help="run on this version instead of the embedded server's own")


def pytest_configure(config: pytest.Config) -> None:
    """Choose the version of all servers that the suite's own process starts."""
    if config.getoption("postgres"):
        patch = pytest.MonkeyPatch()
        config.add_cleanup(patch.undo)
        postgres16.use(patch)


@pytest.fixture(scope="session")
def server_without_fsync() -> Iterator[EmbeddedServer]:
    """The server of all cloned databases."""
    with fast_server() as server:
        yield server


@pytest.fixture(scope="session")
def template_database(server_without_fsync: EmbeddedServer) -> str:
    """The name of the migrated database that every test's own is cloned from."""
    return migrate_template(server_without_fsync)


@pytest.fixture(scope="session")
def clones(server_without_fsync: EmbeddedServer, template_database: str) -> Iterator[Clones]:
    """Who makes the tests' databases."""
    clones = Clones(server_without_fsync, template_database)
    yield clones
    clones.close()


@pytest.fixture
def database(clones: Clones) -> Iterator[Database]:
    """A migrated database of the test's own."""
    with clones.one() as own:
        yield own


@pytest.fixture(scope="session")
def redis_of_session() -> Iterator[str]:
    """The address of the suite's Valkey; use `redis_url`."""
    with redis_server() as url:
        yield url


@pytest.fixture
def redis_url(redis_of_session: str) -> str:
    """The address of a real, empty Valkey."""
    flush(redis_of_session)
    return redis_of_session


@pytest.fixture(params=["in-process", "redis"])
def broker(request: pytest.FixtureRequest) -> Iterator[AnyBroker]:
    """Each of the two brokers in turn: the axis of the conformance suite."""
    url = request.getfixturevalue("redis_url") if request.param == "redis" else None
    broker = open_broker(url, "test")
    yield broker
    broker.close()


@pytest.fixture
def registry() -> Registry:
    """The task types of `tests.support.tasks`."""
    return Registry(tasks.TASKS)


@pytest.fixture
def line(database: Database, registry: Registry) -> Iterator[Line]:
    """The engine step by step over the test's database."""
    line = Line(database, registry)
    yield line
    line.close()


@pytest.fixture
def effects(database: Database) -> Database:
    """The test's database with the table `effects`, which has no unique key to hide a double effect."""
    database.rows("CREATE TABLE public.effects (n integer, note text)")
    database.rows("GRANT SELECT, INSERT ON public.effects TO greenroom_worker, greenroom_system")
    return database


@pytest.fixture
def recorded() -> Iterator[list[events.Event]]:
    """The events that were emitted during the test."""
    found: list[events.Event] = []
    forget = events.subscribe(found.append)
    yield found
    forget()


@pytest.fixture
def site() -> Iterator[Site]:
    """A web server of the test's own."""
    with web_site() as own:
        yield own


@pytest.fixture
def free_port() -> int:
    """A port of the loopback that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
