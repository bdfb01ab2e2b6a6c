"""One database for each module's tests, and two tenants of a test's own in it, as for tests of the data model.

Runs rest for no time between their pages.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.retention import runs
from tests.integration.data_model.conftest import ours, shared, theirs
from tests.support.database import Database
from tests.support.forgetting import Scene, scene_of

__all__ = ["ours", "shared", "theirs"]


@pytest.fixture(autouse=True, scope="module")
def _no_rests() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "_LONGEST_REST", 0.0)
        yield


@pytest.fixture
def scene(database: Database, tmp_path: Path) -> Iterator[Scene]:
    """A tenant whose rows go to archives, in a database of the test's own."""
    with scene_of(database, tmp_path) as found:
        yield found
