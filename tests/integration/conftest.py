"""What costs seconds to make and more than one folder uses."""

from collections.abc import Iterator

import pytest

from tests.integration.documents.shared import Shared


@pytest.fixture(scope="session")
def shared() -> Iterator[Shared]:
    """Parser and model, loaded once for all tests."""
    made = Shared()
    yield made
    made.close()
