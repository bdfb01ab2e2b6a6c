"""Tasks whose space is an endpoint's: what it gives is booked and searched, what it refuses waits or fails alone."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from console.setup import create_space
from core.settings import load_settings
from db import spaces
from pipelines.documents.embedders import Models
from pipelines.documents.payloads import EmbedQuery, FillSpace
from pipelines.enqueue import enqueue
from tests.integration.documents.library import Library
from tests.integration.documents.shared import Shared
from tests.support.database import Database
from tests.support.embedding_endpoint import (
    Endpoint,
    failure,
    success,
)
from tests.support.waiting import eventually


@pytest.fixture
def shelf(database: Database, endpoint: Endpoint, shared: Shared, storage_root: Path) -> Iterator[Library]:
    """A library that knows the packaged model and the endpoint's."""
    given = endpoint.settings(price=10.0, batch=2).model_dump()
    settings = load_settings(
        _env_file=None, storage={"root": storage_root}, embedding={"other_models": ("remote",)}, endpoint=given
    )
    resources = shared.resources(settings)
    library = Library(database, resources, storage_root)
    model = Models(settings).named("remote")
    assert model is not None
    create_space(database.connect(), model)
    yield library
    library.line.close()
    resources.close()


def vectors(shelf: Library) -> int:
    space = spaces.named(shelf.database.connect(), "remote")
    count: int = shelf.database.value("SELECT count(*) FROM knowledge.chunk_vectors WHERE space_id = %s", (space.id,))
    return count


def worked_off(shelf: Library) -> int:
    """Do what is due; return how many vectors there are then."""
    shelf.work()
    return vectors(shelf)


def test_what_an_endpoint_embeds_is_booked_and_searched(shelf: Library, endpoint: Endpoint) -> None:
    document_id = shelf.ingest("tea.md", "# Tea\n\nOolong is half oxidised.\n")
    assert shelf.document(document_id) == ("completed", 1, 1, None)
    assert vectors(shelf) == 1
    [result] = shelf.database.rows("SELECT result FROM queue.tasks_history WHERE owner_kind = 'space'")[0]
    tokens = len(endpoint.asked[0]["input"][0].split())
    assert result == {"embedded": 1, "tokens": tokens, "cost": pytest.approx(tokens * 10e-6)}
    owner = shelf.database.connect()
    space = spaces.named(owner, "remote")
    spaces.build_index(owner, space)
    spaces.switch(owner, space)
    assert [hit.document_name for hit in shelf.search("oolong", strategy="vector")] == ["tea.md"]


def test_a_refusal_pauses_the_endpoint_and_nothing_else_and_costs_no_attempt(
    shelf: Library, endpoint: Endpoint
) -> None:
    endpoint.answer = lambda texts: failure(429, Retry_After="8")
    documents = [shelf.ingest(f"{name}.md", f"# {name}\n\nAll about {name}.\n") for name in ("tea", "knots", "kites")]
    assert [shelf.document(document_id)[0] for document_id in documents] == ["completed"] * 3
    assert vectors(shelf) == 0
    assert len(endpoint.asked) <= 2, "who refuses one refuses all: the others were not sent"

    endpoint.answer = success
    eventually(lambda: worked_off(shelf) == 3, 40, pause=0.2)
    ends = shelf.database.rows("SELECT status, attempts FROM queue.tasks_history WHERE owner_kind = 'space'")
    assert ends == [("done", 1)] * 3


def test_a_text_that_is_refused_fails_its_own_slice(shelf: Library, endpoint: Endpoint) -> None:
    endpoint.answer = lambda texts: failure(400, "no tea") if any("tea" in text for text in texts) else success(texts)
    for name in ("tea", "knots", "kites"):
        shelf.ingest(f"{name}.md", f"# {name}\n\nAll about {name}.\n")
    assert vectors(shelf) == 2
    [error] = shelf.database.rows("SELECT last_error FROM queue.tasks_history WHERE status = 'failed'")[0]
    assert "1 of its texts cannot be embedded" in error
    assert "no tea" in error
    endpoint.answer = success
    space = spaces.named(shelf.database.connect(), "remote")
    enqueue(shelf.connection, FillSpace(space_id=space.id))
    shelf.work()
    assert vectors(shelf) == 3


def test_of_a_batch_that_an_endpoint_breaks_off_the_finished_slices_are_written(
    shelf: Library, endpoint: Endpoint
) -> None:
    endpoint.answer = lambda texts: (
        failure(429, Retry_After="8") if any("knots" in text for text in texts) else success(texts)
    )
    for name in ("tea", "knots"):
        shelf.ingest(f"{name}.md", f"# {name}\n\nAll about {name}.\n")
    left = shelf.database.rows("SELECT snoozes, attempts FROM queue.tasks_live WHERE task_type = 'chunks.embed'")
    assert left == [(1, 0)]
    assert vectors(shelf) == 1


def test_a_slice_that_is_broken_off_goes_on_from_where_it_was(shelf: Library, endpoint: Endpoint) -> None:
    endpoint.answer = lambda texts: success(texts) if len(endpoint.asked) == 1 else failure(429, Retry_After="1")
    document_id = shelf.ingest("tea.md", "\n\n".join(f"# Part {n}\n\n{'Leaves and water. ' * 60}" for n in range(5)))
    chunks = shelf.database.value("SELECT count(*) FROM knowledge.chunks WHERE document_id = %s", (document_id,))
    assert chunks > 4
    assert vectors(shelf) == 2, "what the first request gave"
    endpoint.asked.clear()
    endpoint.answer = success
    eventually(lambda: worked_off(shelf) == chunks, 20, pause=0.2)
    assert sum(len(asked["input"]) for asked in endpoint.asked) == chunks - 2


def test_a_search_that_its_endpoint_refuses_says_so_at_once(shelf: Library, endpoint: Endpoint) -> None:
    shelf.ingest("tea.md", "# Tea\n\nOolong is half oxidised.\n")
    owner = shelf.database.connect()
    space = spaces.named(owner, "remote")
    spaces.build_index(owner, space)
    spaces.switch(owner, space)
    endpoint.answer = lambda texts: failure(429, "slow down", Retry_After="50")
    task_id = enqueue(shelf.connection, EmbedQuery(text="oolong"))
    shelf.work()
    task = shelf.line.task(task_id)
    assert task["status"] == "failed"
    assert "slow down" in task["last_error"]
    endpoint.answer = success
    assert [hit.document_name for hit in shelf.search("oolong", strategy="vector")] == ["tea.md"]
