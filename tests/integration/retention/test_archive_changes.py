"""What changes while it is archived stays in its table; whatever the storage does, no row is lost or doubled."""

import errno
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from core.errors import UnavailableError
from db import archives
from pipelines.retention.archive import parts, store
from pipelines.retention.archive.errors import ChangedArchiveError
from pipelines.retention.archive.manifest import folder_of
from pipelines.retention.archive.reading import copy_text
from pipelines.retention.archive.store import LocalArchives
from tests.support.archives import (
    EVENTS,
    HISTORY,
    MESSAGES,
    Archiving,
    archiving,
    old_messages,
    printed,
)
from tests.support.database import Database
from tests.support.factory import Factory
from tests.support.months import OLD, RESULTS, hold, old_events, old_tasks

MONTH = date(2020, 2, 1)
CHANGE = """
UPDATE queue.tasks_history SET cancel_reason = 'changed'
WHERE id = (SELECT id FROM queue.tasks_history ORDER BY id LIMIT 1)
"""
DISOWN = """
UPDATE queue.tasks_history SET tenant_id = NULL WHERE id = (SELECT id FROM queue.tasks_history ORDER BY id LIMIT 1)
"""
REMOVE = "DELETE FROM queue.tasks_history WHERE id = (SELECT id FROM queue.tasks_history ORDER BY id LIMIT 1)"
EXECUTIONS = "tools.tool_executions"


def written(database: Database, folder: Path, table: str = HISTORY, key: str = "completed_at") -> Archiving:
    """Archive a month up to where its one part is verified."""
    run = archiving(database, folder, table, key)
    parts.write(run.job(), MONTH)
    assert [row[2] for row in run.parts()] == ["verified"]
    return run


def test_a_part_that_was_broken_off_goes_and_leaves_the_files_of_all_others(database: Database, tmp_path: Path) -> None:
    old_tasks(database, 3)
    run = archiving(database, tmp_path / "archives")
    assert run.work() is None
    kept = run.store.keys("")
    old_tasks(database, 2, "2020-03-03 00:00+00")
    begun = archives.begin(run.connection, run.run.id, date(2020, 3, 1))
    run.store.write(f"{folder_of(HISTORY, date(2020, 3, 1), begun.part, begun.id)}/broken", b"off")
    assert run.work() is None
    assert [row[:4] for row in run.parts()] == [("2020-02-01", 1, "emptied", 3), ("2020-03-01", 1, "emptied", 2)]
    assert {*run.store.keys("")} >= {*kept}
    assert [key for key in run.store.keys("") if "broken" in key] == []


def test_a_row_that_changes_before_the_delete_goes_into_a_later_part(database: Database, tmp_path: Path) -> None:
    old_tasks(database, 5)
    run = written(database, tmp_path / "archives")
    database.rows(CHANGE)
    now = printed(database, HISTORY)
    assert run.work() is None
    assert [row[2:5] for row in run.parts()] == [("emptied", 5, 4), ("emptied", 1, 1)]
    assert [len(row[5]) for row in run.parts()] == [1, 0]
    assert run.archived() == now
    assert printed(database, HISTORY) == Counter()


def test_a_row_that_comes_before_the_drop_keeps_the_month_until_it_is_archived(
    database: Database, tmp_path: Path
) -> None:
    old_tasks(database, 3)
    run = written(database, tmp_path / "archives")
    old_tasks(database, 1)
    before = printed(database, HISTORY)
    assert run.work() is None
    assert [row[2:5] for row in run.parts()] == [("emptied", 3, 3), ("emptied", 1, 1)]
    assert run.archived() == before


def test_a_hold_that_is_set_in_between_keeps_its_rows(database: Database, tmp_path: Path) -> None:
    old_tasks(database, 3)
    database.rows(DISOWN)
    run = written(database, tmp_path / "archives")
    hold(database, HISTORY, "completed_at")
    assert run.work() is None
    assert [(row[2:5], len(row[5])) for row in run.parts()] == [(("emptied", 3, 1), 2)]
    assert database.value("SELECT count(*) FROM queue.tasks_history") == 2
    assert not run.archived() & printed(database, HISTORY)


