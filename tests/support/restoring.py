"""Tables whose old rows are archived and brought back by the real tasks, and what they hold meanwhile."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from psycopg import sql
from psycopg.rows import dict_row

from db.embedded import EmbeddedServer
from pipelines.enqueue import enqueue
from pipelines.payload import Payload
from pipelines.registry import Registry
from pipelines.resources import Resources
from pipelines.retention import enforce, runs
from pipelines.retention.archive.store import ArchiveStore, LocalArchives
from pipelines.retention.enforce import EnforceRetention
from pipelines.retention.restoring import task as restoring
from pipelines.retention.restoring.task import RestoreArchive
from tests.support.database import Database, cloned
from tests.support.engine import Line
from tests.support.factory import Factory, Row
from tests.support.tenants import named

OLD = datetime(2020, 2, 3, tzinfo=UTC)
NEXT = datetime(2020, 3, 3, tzinfo=UTC)
"""Moments of months that are long over."""
MESSAGES, EXECUTIONS = "assistants.messages", "tools.tool_executions"
EVENTS, RESULTS = "governance.governance_events", "governance.validation_results"
_FORGET = "DELETE FROM ops.retention_policies WHERE table_schema = %s AND table_name = %s AND NOT is_held"
_POLICY = """
INSERT INTO ops.retention_policies
    (name, tenant_id, table_schema, table_name, age_column, age, action, is_enabled, most_share)
VALUES (%s, %s, %s, %s, %s, '1 year', 'archive', true, 1)
"""
END_KEEPING = "UPDATE ops.archives SET restored_until = now() - interval '1 second' WHERE restored_until > now()"
_TASK = "SELECT status, result, last_error, completed_at FROM queue.outbox_tasks WHERE id = %s"
_DUE = "UPDATE queue.tasks_live SET run_after = now(), is_due = true, is_waiting = false"


class Shelf:
    """Archives and restores of one database, by the system role's tasks; files stand in a folder of the test's own."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database, self.folder = database, folder
        self.owner = database.connect()
        resources = Resources()
        resources.provide(ArchiveStore, lambda: LocalArchives(folder))
        self.line = Line(database, Registry([*enforce.TASKS, *restoring.TASKS]), resources=resources)

    def make_month(self, table: str, moment: datetime = OLD) -> None:
        """Make a month of a parted table."""
        self.database.rows("SELECT ops.create_month(%s::regclass, %s)", (table, moment))

    def archive(
        self, table: str, column: str = "created_at", *, tenant_id: UUID | None = None, is_kept: bool = False
    ) -> None:
        """Archive what is older than a year, for one tenant or all: also what was restored, unless that is kept."""
        if not is_kept:
            self.database.rows(END_KEEPING)
        schema, _, name = table.partition(".")
        self.database.rows(_FORGET, (schema, name))
        self.database.rows(_POLICY, (f"archive {table}", tenant_id, schema, name, column))
        ended = self.run(EnforceRetention(policies=(f"archive {table}",)))
        assert ended["status"] == "done", ended["last_error"]

    def restore(self, table: str, **asked: Any) -> dict[str, Any]:
        """Restore rows to a table; return the task as it ended."""
        return self.run(RestoreArchive(table=table, **asked))

    def restored(self, table: str, **asked: Any) -> dict[str, Any]:
        """Restore rows to a table; return what came of it."""
        ended = self.restore(table, **asked)
        assert ended["status"] == "done", ended["last_error"]
        found: dict[str, Any] = ended["result"]
        return found

    def refusal(self, table: str, **asked: Any) -> str:
        """Ask for a restore that fails; return the sentence."""
        ended = self.restore(table, **asked)
        assert ended["status"] == "failed"
        return str(ended["last_error"])

    def run(self, payload: Payload, **options: Any) -> dict[str, Any]:
        """Run a task to its end, whatever it waits for, and return its row."""
        task_id = enqueue(self.owner, payload, **options)
        while (task := self._task(task_id))["completed_at"] is None:
            self.owner.execute(_DUE)
            assert self.line.run_once(), task
        return task

    def text_of(self, table: str, column: str | None = None) -> tuple[int, str | None]:
        """Return how many rows a table has, and a hash over the text of all; of the old ones, where a time is named."""
        aged = sql.SQL("true") if column is None else sql.SQL("{} < '2021-01-01'").format(sql.Identifier(column))
        query = sql.SQL("SELECT count(*), md5(string_agg(t::text, E'\\n' ORDER BY t::text)) FROM {} t WHERE {}")
        [(count, text)] = self.owner.execute(query.format(named(table), aged)).fetchall()
        return count, text

    def of(self, table: str, tenant_id: UUID) -> list[tuple[Any, ...]]:
        """Return a tenant's rows of a table, as text."""
        query = sql.SQL("SELECT t::text FROM {} t WHERE tenant_id = %s ORDER BY 1")
        return self.owner.execute(query.format(named(table)), (tenant_id,)).fetchall()

    def _task(self, task_id: UUID) -> dict[str, Any]:
        with self.owner.cursor(row_factory=dict_row) as cursor:
            [task] = cursor.execute(_TASK, (task_id,)).fetchall()
        return task

    def files(self) -> list[Path]:
        """Return the files that stand in storage, without the manifests."""
        return sorted(self.folder.rglob("*.parquet"))


@contextmanager
def shelf_of(server: EmbeddedServer, template: str, folder: Path) -> Iterator[Shelf]:
    """A database of the block's own whose tables go into archives and come back."""
    with cloned(server, template) as database, pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "_LONGEST_REST", 0.0)
        shelf = Shelf(database, folder)
        try:
            for table in (MESSAGES, EXECUTIONS, EVENTS, RESULTS):
                shelf.make_month(table)
                shelf.make_month(table, NEXT)
            yield shelf
        finally:
            shelf.line.close()


def old(number: int = 0, month: datetime = OLD) -> datetime:
    """Return a moment of a month that is long over, another one for each number."""
    return month + timedelta(seconds=number)


def talk(ours: Factory, count: int = 3, month: datetime = OLD) -> list[Row]:
    """Make a conversation of a month that is over, with its messages; the first has led to a call."""
    held = ours.row("assistants.conversations", started_at=month)["id"]
    messages = [
        ours.row(MESSAGES, conversation_id=held, created_at=old(number, month), content=f"Tschüß '{number}',\n \"ok\"")
        for number in range(count)
    ]
    first = {"message_id": messages[0]["id"], "message_created_at": messages[0]["created_at"]}
    ours.row(EXECUTIONS, conversation_id=held, started_at=month, **first)
    return messages


def decision(ours: Factory, moment: datetime = OLD) -> Row:
    """Make a governance event with two results."""
    event = ours.row(EVENTS, created_at=moment)
    for _ in range(2):
        ours.row(RESULTS, event_id=event["id"], event_created_at=event["created_at"])
    return event
