"""`greenroom embeddings`: a second model beside the first, by the command line, while `up` runs."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import Greenroom
from tests.support.small_model import DIMENSIONS, make_small_model
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def shelf() -> Iterator[Greenroom]:
    """The command beside an `up` that knows two models, with two documents."""
    with tempfile.TemporaryDirectory(prefix="gr-spaces-") as folder:
        model = make_small_model(Path(folder) / "small")
        greenroom = Greenroom(Path(folder) / "home", {"GREENROOM_EMBEDDING_OTHER_MODELS": str(model)})
        (Path(folder) / "tea.md").write_text("# Tea\n\nOolong is half oxidised.\n")
        (Path(folder) / "knots.md").write_text("# Knots\n\nA bowline does not slip.\n")
        with greenroom.running("up") as running:
            eventually(lambda: "Greenroom is up." in running.said() or running.process.poll() is not None, 60)
            assert running.process.poll() is None, running.said()
            greenroom.ok("ingest", *(str(path) for path in Path(folder).glob("*.md")))
            yield greenroom
            assert running.stop() == 0, running.said()


@pytest.mark.timeout(180)
def test_a_second_model_is_filled_switched_to_and_dropped(shelf: Greenroom) -> None:
    told = shelf.run("embeddings", "fill", "small")
    assert told.returncode == 0, told.stderr
    assert "2 vectors of small, 0 missing" in told.stdout
    assert "`greenroom embeddings switch small`" in told.stderr

    assert shelf.json("embeddings", "fill", "small")["missing"] == 0, "again there is nothing to do"
    first, second = shelf.json("embeddings", "status")["spaces"]
    assert (first["model"], first["is_active"], first["vectors"]) == ("all-MiniLM-L6-v2", True, 2)
    assert (second["model"], second["dimensions"], second["vectors"]) == ("small", DIMENSIONS, 2)
    assert second["is_ready"]

    assert "searches read the space of small" in shelf.ok("embeddings", "switch", "small")
    assert len(shelf.json("search", "oolong", "--strategy", "vector")["hits"]) == 2
    refused = shelf.run("embeddings", "drop", "small", "--yes")
    assert (refused.returncode, "switch to another" in refused.stderr) == (2, True)

    shelf.ok("embeddings", "switch", "all-MiniLM-L6-v2")
    assert len(shelf.json("search", "oolong", "--strategy", "vector")["hits"]) == 2
    asked = shelf.run("embeddings", "drop", "small")
    assert (asked.returncode, "--yes" in asked.stderr) == (2, True)
    shelf.ok("embeddings", "drop", "small", "--yes")
    table = shelf.ok("embeddings", "status")
    assert "all-MiniLM-L6-v2" in table
    assert "small" not in table


@pytest.mark.parametrize("arguments", [("fill", "nobody"), ("switch", "nobody"), ("drop", "nobody", "--yes")])
def test_a_model_that_is_not_known_is_named_with_what_to_do(shelf: Greenroom, arguments: tuple[str, ...]) -> None:
    done = shelf.run("embeddings", *arguments)
    assert done.returncode in (1, 2)
    assert "GREENROOM_EMBEDDING_OTHER_MODELS" in done.stderr or "embeddings status" in done.stderr
    assert "Traceback" not in done.stderr
