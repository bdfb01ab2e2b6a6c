"""Fixtures of memory's tests."""

from collections.abc import Iterator

import pytest

from core.settings import load_settings
from pipelines.resources import Resources
from tests.integration.documents.shared import Shared
from tests.integration.memory.remembering import Remembering
from tests.support.database import Database


@pytest.fixture(scope="module")
def resources(shared: Shared) -> Iterator[Resources]:
    """Resources by default settings, with the packaged model."""
    made = shared.resources(load_settings(_env_file=None))
    yield made
    made.close()


@pytest.fixture
def memory(database: Database, resources: Resources, shared: Shared) -> Remembering:
    """Personas in a database of the test's own."""
    return Remembering(database, resources, shared)
