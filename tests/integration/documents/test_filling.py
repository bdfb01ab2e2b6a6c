"""Filling a space: page by page, nothing twice, for as long as there is something to wait for and no longer."""

from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from psycopg.types.json import Jsonb

from db import spaces, tasks
from pipelines.documents import spaces as filling
from pipelines.documents.embedding import Embedder
from pipelines.documents.errors import ModelFilesError
from pipelines.documents.payloads import FillSpace
from pipelines.enqueue import enqueue
from tests.integration.documents.library import Library
from tests.integration.documents.two_spaces import finish, second_space
from tests.support.small_model import DIMENSIONS


def embedded(shelf: Library) -> list[int]:
    """Return how many chunks each task for the second space embedded."""
    rows = shelf.database.rows(
        "SELECT (result->>'embedded')::int FROM queue.tasks_history"
        " WHERE owner_kind = 'space' AND task_type = 'chunks.embed'"
    )
    return [count for (count,) in rows]


def look(shelf: Library, task_id: UUID) -> None:
    """Let a filling look once more, and whoever embeds do what they can."""
    shelf.database.rows("UPDATE queue.tasks_live SET run_after = now(), is_due = true WHERE id = %s", (task_id,))
    shelf.work()


def test_it_goes_page_by_page_and_two_at_once_embed_nothing_twice(
    shelf: Library, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filling, "_PAGE", 3)
    space_id = second_space(shelf, small)
    both = [enqueue(shelf.connection, FillSpace(space_id=space_id)) for _ in range(2)]
    for task_id in both:
        finish(shelf, task_id)
    results = [shelf.line.task(task_id)["result"] for task_id in both]
    assert sum(result["enqueued"] for result in results) == 8
    assert {result["missing"] for result in results} == {0}
    assert embedded(shelf) == [1] * 8


def test_it_waits_while_a_task_may_run(shelf: Library, small: Path) -> None:
    space_id = second_space(shelf, small)
    operator = shelf.database.connect("operator")
    tasks.pause(operator, "embedding")
    task_id = enqueue(shelf.connection, FillSpace(space_id=space_id))
    for _ in range(25):
        look(shelf, task_id)
    assert shelf.line.task(task_id)["status"] == "pending"
    assert shelf.database.value("SELECT count(*) FROM queue.tasks_live WHERE task_type = 'chunks.embed'") == 8
    tasks.resume(operator, "embedding")
    finish(shelf, task_id)
    assert shelf.line.task(task_id)["result"] == {"enqueued": 8, "missing": 0}


def test_what_comes_in_meanwhile_has_tasks_of_its_own_and_is_not_waited_for(shelf: Library, small: Path) -> None:
    space_id = second_space(shelf, small)
    task_id = enqueue(shelf.connection, FillSpace(space_id=space_id))
    look(shelf, task_id)
    shelf.write("late.md", "# Late\n\nCame while the space was filled.\n")
    shelf.database.rows(
        "INSERT INTO knowledge.chunks (tenant_id, document_id, version, chunk_index, text, text_hash, start_offset,"
        " end_offset) SELECT tenant_id, id, 7, 0, 'no task', sha256('no task'), 0, 6 FROM knowledge.documents"
        " WHERE name = 'tea.md'"
    )
    finish(shelf, task_id)
    assert shelf.line.task(task_id)["result"] == {"enqueued": 8, "missing": 0}
    assert embedded(shelf) == [1] * len(embedded(shelf))


def test_the_tasks_of_a_document_that_came_before_are_waited_for_and_not_doubled(shelf: Library, small: Path) -> None:
    space_id = second_space(shelf, small)
    operator = shelf.database.connect("operator")
    tasks.pause(operator, "embedding")
    shelf.ingest("early.md", "# Early\n\nCame before the space was filled.\n")
    task_id = enqueue(shelf.connection, FillSpace(space_id=space_id))
    look(shelf, task_id)
    tasks.resume(operator, "embedding")
    finish(shelf, task_id)
    assert shelf.line.task(task_id)["result"] == {"enqueued": 8, "missing": 0}
    assert embedded(shelf) == [1] * 9


def test_tasks_of_a_suspended_tenant_hold_up_no_filling_and_no_switch(shelf: Library, small: Path) -> None:
    space_id = second_space(shelf, small)
    other = shelf.database.value("INSERT INTO identity.tenants (name, slug) VALUES ('B', 'b') RETURNING id")
    shelf.database.rows(
        "INSERT INTO knowledge.documents (tenant_id, name, status, current_version, next_version)"
        " VALUES (%s, 'theirs', 'completed', 1, 1)",
        (other,),
    )
    shelf.database.rows(
        "INSERT INTO knowledge.chunks (tenant_id, document_id, version, chunk_index, text, text_hash, start_offset,"
        " end_offset) SELECT tenant_id, id, 1, 0, 'theirs', sha256('theirs'), 0, 6 FROM knowledge.documents"
        " WHERE name = 'theirs'"
    )
    shelf.database.rows("UPDATE identity.tenants SET status = 'suspended' WHERE id = %s", (other,))
    task_id = enqueue(shelf.connection, FillSpace(space_id=space_id))
    finish(shelf, task_id)
    assert shelf.line.task(task_id)["result"]["missing"] == 1
    owner = shelf.database.connect()
    space = spaces.named(owner, "small")
    spaces.build_index(owner, space)
    spaces.switch(owner, space)
    shelf.database.rows("UPDATE identity.tenants SET status = 'active' WHERE id = %s", (other,))
    shelf.work()
    assert (
        shelf.database.value(
            "SELECT count(*) FROM knowledge.chunk_vectors WHERE space_id = %s AND tenant_id = %s", (space_id, other)
        )
        == 1
    ), "its task was held and goes on"


def test_what_fails_is_not_tried_for_ever_and_fails_no_document(
    shelf: Library, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space_id = second_space(shelf, small)
    usual = Embedder.embed

    def refuse_tea(self: Embedder, texts: list[str]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        if self.dimensions == DIMENSIONS and any("tea" in text for text in texts):
            raise ModelFilesError("no tea")
        return usual(self, texts)

    monkeypatch.setattr(Embedder, "embed", refuse_tea)
    task_id = enqueue(shelf.connection, FillSpace(space_id=space_id))
    finish(shelf, task_id)
    assert shelf.line.task(task_id)["result"]["missing"] == 1
    assert shelf.database.value("SELECT count(*) FROM knowledge.documents WHERE status = 'completed'") == 8
    monkeypatch.undo()
    task_id = enqueue(shelf.connection, FillSpace(space_id=space_id))
    finish(shelf, task_id)
    assert shelf.line.task(task_id)["result"] == {"enqueued": 1, "missing": 0}


def test_what_a_foreign_producer_says_of_it_holds_up_no_filling(shelf: Library, small: Path) -> None:
    space_id = second_space(shelf, small)
    document_id = shelf.database.value("SELECT id FROM knowledge.documents LIMIT 1")
    for version in ("x", 10**20):
        payload = {
            "document_id": str(document_id),
            "version": version,
            "space_id": str(space_id),
            "first": 0,
            "last": 0,
        }
        shelf.database.rows(
            "INSERT INTO queue.outbox_tasks (task_type, payload, owner_kind, owner_id)"
            " VALUES ('chunks.embed', %s, 'space', %s) RETURNING id",
            (Jsonb(payload), space_id),
        )
    task_id = enqueue(shelf.connection, FillSpace(space_id=space_id))
    finish(shelf, task_id)
    assert shelf.line.task(task_id)["result"] == {"enqueued": 8, "missing": 0}
