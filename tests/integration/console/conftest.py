"""One home with a running `greenroom up`, shared by the tests of the command line."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import Greenroom, Inline, Running
from tests.support.home import quick_home
from tests.support.waiting import eventually


@pytest.fixture(scope="session")
def home() -> Iterator[Path]:
    with quick_home() as folder:
        yield folder


@pytest.fixture(scope="session")
def up(home: Path) -> Iterator[Running]:
    """`greenroom up`, which ends with 0 at SIGTERM."""
    with Greenroom(home, {"GREENROOM_DOCUMENTS_FETCH_NETWORKS": "127.0.0.0/8"}).running("up") as running:
        eventually(lambda: "Greenroom is up." in running.said() or running.process.poll() is not None, 60)
        assert running.process.poll() is None, running.said()
        yield running
        assert running.stop() == 0, running.said()
        assert "Traceback" not in running.said()


@pytest.fixture(scope="session")
def greenroom(up: Running, home: Path) -> Greenroom:
    """The command beside the running `up`."""
    return Greenroom(home)


@pytest.fixture(scope="session")
def inline(up: Running, home: Path) -> Inline:
    """The command beside the running `up`, without a process of its own for each call."""
    return Inline(home)


@pytest.fixture(scope="session")
def storage(home: Path) -> Path:
    """The default tenant's folder, where producers put files."""
    return home / "storage" / "00000000-0000-7000-8000-000000000001"
