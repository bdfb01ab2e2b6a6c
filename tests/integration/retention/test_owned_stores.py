"""Two installations at one store: the mark at its root says whose it is, and the other neither writes nor removes."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from db.embedded import EmbeddedServer
from pipelines.registry import Registry
from pipelines.retention.archive.store import LocalArchives
from pipelines.retention.files import ExpireFiles, RemoveFiles
from pipelines.retention.orphans import CheckFiles
from pipelines.storage import LocalStorage
from pipelines.storage.base import MARK
from pipelines.storage.owning import ForeignStoreError, refuse_foreign
from tests.support.archives import archiving, printed
from tests.support.database import Database, cloned
from tests.support.engine import publish
from tests.support.forgetting import Scene
from tests.support.months import old_tasks
from tests.support.stored import CHECK, DOCUMENTS, EXPIRE, REMOVE, Site, sited

OLD = timedelta(hours=25)
INSTALLATION = "SELECT id FROM ops.installation"


@pytest.fixture(scope="module")
def shared(server_without_fsync: EmbeddedServer, template_database: str) -> Iterator[Database]:
    """A database whose installation is one of its own: copies of a database are one installation."""
    with cloned(server_without_fsync, template_database) as database:
        database.rows("UPDATE ops.installation SET id = %s", (uuid4(),))
        publish(database, Registry([CHECK, EXPIRE, REMOVE]))
        yield database


@pytest.fixture
def site(shared: Database, tmp_path: Path) -> Iterator[Site]:
    with sited(shared, tmp_path) as site:
        yield site


def marked(site: Site, text: str | None) -> None:
    """Have the storage carry a mark, or none."""
    (site.root / MARK).unlink(missing_ok=True)
    if text is not None:
        site.storage.set_mark(text)


@pytest.mark.parametrize("payload", [CheckFiles(remove=True), ExpireFiles(), RemoveFiles()])
def test_a_storage_of_another_installation_is_left_alone(site: Site, payload: CheckFiles) -> None:
    marked(site, "another")
    stray, temporary = (site.write(f"{site.tenant_id}/{name}", age=OLD) for name in ("a", "temporary/b"))
    run = site.run(payload)
    assert run.status == "failed"
    assert "is the store of another installation (another): give this one a place of its own" in str(run.error)
    assert site.has(stray)
    assert site.has(temporary)


def test_a_storage_without_a_mark_is_marked_by_whose_files_it_has(site: Site) -> None:
    marked(site, None)
    stray = site.write(f"{site.tenant_id}/a", age=OLD)
    run = site.run(CheckFiles(remove=True))
    assert run.status == "failed"
    assert "has files and no mark" in str(run.error)
    assert site.has(stray)
    site.row(DOCUMENTS, site.put("ours"))
    assert site.run(CheckFiles(remove=True)).status == "done"
    assert site.storage.mark() == str(site.database.value(INSTALLATION))
    assert not site.has(stray)


def test_the_first_that_writes_marks_an_empty_store(shared: Database, tmp_path: Path) -> None:
    connection = shared.connect("worker")
    for store in (LocalStorage(tmp_path / "documents"), LocalArchives(tmp_path / "archives")):
        refuse_foreign(connection, store)
        assert store.mark() == str(shared.value(INSTALLATION))
        store.set_mark("another")
        with pytest.raises(ForeignStoreError, match="of another installation"):
            refuse_foreign(connection, store)


def test_archives_of_another_installation_are_neither_written_nor_removed(
    database: Database, site: Site, tmp_path: Path
) -> None:
    old_tasks(database, 3)
    theirs = archiving(database, tmp_path / "theirs")
    assert theirs.work() is None
    kept = theirs.store.keys("")
    site.archives = LocalArchives(tmp_path / "theirs")
    for mark in (tmp_path / "theirs" / MARK, None):
        if mark is None:  # as of before there were marks
            (tmp_path / "theirs" / MARK).unlink()
        old_tasks(site.database, 2)
        mine = archiving(site.database, tmp_path / "theirs")
        with pytest.raises(ForeignStoreError):
            mine.work()
        assert printed(site.database, "queue.tasks_history").total() >= 2
        assert site.run(CheckFiles(remove=True)).status == "failed"
        assert theirs.store.keys("") == kept
    assert theirs.work() is None
    assert theirs.store.mark() == str(database.value(INSTALLATION))


def test_an_erasure_leaves_archives_of_another_installation_alone(scene: Scene) -> None:
    person = scene.ours.row("people.persons")["id"]
    scene.ours.row("people.observations", person_id=person, created_at="2020-02-03 00:00+00")
    scene.archived("people.observations")
    kept = scene.store.keys("")
    scene.store.set_mark("another")
    scene.delete(person)
    [(_, status, error)] = scene.work()
    assert (status, "of another installation" in str(error)) == ("failed", True)
    assert scene.store.keys("") == kept
