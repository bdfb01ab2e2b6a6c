"""Spaces side by side: one fills while another is searched, takes over in one commit, and gives back as quickly."""

import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import numpy as np
import psycopg
import pytest
from pgvector import Vector

from console.setup import create_space
from core.errors import NotFoundError, UsageError
from core.settings import load_settings
from db import search as store
from db import spaces
from db.connection import Connection, tenant_transaction
from db.search import QueryVector
from pipelines.documents.embedders import Embedders, Models
from pipelines.documents.embedding import Embedder
from pipelines.documents.errors import ModelFilesError, UnknownModelError
from pipelines.documents.models import find_model
from pipelines.documents.payloads import DeleteDocument, FillSpace
from pipelines.enqueue import enqueue
from pipelines.registry import provide_resources
from pipelines.resources import Resources
from tests.integration.documents.library import Library
from tests.support.database import Database
from tests.support.small_model import DIMENSIONS, make_small_model
from tests.support.waiting import eventually

QUESTION = "which knot makes a loop that does not slip?"
_SUBJECTS = ("tea", "knots", "kites", "ferrets", "bread", "ice", "maps", "bells")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model of 64 dimensions."""
    return make_small_model(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture(scope="module")
def both(storage_root: Path, small: Path) -> Iterator[Resources]:
    """Resources that know two models."""
    embedding = {"other_models": (str(small),)}
    settings = load_settings(_env_file=None, storage={"root": storage_root}, embedding=embedding)
    made = provide_resources(Resources(), settings)
    yield made
    made.close()


@pytest.fixture
def shelf(database: Database, both: Resources, storage_root: Path) -> Iterator[Library]:
    """A library of eight documents under the first model."""
    own = Library(database, both, storage_root)
    for subject in _SUBJECTS:
        own.write(f"{subject}.md", f"# {subject.title()}\n\nAll about {subject}, and a bowline is a knot of theirs.\n")
    own.work()
    yield own
    own.line.close()


def second_space(shelf: Library, small: Path, precision: spaces.Precision | None = None) -> UUID:
    return create_space(shelf.database.connect(), find_model(str(small)), precision)


def ask(connection: Connection, shelf: Library, both: Resources) -> list[str]:
    """Search by vectors alone, as the operator, in the space that is active now; return the documents' names."""
    space = spaces.active_space(connection)
    [vector] = both.get(Embedders).of(space).compute([QUESTION]).vectors
    with tenant_transaction(connection, shelf.tenant_id):
        query = QueryVector(space.id, Vector(vector).to_text())
        hits = store.search(connection, shelf.tenant_id, QUESTION, query, strategy="vector", limit=8)
    return [hit.document_name for hit in hits]


def filled(shelf: Library, small: Path) -> spaces.Space:
    """Fill the second space to its end, with its index."""
    space_id = second_space(shelf, small)
    task_id = enqueue(shelf.connection, FillSpace(space_id=space_id))
    finish(shelf, task_id)
    owner = shelf.database.connect()
    space = spaces.get_space(owner, space_id)
    assert space is not None
    spaces.build_index(owner, space)
    return space


def finish(shelf: Library, task_id: UUID) -> None:
    """Work until a task that looks again and again has ended."""
    for _ in range(50):
        shelf.work()
        if shelf.line.task(task_id)["status"] != "pending":
            return
        shelf.database.rows("UPDATE queue.tasks_live SET run_after = now(), is_due = true WHERE id = %s", (task_id,))
    raise AssertionError("the filling did not end")


def test_a_space_fills_while_another_is_searched_takes_over_and_gives_back(
    shelf: Library, both: Resources, small: Path
) -> None:
    first = spaces.active_space(shelf.connection)
    before = ask(shelf.connection, shelf, both)
    assert len(before) == len(_SUBJECTS)

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
    assert set(answers) == {len(_SUBJECTS)}


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


def test_one_command_at_a_time_builds_switches_and_drops(shelf: Library, small: Path) -> None:
    second = filled(shelf, small)
    other, owner = shelf.database.connect(), shelf.database.connect()
    with spaces._steering(other):
        for act in (spaces.build_index, spaces.switch, spaces.drop):
            with pytest.raises(UsageError, match="again when it has ended"):
                act(owner, second)
    spaces.switch(owner, second)


def test_a_space_that_cannot_be_is_refused_at_once(shelf: Library, small: Path) -> None:
    owner = shelf.database.connect()
    with pytest.raises(UsageError, match="4,000 at most"):
        spaces.create_space(owner, model="huge", revision="1", dimensions=4001, max_tokens=100)
    second_space(shelf, small)
    with pytest.raises(UsageError, match="has an index of vector"):
        second_space(shelf, small, "halfvec")


