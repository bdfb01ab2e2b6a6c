"""The session in which tables and indexes are looked after: it takes its time, and ends as it began."""

from typing import Any

import pytest

from core.errors import PermanentError
from db import maintenance
from db.connection import connect
from pipelines.outcomes import Done, Outcome
from pipelines.task import Task, TaskContext
from tests.support.database import Database
from tests.support.tasks import Roll
from workers.testing import run_task


def test_a_session_ends_as_it_began(database: Database) -> None:
    seen: list[list[Any]] = []

    def run(context: TaskContext, payload: Roll) -> Outcome:
        shown = "SELECT current_setting('statement_timeout'), current_setting('lock_timeout')"
        with context.outside() as connection:
            with maintenance.session(connection, 7200.0):
                seen.append(connection.execute(shown).fetchall())
            seen.append(connection.execute(shown).fetchall())
        return Done()

    run_task(database, Task(payload=Roll, run=run, scope="system", outside=True, batch_size=1), Roll())
    assert seen == [[("2h", "30s")], [("5min", "0")]]


def test_behind_a_pooler_there_is_no_session_of_one_s_own(database: Database) -> None:
    with (
        connect(database.url("system"), name="test", pooled=True) as connection,
        pytest.raises(PermanentError, match="GREENROOM_DATABASE_DIRECT_URL"),
        maintenance.session(connection, 60.0),
    ):
        connection.execute("SELECT 1")
