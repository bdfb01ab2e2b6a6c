"""Archived, dropped, restored: a table is what it was, to the byte, with all that its rows took along or changed."""

from collections.abc import Iterator
import time
from pathlib import Path

import pytest

from db.embedded import EmbeddedServer
from tests.support.database import Database, cloned
from tests.support.factory import Factory
from tests.support.months import old_tasks
from tests.support.restoring import Shelf, old
from tests.support.tenants import new_tenant


@pytest.fixture(scope="module")
def shelf(
    server_without_fsync: EmbeddedServer, template_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shelf]:
    """A database whose tables go into archives and come back."""
    with cloned(server_without_fsync, template_database) as database, pytest.MonkeyPatch.context() as patch:
        shelf = Shelf(database, tmp_path_factory.mktemp("archives"), patch)
        yield shelf
        shelf.line.close()


@pytest.fixture
def ours(shelf: Shelf) -> Iterator[Factory]:
    with new_tenant(shelf.database) as factory:
        yield factory


def test_each_parted_table(shelf: Shelf, ours: Factory) -> None:
    parted = shelf.database.rows("SELECT relation::text, key::text FROM ops.parted_tables() ORDER BY 1")
    for table, key in parted:
        shelf.database.rows("SELECT ops.create_month(%s::regclass, %s)", (table, old()))
    for table, key in parted:
        if table == "queue.tasks_history":
            old_tasks(shelf.database)
            continue
        for n in range(3):
            if table == "governance.validation_results":
                event = ours.row("governance.governance_events", created_at=old(n))
                ours.row(table, event_id=event["id"], event_created_at=event["created_at"])
                continue
            ours.row(table, **{key: old(n)})
    for table, key in parted:
        before = shelf.text_of(table, key)
        shelf.archive(table, key)
        gone = shelf.text_of(table, key)
        came = shelf.restored(table)
        print(time.monotonic(), table, before, gone, came)
        assert shelf.text_of(table, key) == before, table
