"""Rows of tables without a primary key come back, each once, whoever restores beside."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from db import restores
from db.embedded import EmbeddedServer
from db.restores import File, Written
from pipelines.retention.archive.reading import FileReader
from pipelines.retention.archive.store import LocalArchives
from pipelines.retention.restoring.encoding import encode
from tests.support.months import old_tasks
from tests.support.restoring import OLD, Shelf, shelf_of

ATTEMPTS, HISTORY = "queue.attempts", "queue.tasks_history"
NOTHING = {"restored": 0, "links": 0, "there": 0, "different": 0, "refused": {}}
SAME = """
INSERT INTO queue.attempts (task_id, claim_number, number, outcome, ended_at)
SELECT '019ab000-0000-7000-8000-000000000001', n, n, 'retry', %s::timestamptz + n * interval '1 second'
FROM generate_series(%s::int, %s) n
"""


@pytest.fixture
def shelf(
    server_without_fsync: EmbeddedServer, template_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shelf]:
    """A database of the test's own."""
    with shelf_of(server_without_fsync, template_database, tmp_path_factory.mktemp("archives")) as shelf:
        yield shelf


def test_each_attempt_of_a_task_comes_back_beside_those_that_stayed(shelf: Shelf) -> None:
    shelf.make_month(ATTEMPTS)
    shelf.database.rows(SAME, (OLD, 1, 5))
    shelf.database.rows(SAME, ("2026-11-01", 6, 7))
    before = shelf.text_of(ATTEMPTS)
    shelf.archive(ATTEMPTS, "ended_at")
    assert shelf.text_of(ATTEMPTS)[0] == 2
    assert shelf.restored(ATTEMPTS) == NOTHING | {"restored": 5}
    assert shelf.text_of(ATTEMPTS) == before
    assert shelf.restored(ATTEMPTS) == NOTHING | {"there": 5}


def test_two_restores_at_once_bring_each_ended_task_back_once(shelf: Shelf) -> None:
    old_tasks(shelf.database, 3)
    before = shelf.text_of(HISTORY, "completed_at")
    shelf.archive(HISTORY, "completed_at")
    [part] = restores.parts(shelf.owner, HISTORY)
    [(relation, text)] = [(file.table, encode_all(shelf, file)) for file in part.files]
    restores.make_month(shelf.database.connect("system"), relation, OLD.date().replace(day=1))
    first, other = (shelf.database.connect("system") for _ in "ab")
    with first.transaction():
        assert restores.write_page(first, part, part.files[0], text, ()) == Written(3, 0, 0, {})
        with pytest.raises(psycopg.errors.LockNotAvailable):
            restores.write_page(other, part, part.files[0], text, ())
    assert restores.write_page(other, part, part.files[0], text, ()) == Written(0, 3, 0, {})
    assert shelf.text_of(HISTORY, "completed_at") == before


def test_the_plan_leaves_a_month_alone_that_was_brought_back_as_the_run_does(shelf: Shelf) -> None:
    old_tasks(shelf.database, 3)
    shelf.archive(HISTORY, "completed_at")
    assert shelf.restored(HISTORY)["restored"] == 3
    plan = "SELECT row_count FROM ops.plan_retention('archive queue.tasks_history')"
    assert shelf.database.rows(plan) == []
    shelf.archive(HISTORY, "completed_at", is_kept=True)
    assert shelf.text_of(HISTORY, "completed_at")[0] == 3
    shelf.database.rows("UPDATE ops.archives SET restored_until = now() - interval '1 second'")
    assert shelf.database.rows(plan) == [(3,)]


def encode_all(shelf: Shelf, file: File) -> str:
    """Return all rows of an archived file as a page is written."""
    with tempfile.TemporaryDirectory() as folder:
        reader = FileReader(LocalArchives(shelf.folder).fetch(file.key, Path(folder) / "file", file.sha256), file.key)
        [(_, rows)] = reader.groups()
        reader.close()
    return encode(rows, file)
