"""Homes: one that a server has run in, copied for each test, and empty ones."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from db.embedded import EmbeddedServer
from tests.support.home import copy, temporary_home


@pytest.fixture(scope="session")
def template() -> Iterator[Path]:
    """A home whose server has been started once."""
    with temporary_home() as home:
        with EmbeddedServer(home):
            pass
        yield home


@pytest.fixture
def home(template: Path) -> Iterator[Path]:
    with temporary_home() as home:
        copy(template / "postgres", home)
        yield home


@pytest.fixture
def new_home() -> Iterator[Path]:
    with temporary_home() as home:
        yield home
