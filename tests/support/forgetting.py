"""Somebody in archives: what was said of them, what the store holds of it, and the tasks that erase them."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

import pyarrow.parquet as pq

from core.errors import UnavailableError
from db import archives
from db.connection import tenant_transaction
from pipelines.registry import Registry
from pipelines.resources import Resources
from pipelines.retention import forgetting
from pipelines.retention.archive.columns import Column
from pipelines.retention.archive.manifest import ArchivedFile, Manifest
from pipelines.retention.archive.reading import FileReader, copy_text
from pipelines.retention.archive.store import ArchiveStore, LocalArchives
from pipelines.retention.archive.writing import OWN
from pipelines.storage import LocalStorage, Storage
from pipelines.tenants import erasure, users
from tests.support.archives import Archiving, archiving, loaded
from tests.support.database import Database
from tests.support.engine import publish
from tests.support.factory import Factory
from tests.support.tenants import new_tenant
from workers.testing import drain

REGISTRY = Registry([*forgetting.TASKS, *users.TASKS, *erasure.TASKS])
ENDS = """
SELECT task_type, status, last_error FROM queue.tasks_history
WHERE task_type ~ 'erase$' ORDER BY completed_at
"""
ERASURES = "SELECT payload FROM queue.tasks_live WHERE task_type = 'archive.erase' ORDER BY created_at"
OVER = "UPDATE ops.retention_runs SET status = 'completed', ended_at = now()"
NAMED = "SELECT manifest_key, files FROM ops.archives WHERE status IN ('verified', 'emptied')"


class FailingArchives(LocalArchives):
    """A store that works so many times and fails once: what was done by then is done, as after a kill."""

    def __init__(self, root: Path, after: int) -> None:
        super().__init__(root)
        self.left = after

    def _step(self) -> None:
        self.left -= 1
        if self.left == -1:
            raise UnavailableError("the store fails")

    def put(self, key: str, source: Path) -> None:
        self._step()
        super().put(key, source)

    def get(self, key: str, target: Path) -> None:
        self._step()
        super().get(key, target)

    def delete(self, key: str) -> None:
        self._step()
        super().delete(key)


@dataclass(frozen=True, slots=True)
class Scene:
    """A tenant of a test's own, the archives' store beside its database, and a folder for what tasks store."""

    database: Database
    ours: Factory
    store: LocalArchives
    folder: Path

    def archived(self, table: str, age_column: str = "created_at") -> Archiving:
        """Archive what is old of a table, by a run that is over then."""
        run = archiving(self.database, self.store, table, age_column)
        assert run.work() is None
        self.database.rows(OVER)
        return run

    def work(self, store: ArchiveStore | None = None) -> list[tuple[str, str, str | None]]:
        """Run erasures until none is due, with another store where one is given; return how each ended."""
        drain(self.database, REGISTRY, resources=resources(store or self.store, self.folder / "storage"), limit=500)
        return self.database.rows(ENDS)

    def delete(self, person: UUID) -> None:
        """Delete a person as a product does."""
        with tenant_transaction(self.database.connect("worker"), self.ours.tenant_id) as worker:
            worker.execute("DELETE FROM people.persons WHERE id = %s", (person,))

    def traces(self, *words: object) -> dict[str, list[str]]:
        """Return the files of the store that hold one of these words, with those that they hold."""
        return traces(self.store, *words)

    def astray(self) -> set[str]:
        """Return the keys of files that no part names, and those that a part names and that are not there."""
        named = set()
        for manifest_key, files in self.database.rows(NAMED):
            named |= {manifest_key, *(file["key"] for file in files)}
        return named ^ set(self.store.keys(""))


@contextmanager
def scene_of(database: Database, folder: Path) -> Iterator[Scene]:
    """Return a scene for the block, in a database that knows the tasks which erase."""
    publish(database, REGISTRY)
    with new_tenant(database) as ours:
        yield Scene(database, ours, LocalArchives(folder / "archives"), folder)


def resources(store: ArchiveStore, storage: Path) -> Resources:
    """Return what the tasks work with."""
    found = Resources()
    found.provide(ArchiveStore, lambda: store)
    found.provide(Storage, lambda: LocalStorage(storage))
    return found


def holdings(store: ArchiveStore) -> dict[str, str]:
    """Return, by its key, all that a file of the store says: its bytes, and each value that is decoded from it."""
    found = {}
    with TemporaryDirectory() as folder:
        for key in store.keys(""):
            target = Path(folder) / "file"
            store.get(key, target)
            said = target.read_bytes().decode("latin-1")
            if key.endswith(".parquet"):
                said += str(pq.read_table(target).to_pylist())
            found[key] = f"{key} {said}"
    return found


def traces(store: ArchiveStore, *words: object) -> dict[str, list[str]]:
    """Return the files of the store that hold one of these words, with those that they hold."""
    held = {key: [str(word) for word in words if str(word) in said] for key, said in holdings(store).items()}
    return {key: found for key, found in held.items() if found}


def rows_of(run: Archiving) -> Counter[str]:
    """Return the rows of all tables in all parts, as Postgres prints them, each with its table."""
    found: Counter[str] = Counter()
    for file in files_of(run):
        found.update(f"{file.table} {text}" for text in loaded(run.database, run.store, file))
    return found


def files_of(run: Archiving) -> list[ArchivedFile]:
    """Return the files of all parts that hold rows."""
    query = "SELECT manifest_key, manifest_sha256 FROM ops.archives WHERE status IN ('verified', 'emptied') ORDER BY id"
    manifests = [Manifest.decode(run.store.read(key), key, sha256) for key, sha256 in run.database.rows(query)]
    return [file for manifest in manifests for file in manifest.files]


def unlike(run: Archiving) -> int:
    """Return how many rows of the parts are not what their hash says."""
    wrong = 0
    with TemporaryDirectory() as folder:
        for file in files_of(run):
            reader = FileReader(run.store.fetch(file.key, Path(folder) / "file", file.sha256), file.key)
            columns = [Column(each.name, each.type) for each in file.columns]
            for _, rows in reader.groups():
                with run.connection.transaction(force_rollback=True):
                    text = copy_text(rows, [*columns, OWN[0]])
                    wrong += archives.check(run.connection, file.table, [each.name for each in columns], [text])[1]
            reader.close()
    return wrong


def subjects(database: Database, kind: str, subject_id: UUID) -> list[tuple[Any, ...]]:
    """Return how many rows of somebody archives say that they hold, by table."""
    query = (
        "SELECT a.table_name, s.row_count::int FROM ops.archive_subjects s JOIN ops.archives a ON a.id = s.archive_id "
        "WHERE s.kind = %s AND s.subject_id = %s ORDER BY 1"
    )
    return database.rows(query, (kind, subject_id))
