"""Fixtures of the fault tests: one durable server for all of them, a rig for each."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from db.embedded import EmbeddedServer
from tests.faults.forkserver import close_servers
from tests.faults.rig import Rig, rig
from tests.support.database import migrate_template


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have these tests run alone: each has a fleet of processes, and holds it to times."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.alone)


@pytest.fixture(scope="session", autouse=True)
def _fork_servers() -> Iterator[None]:
    """Ends the fork servers that tests wanted, after the last of them."""
    yield
    close_servers()


@pytest.fixture(scope="session")
def durable_home() -> Iterator[Path]:
    """The home of the durable server and of the rigs' files."""
    home = Path(tempfile.mkdtemp(prefix="gr-faults-"))
    yield home
    shutil.rmtree(home)


@pytest.fixture(scope="session")
def durable_server(durable_home: Path) -> Iterator[EmbeddedServer]:
    """A server with the settings of production: what it has committed outlives its crash."""
    with EmbeddedServer(durable_home, {"log_min_messages": "error"}) as server:
        yield server


@pytest.fixture(scope="session")
def durable_template(durable_server: EmbeddedServer) -> str:
    """The name of the migrated database that the rigs' own are cloned from."""
    return migrate_template(durable_server)


@pytest.fixture(params=["redis", "in-process"])
def both_brokers(
    request: pytest.FixtureRequest, durable_server: EmbeddedServer, durable_home: Path, durable_template: str
) -> Iterator[Rig]:
    """A rig over each of the two brokers in turn."""
    url = request.getfixturevalue("redis_url") if request.param == "redis" else None
    with rig(durable_server, durable_home, durable_template, url) as running:
        yield running


@pytest.fixture
def redis_rig(
    durable_server: EmbeddedServer, durable_home: Path, durable_template: str, redis_url: str
) -> Iterator[Rig]:
    """A rig whose processes meet over Redis."""
    with rig(durable_server, durable_home, durable_template, redis_url) as running:
        yield running
