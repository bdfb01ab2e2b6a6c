"""Tables whose old rows are archived and brought back by the real tasks, and what they hold meanwhile."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from psycopg import sql

from pipelines.enqueue import enqueue
from pipelines.payload import Payload
from pipelines.registry import Registry
from pipelines.resources import Resources
from pipelines.retention import enforce
from pipelines.retention.archive import archiving
from pipelines.retention.archive.store import ArchiveStore, LocalArchives
from pipelines.retention.enforce import EnforceRetention
from pipelines.retention.restoring import task as restoring
from pipelines.retention.restoring.task import RestoreArchive
from tests.support.database import Database
from tests.support.engine import Line
from tests.support.tenants import named

OLD = datetime(2020, 2, 3, tzinfo=UTC)
"""A moment of a month that is long over."""

_FORGET = "DELETE FROM ops.retention_policies WHERE table_schema = %s AND table_name = %s AND NOT is_held"
_POLICY = """
INSERT INTO ops.retention_policies (name, tenant_id, table_schema, table_name, age_column, age, action, is_enabled, most_share)
VALUES (%s, %s, %s, %s, %s, %s, 'archive', true, 1)
"""


class Shelf:
    """Archives and restores of one database, by the system role's tasks; files stand in a folder of the test's own."""

    def __init__(self, database: Database, folder: Path, patch: pytest.MonkeyPatch) -> None:
        patch.setitem(enforce.STEPS, "archive", archiving.step)
        self.database, self.folder = database, folder
        resources = Resources()
        resources.provide(ArchiveStore, lambda: LocalArchives(folder))
        self.line = Line(database, Registry([*enforce.TASKS, *restoring.TASKS]), resources=resources)

    def archive(self, table: str, column: str, *, tenant_id: UUID | None = None, age: str = "1 year") -> None:
        """Archive what is older, for one tenant or all; each row leaves its table."""
        schema, _, name = table.partition(".")
        self.database.rows(_FORGET, (schema, name))
        self.database.rows(_POLICY, (f"archive {table}", tenant_id, schema, name, column, age))
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

    def run(self, payload: Payload) -> dict[str, Any]:
        """Run a task to its end, and return its row."""
        task_id = enqueue(self.database.connect(), payload)
        while self.line.task(task_id)["completed_at"] is None:
            assert self.line.run_once(), self.line.task(task_id)
        return self.line.task(task_id)

    def text_of(self, table: str, column: str | None = None) -> tuple[int, str | None]:
        """Return how many rows a table has, and a hash over the text of all of them; of the old ones by a column."""
        aged = sql.SQL("true") if column is None else sql.SQL("{} < '2021-01-01'").format(sql.Identifier(column))
        query = sql.SQL("SELECT count(*), md5(string_agg(t::text, E'\\n' ORDER BY t::text)) FROM {} t WHERE {}")
        [found] = self.database.connect().execute(query.format(named(table), aged)).fetchall()
        return found


def old(number: int = 0) -> datetime:
    """Return a moment of a month that is long over, another one for each number."""
    return OLD + timedelta(seconds=number)
