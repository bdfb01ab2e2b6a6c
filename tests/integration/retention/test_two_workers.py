"""Two workers at one run, one of which has lost its lease without knowing: no archived row is lost between them."""

from collections import Counter
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from db import archives, retention_runs
from pipelines.retention.archive import parts
from pipelines.retention.archive.errors import ChangedArchiveError
from tests.support.archives import HISTORY, MESSAGES, Archiving, archiving, old_messages, printed, small_pages
from tests.support.database import Database
from tests.support.factory import Factory
from tests.support.months import old_tasks

MONTH = date(2020, 2, 1)


def second(run: Archiving) -> Archiving:
    """Return another worker at the same run."""
    return Archiving(run.database, run.store, run.run, run.database.connect("system"))


def meanwhile(real: Callable[..., Any], does: Callable[[], object]) -> Callable[..., Any]:
    """Return a call before which, once, something else happens."""
    left = [does]

    def call(*given: Any) -> Any:
        while left:
            left.pop()()
        return real(*given)

    return call


def kept(run: Archiving) -> Counter[str]:
    """Return the rows that are in the table, or that the archives give back."""
    return run.archived() | printed(run.database, run.run.table)


def test_a_page_that_two_workers_empty_is_left_behind_by_none(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = Factory(database.connect(), database.value("SELECT identity.default_tenant_id()"))
    old_messages(database, ours, 100)
    before = printed(database, MESSAGES)
    run = archiving(database, tmp_path / "archives", MESSAGES, "created_at")
    with small_pages():
        parts.write(run.job(), MONTH)
    other = second(run)
    with monkeypatch.context() as patched:
        patched.setattr(archives, "empty", meanwhile(archives.empty, lambda: other.work(seconds=0)))
        assert run.work() is not None
    assert kept(run) == before
    assert run.work() is None
    assert (run.archived(), printed(database, MESSAGES)) == (before, Counter())


@pytest.mark.parametrize("table", [HISTORY, MESSAGES])
def test_a_part_that_is_verified_while_another_worker_gives_it_up_keeps_its_files(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    ours = Factory(database.connect(), database.value("SELECT identity.default_tenant_id()"))
    old_tasks(database, 3) if table == HISTORY else old_messages(database, ours, 3)
    before = printed(database, table)
    run = archiving(database, tmp_path / "archives", table, "completed_at" if table == HISTORY else "created_at")
    other = second(run)

    seen: list[archives.Pending] = []
    with monkeypatch.context() as patched:
        patched.setattr(
            archives,
            "verify",
            meanwhile(archives.verify, lambda: seen.extend(archives.pending(other.connection, run.run.id, table))),
        )
        run.work()
    [part] = seen
    parts.forget(other.job(), part)
    assert kept(run) == before


def test_a_part_that_another_worker_gave_up_is_not_verified(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old_tasks(database, 3)
    before = printed(database, HISTORY)
    run = archiving(database, tmp_path / "archives")
    other = second(run)
    with monkeypatch.context() as patched:
        patched.setattr(archives, "verify", meanwhile(archives.verify, lambda: other.work()))
        assert run.work() is not None
    assert kept(run) == before
    assert database.rows("SELECT rows_archived FROM ops.retention_runs WHERE id = %s", (run.run.id,)) == [(3,)]


def test_a_verified_part_that_is_broken_later_drops_no_month(database: Database, tmp_path: Path) -> None:
    old_tasks(database, 3)
    before = printed(database, HISTORY)
    run = archiving(database, tmp_path / "archives")
    parts.write(run.job(), MONTH)
    [key] = [key for key in run.store.keys("") if key.endswith(".parquet")]
    run.store.delete(key)
    with pytest.raises(ChangedArchiveError):
        run.work()
    assert printed(database, HISTORY) == before


def test_a_part_that_was_broken_off_takes_no_other_files_along(database: Database, tmp_path: Path) -> None:
    old_tasks(database, 3)
    run = archiving(database, tmp_path / "archives")
    assert run.work() is None
    before = run.archived()
    old_tasks(database, 2, "2020-04-03 00:00+00")
    archives.begin(run.connection, run.run.id, date(2020, 4, 1))
    before += printed(database, HISTORY)
    assert run.work() is None
    assert run.archived() == before


def test_a_policy_that_is_of_another_table_by_now_takes_nothing_of_the_first(
    database: Database, tmp_path: Path
) -> None:
    ours = Factory(database.connect(), database.value("SELECT identity.default_tenant_id()"))
    old_messages(database, ours, 3)
    run = archiving(database, tmp_path / "archives", MESSAGES, "created_at")
    database.rows("DELETE FROM ops.retention_policies WHERE table_name = 'rag_queries'")
    become = "UPDATE ops.retention_policies SET table_schema = 'knowledge', table_name = 'rag_queries' WHERE id = %s"
    database.rows(become, (run.run.policy_id,))
    run.work()
    assert (run.parts(), printed(database, MESSAGES).total()) == ([], 3)
    begun, state = retention_runs.begin(run.connection, run.run.policy_name, uuid4(), is_confirmed=False)
    assert (begun == run.run.id, state) == (False, "running")
    assert database.rows("SELECT status FROM ops.retention_runs WHERE id = %s", (run.run.id,)) == [("cancelled",)]