def test_a_hold_on_all_of_a_part_leaves_no_part(database: Database, tmp_path: Path) -> None:
    old_tasks(database, 3)
    run = written(database, tmp_path / "archives")
    hold(database, HISTORY, "completed_at")
    assert str(run.work()).startswith("rows change while they are archived")
    assert run.work() is None
    assert run.parts() == []
    assert run.store.keys("") == []


def test_a_row_that_somebody_deleted_is_not_the_archives(database: Database, tmp_path: Path) -> None:
    old_tasks(database, 3)
    run = written(database, tmp_path / "archives")
    database.rows(REMOVE)
    before = printed(database, HISTORY)
    assert run.work() is None
    assert run.archived() == before


def test_what_comes_to_refer_to_a_row_keeps_it_for_a_later_part(database: Database, tmp_path: Path) -> None:
    ours = Factory(database.connect(), database.value("SELECT identity.default_tenant_id()"))
    [first, *_] = old_messages(database, ours, 3)
    run = written(database, tmp_path / "archives", MESSAGES, "created_at")
    ours.row(EXECUTIONS, message_id=first, message_created_at=OLD)
    assert run.work() is None
    assert [(row[3:5], len(row[5])) for row in run.parts()] == [((3, 2), 1), ((1, 1), 0)]
    assert [[file.kind for file in manifest.files] for manifest in run.manifests()] == [["rows"], ["rows", "links"]]


def test_what_goes_along_and_changed_keeps_its_parent(database: Database, tmp_path: Path) -> None:
    ours = Factory(database.connect(), database.value("SELECT identity.default_tenant_id()"))
    old_events(database, ours, 2)
    run = written(database, tmp_path / "archives", EVENTS, "created_at")
    event = database.rows("SELECT id, created_at FROM governance.governance_events ORDER BY id LIMIT 1")[0]
    ours.row(RESULTS, event_id=event[0], event_created_at=event[1])
    before = printed(database, EVENTS), printed(database, RESULTS)
    assert run.work() is None
    assert [(row[3:5], len(row[5])) for row in run.parts()] == [((2, 1), 1), ((1, 1), 0)]
    assert run.archived() == before[0]
    assert [file.rows for file in run.manifests()[1].files] == [1, 2]


def test_a_month_in_use_is_left_for_later(database: Database, tmp_path: Path) -> None:
    old_tasks(database, 3)
    run = written(database, tmp_path / "archives")
    reader = database.connect("operator")
    with reader.transaction():
        reader.execute("SELECT count(*) FROM queue.outbox_tasks")
        assert run.work() == "in use: queue.tasks_history 2020-02"
    assert run.work() is None


# ------------------------------------------------------------------------------------------------ storage


class Broken(LocalArchives):
    """A store that does with the file of rows what a test says; the manifest is let be."""

    def __init__(self, root: Path, breaks: Callable[[Path], None]) -> None:
        super().__init__(root)
        self._of, self._breaks = root, breaks

    def put(self, key: str, source: Path) -> None:
        """Put it, and break it."""
        super().put(key, source)
        if key.endswith(".parquet"):
            self._breaks(self._of / key)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def replace_by_an_older(path: Path) -> None:
    older = sorted(path.parent.parent.parent.rglob("*.parquet"))
    path.write_bytes(older[0].read_bytes() if older[0] != path else b"PAR1 of another time")


