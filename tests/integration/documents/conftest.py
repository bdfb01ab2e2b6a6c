"""Fixtures of the pipeline's tests: storage, parser and model, and a library over them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from core.settings import load_settings
from pipelines.registry import provide_resources
from pipelines.resources import Resources
from tests.integration.documents.library import Library
from tests.support.database import Database


@pytest.fixture(scope="module")
def storage_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all files of these tests."""
    return tmp_path_factory.mktemp("storage")


@pytest.fixture(scope="module")
def resources(storage_root: Path) -> Iterator[Resources]:
    """Parser and model, loaded once for all tests."""
    settings = load_settings(_env_file=None, storage={"root": storage_root})
    made = provide_resources(Resources(), settings)
    yield made
    made.close()


@pytest.fixture
def library(database: Database, resources: Resources, storage_root: Path) -> Iterator[Library]:
    """A library in a database of the test's own."""
    own = Library(database, resources, storage_root)
    yield own
    own.line.close()