def test_two_models_of_one_name_stand_side_by_side(shelf: Library, small: Path, tmp_path: Path) -> None:
    other = make_small_model(tmp_path / "small", seed=8)
    models = Models(
        load_settings(_env_file=None, embedding={"other_models": (str(small), str(tmp_path / "no"), str(other))})
    )
    owner = shelf.database.connect()
    made = [create_space(owner, find_model(str(folder))) for folder in (small, other)]
    found = [models.of(space) for space in spaces.spaces(owner) if space.id in made]
    assert {model.revision for model in found} == {find_model(str(folder)).revision for folder in (small, other)}
    with pytest.raises(UsageError, match="name one by its id"):
        spaces.named(owner, "small")


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


def test_a_dropped_space_leaves_nothing_and_the_active_one_stays(shelf: Library, both: Resources, small: Path) -> None:
    second = filled(shelf, small)
    owner = shelf.database.connect()
    with pytest.raises(UsageError, match="switch to another"):
        spaces.drop(owner, spaces.active_space(owner))
    shelf.write("late.md", "# Late\n\nOn its way when the space is dropped.\n")
    for _ in range(3):
        shelf.line.run_once()
    spaces.drop(owner, second)
    shelf.work()
    assert [space.model for space in spaces.spaces(owner)] == ["all-MiniLM-L6-v2"]
    assert shelf.database.value("SELECT count(*) FROM knowledge.embedding_models") == 1
    ends = shelf.database.rows("SELECT status, last_error FROM queue.tasks_history WHERE owner_kind = 'space'")
    assert ends[-1] == ("cancelled", "the space was dropped")
    assert len(ask(shelf.connection, shelf, both)) == 8
    with pytest.raises(NotFoundError):
        spaces.named(owner, "small")
    assert spaces.named(owner, "all-MiniLM-L6-v2").is_active
    again = second_space(shelf, small)
    assert again != second.id, "and it can be made anew"


def test_a_deleted_document_leaves_no_vector_in_any_space(shelf: Library, small: Path) -> None:
    filled(shelf, small)
    document_id = shelf.database.value("SELECT id FROM knowledge.documents WHERE name = 'tea.md'")
    enqueue(shelf.connection, DeleteDocument(document_id=document_id))
    shelf.work()
    counts = shelf.database.rows("SELECT space_id, count(*) FROM knowledge.chunk_vectors GROUP BY 1")
    assert [count for _, count in counts] == [7, 7]


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


def test_an_index_that_broke_off_is_built_anew_at_the_precision_that_was_asked_for(
    shelf: Library, both: Resources, small: Path
) -> None:
    space_id = second_space(shelf, small, "halfvec")
    finish(shelf, enqueue(shelf.connection, FillSpace(space_id=space_id)))
    owner = shelf.database.connect()
    space = spaces.named(owner, str(space_id))
    leaf = f"knowledge.chunk_vectors_{space_id.hex}"
    owner.execute(f"CREATE INDEX broken ON {leaf} USING hnsw ((embedding::vector({DIMENSIONS})) vector_cosine_ops)")
    with psycopg.connect(shelf.database.superuser_url, autocommit=True) as superuser:
        superuser.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'knowledge.broken'::regclass")
    assert not spaces.index_of(owner, space_id).is_ready
    spaces.build_index(owner, space)
    assert spaces.index_of(owner, space_id).is_ready
    [(definition,)] = shelf.database.rows("SELECT indexdef FROM pg_indexes WHERE indexdef LIKE '%%hnsw%%halfvec%%'")
    assert f"halfvec({DIMENSIONS})" in definition
    spaces.switch(owner, space)
    assert len(ask(shelf.connection, shelf, both)) == 8


def test_a_model_with_other_weights_or_none_is_told_what_to_do(shelf: Library, small: Path) -> None:
    space = spaces.active_space(shelf.connection)
    with pytest.raises(UnknownModelError, match="GREENROOM_EMBEDDING_OTHER_MODELS"):
        Models(load_settings(_env_file=None, embedding={"model": str(small)})).of(space)
    other = spaces.Space(space.id, space.model, "0" * 16, space.dimensions, space.max_tokens, "vector", is_active=True)
    with pytest.raises(UnknownModelError, match="revision 0000"):
        Models(load_settings(_env_file=None)).of(other)