def lose(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("breaks", [flip, truncate, replace_by_an_older, lose])
def test_other_bytes_than_were_written_delete_nothing(
    database: Database, tmp_path: Path, breaks: Callable[[Path], None]
) -> None:
    old_tasks(database, 3)
    before = printed(database, HISTORY)
    run = archiving(database, Broken(tmp_path / "archives", breaks))
    with pytest.raises(ChangedArchiveError, match="no row was deleted"):
        run.work()
    assert printed(database, HISTORY) == before
    run.store = LocalArchives(tmp_path / "archives")
    assert run.work() is None
    assert [row[2:5] for row in run.parts()] == [("emptied", 3, 3)]
    assert run.archived() == before
    assert len(run.store.keys("")) == 2


def test_a_verified_part_that_is_broken_later_empties_nothing(database: Database, tmp_path: Path) -> None:
    ours = Factory(database.connect(), database.value("SELECT identity.default_tenant_id()"))
    old_messages(database, ours, 3)
    run = written(database, tmp_path / "archives", MESSAGES, "created_at")
    [key] = [key for key in run.store.keys("") if key.endswith(".parquet")]
    flip(tmp_path / "archives" / key)
    with pytest.raises(ChangedArchiveError):
        run.work()
    assert printed(database, MESSAGES).total() == 3


def test_rows_that_are_not_what_they_were_are_told_by_their_hash(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old_tasks(database, 3)
    monkeypatch.setattr(parts, "copy_text", lambda rows, columns: copy_text(rows, columns).replace(b'"old"', b'"new"'))
    run = archiving(database, tmp_path / "archives")
    with pytest.raises(ChangedArchiveError, match="rows that are not what they were"):
        run.work()
    assert printed(database, HISTORY).total() == 3


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_store_that_fails_half_way_or_is_full_deletes_nothing(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    old_tasks(database, 3)
    before = printed(database, HISTORY)

    def copy(reading: Any, writing: Any) -> None:
        writing.write(reading.read(1000))
        raise OSError(number, "no")

    run = archiving(database, tmp_path / "archives")
    with monkeypatch.context() as broken:
        broken.setattr(store, "copy", copy)
        with pytest.raises(UnavailableError, match=r"is full: make room|cannot be used") as told:
            run.work()
    assert told.value.retry_after is not None
    assert printed(database, HISTORY) == before
    assert list((tmp_path / "archives").rglob("*.coming")) == []
    assert run.work() is None
    assert run.archived() == before


# ------------------------------------------------------------------------------------------------ kills


class KilledError(BaseException):
    """The worker's end."""


STEPS = (
    "begin",
    "gather",
    "copied",
    "check",
    "verify",
    "drop_month",
    "empty",
    "note",
    "end_part",
    "end_scan",
    "discard",
)


@contextmanager
def killed_before(monkeypatch: pytest.MonkeyPatch, count: int) -> Iterator[list[str]]:
    """Kill the worker before that many calls of the database and of the store are over."""
    calls: list[str] = []

    def killing(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any) -> Any:
            calls.append(name)
            if len(calls) == count:
                raise KilledError
            return real(*given)

        return call

    with monkeypatch.context() as patched:
        for name in STEPS:
            patched.setattr(archives, name, killing(name, getattr(archives, name)))
        for name in ("put", "get", "delete"):
            patched.setattr(LocalArchives, name, killing(name, getattr(LocalArchives, name)))
        yield calls


@pytest.mark.parametrize("table", [HISTORY, MESSAGES])
def test_a_run_that_is_killed_anywhere_goes_on_and_loses_and_doubles_nothing(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    ours = Factory(database.connect(), database.value("SELECT identity.default_tenant_id()"))
    run = archiving(database, tmp_path / "archives", table, "completed_at" if table == HISTORY else "created_at")
    count, killed = 0, list[str]()
    while len(killed) == count:
        count += 1
        old_tasks(database, 2) if table == HISTORY else old_messages(database, ours, 2)
        before = printed(database, table)
        with killed_before(monkeypatch, count) as calls, suppress(KilledError):
            run.work()
        killed += calls[count - 1 :][:1]
        assert run.archived() | printed(database, table) == before
        assert run.work() is None
        assert (run.archived(), printed(database, table)) == (before, Counter())
        assert len(run.store.keys("")) == sum(1 + len(manifest.files) for manifest in run.manifests())
        run.store.clear(table)
        database.rows("DELETE FROM ops.archives")
    wanted = {"begin", "gather", "copied", "check", "verify", "drop_month", "put", "get"}
    assert {*killed} >= wanted | (set() if table == HISTORY else {"empty", "note", "end_part"})
