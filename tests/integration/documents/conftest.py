"""Fixtures of the pipeline's tests: storage, parser and model, and a library over them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from core.settings import load_settings
from pipelines.documents.parsing import ParsedDocument, ParserProcess, media_type_of
from pipelines.resources import Resources
from tests.integration.documents.library import Library
from tests.integration.documents.parsed import Parse, limits_of
from tests.integration.documents.shared import Shared
from tests.integration.documents.two_spaces import SUBJECTS
from tests.support.database import Database
from tests.support.embedding_endpoint import Endpoint, embedding_endpoint
from tests.support.small_model import make_small_model


@pytest.fixture(scope="module")
def storage_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all files of these tests."""
    return tmp_path_factory.mktemp("storage")


@pytest.fixture(scope="module")
def resources(storage_root: Path, shared: Shared) -> Iterator[Resources]:
    """Resources that know the packaged model."""
    made = shared.resources(load_settings(_env_file=None, storage={"root": storage_root}))
    yield made
    made.close()


@pytest.fixture
def library(database: Database, resources: Resources, storage_root: Path) -> Iterator[Library]:
    """A library in a database of the test's own."""
    own = Library(database, resources, storage_root)
    yield own
    own.line.close()


@pytest.fixture
def parser(shared: Shared) -> ParserProcess:
    """A parser's process, shared by all tests."""
    return shared.parser


@pytest.fixture
def parse(parser: ParserProcess, tmp_path: Path) -> Parse:
    """Parse a content under a name, within ample limits or those given."""

    def run(name: str, content: bytes | str, **limits: float) -> ParsedDocument:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return parser.parse(path, media_type=media_type_of(name), limits=limits_of(**limits))

    return run


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model of 64 dimensions."""
    return make_small_model(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture(scope="module")
def both(storage_root: Path, shared: Shared, small: Path) -> Iterator[Resources]:
    """Resources that know two models."""
    embedding = {"other_models": (str(small),)}
    made = shared.resources(load_settings(_env_file=None, storage={"root": storage_root}, embedding=embedding))
    yield made
    made.close()


@pytest.fixture
def shelf(database: Database, both: Resources, storage_root: Path) -> Iterator[Library]:
    """A library of eight documents under the first model."""
    own = Library(database, both, storage_root)
    for subject in SUBJECTS:
        own.write(f"{subject}.md", f"# {subject.title()}\n\nAll about {subject}, and a bowline is a knot of theirs.\n")
    own.work()
    yield own
    own.line.close()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    """An endpoint that embeds, on the loopback."""
    with embedding_endpoint() as endpoint:
        yield endpoint
