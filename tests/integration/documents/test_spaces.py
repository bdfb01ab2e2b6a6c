"""Spaces side by side: one fills while another is searched, takes over in one commit, and gives back as quickly."""

import threading
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest

from core.errors import UsageError
from db import spaces
from pipelines.documents.embedding import Embedder
from pipelines.documents.errors import ModelFilesError
from pipelines.documents.payloads import DeleteDocument, FillSpace
from pipelines.enqueue import enqueue
from pipelines.resources import Resources
from tests.integration.documents.library import Library
from tests.integration.documents.two_spaces import SUBJECTS, ask, filled, finish, second_space
from tests.support.small_model import DIMENSIONS
from tests.support.waiting import eventually


def test_a_space_fills_while_another_is_searched_takes_over_and_gives_back(
    shelf: Library, both: Resources, small: Path
) -> None:
    first = spaces.active_space(shelf.connection)
    before = ask(shelf.connection, shelf, both)
    assert len(before) == len(SUBJECTS)

    space_id = second_space(shelf, small)
    task_id = enqueue(shelf.connection, FillSpace(space_id=space_id))
    while shelf.line.run_once():
        assert ask(shelf.connection, shelf, both) == before, "searches go on as they were"
    finish(shelf, task_id)
    task = shelf.line.task(task_id)
    assert (task["status"], task["result"]) == ("done", {"enqueued": 8, "missing": 0})

    owner = shelf.database.connect()
    second = spaces.named(owner, "small")
    assert second.dimensions == DIMENSIONS
    with pytest.raises(UsageError, match="no index yet"):
        spaces.switch(owner, second)
    spaces.build_index(owner, second)
    spaces.switch(owner, second)
    assert spaces.active_space(shelf.connection) == spaces.named(owner, "small")
    assert sorted(ask(shelf.connection, shelf, both)) == sorted(before)

    spaces.switch(owner, first)
    assert ask(shelf.connection, shelf, both) == before
    told = shelf.database.rows("SELECT event_type FROM audit.audit_events WHERE event_type LIKE 'space.%%' ORDER BY id")
    assert told == [("space.switched",), ("space.switched",)]


def test_no_search_finds_less_while_spaces_are_switched(shelf: Library, both: Resources, small: Path) -> None:
    second, first = filled(shelf, small), spaces.active_space(shelf.connection)
    answers: list[int] = []
    stop = threading.Event()

    def search_on() -> None:
        connection = shelf.database.connect("operator")
        while not stop.is_set():
            answers.append(len(ask(connection, shelf, both)))

    threads = [threading.Thread(target=search_on) for _ in range(2)]
    for thread in threads:
        thread.start()
    owner = shelf.database.connect()
    switches = 0
    while switches < 40 or len(answers) < 100:
        spaces.switch(owner, second)
        spaces.switch(owner, first)
        switches += 2
    stop.set()
    for thread in threads:
        thread.join()
    assert set(answers) == {len(SUBJECTS)}


def test_what_comes_in_later_is_embedded_for_all_spaces(shelf: Library, small: Path) -> None:
    second = filled(shelf, small)
    document_id = shelf.ingest("later.md", "# Later\n\nWhat came later.\n")
    assert shelf.document(document_id) == ("completed", 1, 1, None)
    spaces.switch(shelf.database.connect(), second)
    shelf.ingest("later.md", "# Later\n\nWhat came later, and was changed.\n")
    assert shelf.document(document_id) == ("completed", 2, 1, None), "shown by the vectors of the space that is active"
    counts = shelf.database.rows("SELECT space_id, count(*) FROM knowledge.chunk_vectors GROUP BY 1")
    assert {count for _, count in counts} == {9}


def test_a_version_that_is_made_during_a_switch_is_shown_when_the_new_space_has_it(shelf: Library, small: Path) -> None:
    second = filled(shelf, small)
    shelf.write("racy.md", "# Racy\n\nEmbedded for one space before the switch, for the other one behind it.\n")
    for _ in range(3):  # registered, parsed, chunked
        shelf.line.run_once()
    old, new = (
        shelf.database.value(
            "SELECT id FROM queue.tasks_live WHERE task_type = 'chunks.embed' AND payload->>'space_id' = %s",
            (str(space.id),),
        )
        for space in (spaces.active_space(shelf.connection), second)
    )
    claims = {claim.task_id: claim for claim in shelf.line.claim()}
    spaces.switch(shelf.database.connect(), second)
    shelf.line.run([claims[old]])
    document = "SELECT id FROM knowledge.documents WHERE name = 'racy.md'"
    assert shelf.document(shelf.database.value(document))[:2] == ("processing", 0), "the space that is read lacks it"
    shelf.line.run([claims[new]])
    assert shelf.document(shelf.database.value(document)) == ("completed", 1, 1, None)


