"""A tenant's rows and the storage that has their files."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from psycopg import sql

from pipelines.payload import Payload
from pipelines.resources import Resources
from pipelines.retention import files, orphans
from pipelines.retention.archive.store import ArchiveStore, LocalArchives
from pipelines.retention.files import RemoveFiles, TemporaryFiles
from pipelines.storage import LocalStorage, Storage
from tests.support.database import Database
from tests.support.factory import Factory, Row
from tests.support.tenants import named, new_tenant
from workers.testing import TaskRun, run_task

REMOVE, EXPIRE = files.TASKS
[CHECK] = orphans.TASKS
DOCUMENTS, TEXTS, ATTACHMENTS = "knowledge.documents", "knowledge.document_texts", "mail.attachments"
NOTES = "SELECT key FROM ops.released_files WHERE tenant_id = %s"


class Site:
    """A tenant's rows, and the storage that has their files."""

    def __init__(self, database: Database, factory: Factory, root: Path) -> None:
        self.database = database
        self.factory = factory
        self.tenant_id = factory.tenant_id
        self.root = root / "storage"
        self.storage = LocalStorage(self.root)
        self.resources = Resources()
        self.archives = LocalArchives(self.root / "archives")
        self.resources.provide(Storage, lambda: self.storage)
        self.resources.provide(ArchiveStore, lambda: self.archives)
        self.storage.set_mark(str(database.value("SELECT id FROM ops.installation")))
        self.resources.provide(TemporaryFiles, lambda: TemporaryFiles(timedelta(hours=24)))

    def put(self, content: str) -> str:
        """Store a content of our tenant's; return its key."""
        source = self.root.parent / "source"
        source.write_text(content)
        return self.storage.put(self.tenant_id, source).key

    def write(self, path: str, *, age: timedelta = timedelta(0)) -> str:
        """Put a file below the storage's root that was written so long ago; return its key."""
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text("12345")
        self.grow_old(path, age)
        return path

    def grow_old(self, key: str, age: timedelta) -> None:
        """Have a file been written so long ago, by Postgres' clock."""
        moment = (self.database.value("SELECT clock_timestamp()") - age).timestamp()
        os.utime(self.root / key, (moment, moment))

    def row(self, table: str, key: str, **given: Any) -> Row:
        """Make a row that names a file, and what it may belong to."""
        parents = {
            DOCUMENTS: {"collection_id": "knowledge.collections", "persona_id": "assistants.personas"},
            ATTACHMENTS: {"email_id": "mail.emails"},
        }.get(table, {})
        made = {column: self.factory.row(parent)["id"] for column, parent in parents.items()}
        return self.factory.row(table, file_path=key, **(made | given))

    def has(self, key: str) -> bool:
        return (self.root / key).exists()

    def notes(self) -> list[str]:
        return [key for (key,) in self.database.rows(NOTES, (self.tenant_id,))]

    def run(self, payload: Payload) -> TaskRun:
        """Run one of our tasks, once."""
        [task] = [each for each in (REMOVE, EXPIRE, CHECK) if each.payload is type(payload)]
        return run_task(self.database, task, payload, resources=self.resources)

    def remove(self) -> TaskRun:
        return self.run(RemoveFiles())


@contextmanager
def sited(database: Database, root: Path) -> Iterator[Site]:
    """A tenant of one's own, in a database that is shared; what names files, there and gone, goes at the end."""
    with new_tenant(database) as factory:
        yield Site(database, factory, root)
        for table in (DOCUMENTS, ATTACHMENTS, "ops.released_files", "ops.archives"):
            factory.owner.execute(sql.SQL("DELETE FROM {}").format(named(table)))
