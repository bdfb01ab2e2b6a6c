"""Runs that archive, worked by hand, and what is in the parts that they leave."""

import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch
from uuid import UUID, uuid4

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from db.connection import Connection
from pipelines.resources import Resources
from pipelines.retention.archive import parts
from pipelines.retention.archive.archiving import step
from pipelines.retention.archive.columns import Column
from pipelines.retention.archive.manifest import ArchivedFile, Manifest
from pipelines.retention.archive.reading import FileReader, copy_text
from pipelines.retention.archive.store import ArchiveStore, LocalArchives
from pipelines.retention.runs import Pacer, Run
from tests.support.database import Database
from tests.support.factory import Factory

HISTORY, MESSAGES, EVENTS = "queue.tasks_history", "assistants.messages", "governance.governance_events"
ADD_POLICY = """
INSERT INTO ops.retention_policies (name, table_schema, table_name, age_column, age, filter, tenant_id, action)
VALUES (%s, %s, %s, %s, '1 year', %s, %s, 'archive')
"""
BEGIN = """
INSERT INTO ops.retention_runs (policy_id, policy_name, tenant_id, table_schema, table_name, action, cutoff)
SELECT id, name, tenant_id, table_schema, table_name, action, now() - age FROM ops.retention_policies WHERE name = %s
RETURNING id, policy_id, policy_name, table_schema || '.' || table_name, cutoff, tenant_id
"""
PARTS = """
SELECT month::text, part, status, row_count::int, rows_deleted::int, left_behind FROM ops.archives ORDER BY month, part
"""
SUBJECTS = "SELECT kind, subject_id, row_count::int FROM ops.archive_subjects"


@dataclass
class Context:
    """As much of a task's context as the step asks for."""

    resources: Resources
    said: list[str] = field(default_factory=list)

    def progress(self, fraction: float, message: str | None = None) -> None:
        """Keep what was said."""
        self.said.append(message or str(fraction))


@dataclass
class Archiving:
    """A run of one policy, over a store."""

    database: Database
    store: ArchiveStore
    run: Run
    connection: Connection

    def work(self, seconds: float = 600.0) -> str | None:
        """Work at the run as its task does, without rests, until it is done or says why it stops."""
        resources = Resources()
        resources.provide(ArchiveStore, lambda: self.store)
        context: Any = Context(resources)
        return step(context, self.connection, self.run, Pacer(self.connection, seconds=seconds, rest=lambda _: None))

    def job(self) -> parts.Job:
        """Return what the step works with."""
        pacer = Pacer(self.connection, seconds=600, rest=lambda _: None)
        layout = parts.Layout.of(self.connection, self.run.table)
        return parts.Job(self.connection, self.store, self.run, pacer, layout)

    def parts(self) -> list[tuple[Any, ...]]:
        """Return month, part, status, rows, deleted rows and those left behind of each part."""
        return self.database.rows(PARTS)

    def manifests(self) -> list[Manifest]:
        """Return the manifests of all verified parts, in their order."""
        query = "SELECT manifest_key, manifest_sha256 FROM ops.archives WHERE status <> 'writing' ORDER BY month, part"
        return [Manifest.decode(self.store.read(key), key, sha256) for key, sha256 in self.database.rows(query)]

    def archived(self) -> Counter[str]:
        """Return the rows of the table that the parts hold as their own, as Postgres prints them."""
        found: Counter[str] = Counter()
        left = dict(self.database.rows("SELECT id, left_behind FROM ops.archives"))
        for manifest in self.manifests():
            texts = loaded(self.database, self.store, manifest.files[0])
            found.update(text for place, text in enumerate(texts) if place not in left[manifest.archive_id])
        return found


@contextmanager
def small_pages(rows: int = 1000) -> Iterator[None]:
    """Have parts of so many rows at most, and pages of one block."""
    with patch.multiple(parts, MOST_ROWS=rows, _FIRST_BLOCKS=1, _MOST_BLOCKS=1):
        yield


def archiving(
    database: Database,
    folder: Path | ArchiveStore,
    table: str = HISTORY,
    age_column: str = "completed_at",
    *,
    given: Mapping[str, Any] | None = None,
    tenant_id: UUID | None = None,
) -> Archiving:
    """Begin the run of a policy that archives what is older than a year; no other policy of the table is left."""
    schema, _, name = table.partition(".")
    off = "DELETE FROM ops.retention_policies WHERE NOT is_held AND (table_schema, table_name) = (%s, %s)"
    database.rows(off, (schema, name))
    policy = f"archive {uuid4()}"
    database.rows(ADD_POLICY, (policy, schema, name, age_column, Jsonb(dict(given or {})), tenant_id))
    store = LocalArchives(folder) if isinstance(folder, Path) else folder
    return Archiving(database, store, begun(database, policy, age_column), database.connect("system"))


def begun(database: Database, policy: str, age_column: str) -> Run:
    """Begin a run of a policy."""
    [(run_id, policy_id, name, relation, cutoff, tenant)] = database.rows(BEGIN, (policy,))
    return Run(run_id, policy_id, name, "archive", relation, age_column, cutoff, tenant, None)


def printed(database: Database, table: str) -> Counter[str]:
    """Return the rows of a table as Postgres prints them."""
    query = sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier(*table.split(".")))
    with psycopg.connect(database.owner_url) as connection:
        connection.execute("SET LOCAL timezone = 'UTC'")
        return Counter(text for (text,) in connection.execute(query).fetchall())


def loaded(database: Database, store: ArchiveStore, file: ArchivedFile) -> list[str]:
    """Return the rows of a file in its order, as Postgres prints them once they are rows of its columns again."""
    columns = [Column(each.name, each.type) for each in file.columns]
    handle, name = tempfile.mkstemp(prefix="greenroom-back-")
    os.close(handle)
    target = store.fetch(file.key, Path(name), file.sha256)
    reader = FileReader(target, file.key)
    names = sql.SQL(", ").join(sql.Identifier(each.name) for each in columns)
    with psycopg.connect(database.owner_url) as connection:
        connection.execute("SET LOCAL timezone = 'UTC'")
        source = sql.Identifier(*file.table.split("."))
        connection.execute(
            sql.SQL("CREATE TEMP TABLE back ON COMMIT DROP AS SELECT {} FROM {} LIMIT 0").format(names, source)
        )
        for _, rows in reader.groups():
            with connection.cursor().copy(sql.SQL("COPY back ({}) FROM STDIN (FORMAT csv)").format(names)) as copy:
                copy.write(copy_text(rows, columns))
        found = [text for (text,) in connection.execute("SELECT b::text FROM back b ORDER BY ctid").fetchall()]
    target.unlink()
    return found


def old_messages(database: Database, ours: Factory, count: int = 3, moment: str = "2020-02-03 00:00+00") -> list[UUID]:
    """Write messages of a month that is over, and return their conversation's id with theirs."""
    database.rows("SELECT ops.create_month(%s::regclass, %s)", (MESSAGES, moment))
    made = [ours.row(MESSAGES, created_at=moment, content=f"say {number}") for number in range(count)]
    return [row["id"] for row in made]
