"""What may be done with a space and what may not: building, dropping, models that fit and that do not."""

from pathlib import Path

import psycopg
import pytest

from console.setup import create_space
from core.errors import NotFoundError, UsageError
from core.settings import load_settings
from db import spaces
from pipelines.documents.embedders import Models
from pipelines.documents.errors import UnknownModelError
from pipelines.documents.models import find_model
from pipelines.documents.payloads import FillSpace
from pipelines.enqueue import enqueue
from pipelines.resources import Resources
from tests.integration.documents.library import Library
from tests.integration.documents.two_spaces import ask, filled, finish, second_space
from tests.support.small_model import DIMENSIONS, make_small_model


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