def test_a_version_is_shown_by_the_space_that_is_active_when_it_comes_to_it(shelf: Library, small: Path) -> None:
    """Whoever shows a version waits for a switch that is under way, and reads afterwards what is active."""
    second = filled(shelf, small)
    shelf.write("racy.md", "# Racy\n\nIts last vector of the one space comes while the other takes over.\n")
    for _ in range(3):
        shelf.line.run_once()
    claims = shelf.line.claim()
    first = spaces.active_space(shelf.connection)
    [old] = [claim for claim in claims if payload_of(shelf, claim.task_id)["space_id"] == str(first.id)]
    switching = shelf.database.connect()
    worker = threading.Thread(target=shelf.line.run, args=([old],))
    with switching.transaction():
        switching.execute("SELECT pg_advisory_xact_lock(7216335408824)")
        worker.start()
        waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        eventually(lambda: shelf.database.value(waits) == 1)
        switching.execute("UPDATE knowledge.spaces SET is_active = false")
        switching.execute("UPDATE knowledge.spaces SET is_active = true WHERE id = %s", (second.id,))
    worker.join()
    document = shelf.database.value("SELECT id FROM knowledge.documents WHERE name = 'racy.md'")
    assert shelf.document(document)[:2] == ("processing", 0), "the space that is read lacks it"
    shelf.line.run([claim for claim in claims if claim != old])
    assert shelf.document(document) == ("completed", 1, 1, None)


def payload_of(shelf: Library, task_id: UUID) -> dict[str, str]:
    found: dict[str, str] = shelf.database.value("SELECT payload FROM queue.tasks_live WHERE id = %s", (task_id,))
    return found


def test_a_version_that_only_the_new_space_has_is_shown_after_the_switch(shelf: Library, small: Path) -> None:
    """The old space's embedder may be dead: that is why one switches."""
    second = filled(shelf, small)
    shelf.write("late.md", "# Late\n\nThe old model never comes to it.\n")
    for _ in range(3):  # registered, parsed, chunked
        shelf.line.run_once()
    claims = shelf.line.claim()
    new = [claim for claim in claims if payload_of(shelf, claim.task_id)["space_id"] == str(second.id)]
    shelf.line.run(new)
    document = shelf.database.value("SELECT id FROM knowledge.documents WHERE name = 'late.md'")
    owner = shelf.database.connect()
    spaces.switch(owner, second)
    assert shelf.document(document)[:2] == ("processing", 0)
    finish(shelf, enqueue(shelf.connection, FillSpace(space_id=second.id)))
    shelf.work()
    assert shelf.document(document) == ("completed", 1, 1, None)


def test_a_document_fails_with_what_it_cannot_be_shown_without_and_with_nothing_else(
    shelf: Library, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second, first = filled(shelf, small), spaces.active_space(shelf.connection)
    owner = shelf.database.connect()
    usual = Embedder.embed

    def refuse(self: Embedder, texts: list[str]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        if self.dimensions == DIMENSIONS and any("Racy" in text for text in texts):
            raise ModelFilesError("not this")
        return usual(self, texts)

    monkeypatch.setattr(Embedder, "embed", refuse)
    document_id = shelf.ingest("racy.md", "# Racy\n\nWhat the second model does not take.\n")
    assert shelf.document(document_id) == ("completed", 1, 1, None), "nobody searches the second space"
    with pytest.raises(UsageError, match="lacks the vectors of 1 chunks"):
        spaces.switch(owner, second)

    shelf.write("late.md", "# Racy too\n\nOn its way while spaces are switched.\n")
    for _ in range(3):
        shelf.line.run_once()
    owner.execute("DELETE FROM knowledge.documents WHERE id = %s", (document_id,))
    spaces.switch(owner, second)
    shelf.work()
    finish(shelf, enqueue(shelf.connection, FillSpace(space_id=second.id)))
    late = shelf.database.value("SELECT id FROM knowledge.documents WHERE name = 'late.md'")
    assert shelf.document(late)[0] == "failed", "what is searched now will not have it"
    spaces.switch(owner, first)
    monkeypatch.undo()


def test_a_switch_is_refused_while_the_space_lacks_what_is_shown(shelf: Library, small: Path) -> None:
    second = filled(shelf, small)
    shelf.database.rows(
        "DELETE FROM knowledge.chunk_vectors WHERE space_id = %s AND chunk_id ="
        " (SELECT chunk_id FROM knowledge.chunk_vectors WHERE space_id = %s LIMIT 1)",
        (second.id, second.id),
    )
    with pytest.raises(UsageError, match="lacks the vectors of 1 chunks"):
        spaces.switch(shelf.database.connect(), second)
    task_id = enqueue(shelf.connection, FillSpace(space_id=second.id))
    finish(shelf, task_id)
    spaces.switch(shelf.database.connect(), second)


def test_a_deleted_document_leaves_no_vector_in_any_space(shelf: Library, small: Path) -> None:
    filled(shelf, small)
    document_id = shelf.database.value("SELECT id FROM knowledge.documents WHERE name = 'tea.md'")
    enqueue(shelf.connection, DeleteDocument(document_id=document_id))
    shelf.work()
    counts = shelf.database.rows("SELECT space_id, count(*) FROM knowledge.chunk_vectors GROUP BY 1")
    assert [count for _, count in counts] == [7, 7]
