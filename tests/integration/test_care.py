"""What looks after tables and indexes does it beside the work, says what it could not do, and leaves nothing behind."""

import os
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta

import psycopg
import pytest

from core.errors import PermanentError, UnavailableError
from db import maintenance
from db.queue import Capacity
from db.spaces import create_space
from pipelines.care import indexes, rounds, tables
from pipelines.care.indexes import RebuildIndexes
from pipelines.care.tables import AnalyzeTables, VacuumTables
from pipelines.enqueue import enqueue
from pipelines.registry import Registry
from tests.support.care import CLAIM, FILES, INVALID, leave_behind, let_maintain, old_snapshot
from tests.support.database import Database
from tests.support.engine import Line, claim_from
from tests.support.months import HISTORY, OLD, old_tasks
from tests.support.tasks import TASKS as WORK
from tests.support.tasks import Noop
from tests.support.waiting import eventually
from workers.testing import TaskRun, run_task

VACUUM, ANALYZE = tables.TASKS
[REBUILD] = indexes.TASKS
ALL = RebuildIndexes(least_bytes=0)
MONTH, LOG = f"{HISTORY}_2020_02", "audit.audit_log_2020_02"
FILL = """
INSERT INTO audit.audit_log (table_schema, table_name, record_id, operation, changed_at)
SELECT 'a', 'b', n, 'INSERT', %s FROM generate_series(1, 5000) AS n
"""
VACUUMED = "SELECT vacuum_count, analyze_count, n_dead_tup FROM pg_stat_all_tables WHERE relid = %s::regclass"
PARTED = """
SELECT count(*) FROM ops.kept_tables() WHERE is_parted AND EXISTS (SELECT FROM pg_inherits WHERE inhparent = relation)
"""


@pytest.fixture
def live_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """One hot table."""
    monkeypatch.setattr(indexes, "HOT", ("queue.tasks_live",))


@pytest.fixture
def kept(database: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    """A database whose system role may look after it."""
    let_maintain(database, monkeypatch)
    return database


def ran(database: Database, payload: VacuumTables | AnalyzeTables | RebuildIndexes) -> TaskRun:
    """Run the task's handler once."""
    of = {task.name: task for task in (VACUUM, ANALYZE, REBUILD)}
    return run_task(database, of[payload.task_type], payload)


def month_alone(database: Database) -> int:
    """Fill a month; return its size, which no other table has."""
    database.rows("SELECT ops.create_month('audit.audit_log', %s)", (OLD,))
    database.rows(FILL, (OLD,))
    return int(database.value("SELECT pg_total_relation_size(%s)", (LOG,)))


def file_of(database: Database, index: str) -> int:
    return int(database.value("SELECT relfilenode FROM pg_class WHERE oid = %s::regclass", (index,)))


@contextmanager
def locked(database: Database, table: str, mode: str = "SHARE UPDATE EXCLUSIVE") -> Iterator[None]:
    """Somebody else who vacuums a table, or changes it."""
    connection = database.connect()
    with connection.transaction():
        connection.execute(f"LOCK TABLE {table} IN {mode} MODE".encode())
        yield


def rebuilders(database: Database) -> list[int]:
    """Return the backends that rebuild an index; what others do is for a superuser to see."""
    query = "SELECT pid FROM pg_stat_activity WHERE query ^@ 'REINDEX' AND state = 'active' AND datname = %s"
    with psycopg.connect(database.superuser_url) as superuser:
        return [pid for (pid,) in superuser.execute(query, (database.name,)).fetchall()]


# ------------------------------------------------------------------------------------------------ tables


def test_dead_rows_of_all_tables_go_months_and_spaces_too(kept: Database) -> None:
    old_tasks(kept, 50)
    create_space(kept.connect(), model="m", revision="1", dimensions=4, max_tokens=100)
    kept.rows("DELETE FROM queue.outbox_tasks WHERE task_type = 'old'")
    space = kept.value(
        "SELECT max(inhrelid::regclass::text) FROM pg_inherits WHERE inhparent = 'knowledge.chunk_vectors'::regclass"
    )
    run = ran(kept, VacuumTables(least_bytes=0))
    assert run.outcome == "done", run.error
    count = "SELECT count(*) FROM ops.kept_tables() WHERE NOT is_parted"
    assert run.result["done"] == kept.value(count)
    assert kept.rows(VACUUMED, (space,)) == [(1, 1, 0)]
    assert kept.rows(VACUUMED, (MONTH,))[0][:2] == (1, 1)

    def is_empty() -> bool:  # who connects just then may keep dead rows for a moment
        ran(kept, VacuumTables(least_bytes=0))
        return bool(kept.value("SELECT pg_relation_size(%s)", (MONTH,)) == 0)

    eventually(is_empty)
    assert kept.rows(VACUUMED, (MONTH,))[0][2] == 0


def test_what_is_small_is_left_to_autovacuum(kept: Database) -> None:
    size = month_alone(kept)
    assert ran(kept, VacuumTables(least_bytes=size)).result["done"] == 1
    assert ran(kept, VacuumTables(least_bytes=size + 100_000)).result["done"] == 0
    assert kept.rows(VACUUMED, (LOG,))[0][:2] == (1, 1)


def test_after_a_kill_what_was_vacuumed_since_the_task_was_asked_for_is_not_again(kept: Database) -> None:
    least = month_alone(kept)
    line = Line(kept, Registry([VACUUM]))
    task_id = enqueue(kept.connect(), VacuumTables(least_bytes=least))
    kept.rows(f"VACUUM (ANALYZE) {LOG}")
    line.run_once()
    assert line.task(task_id)["result"]["done"] == 0
    assert kept.rows(VACUUMED, (LOG,))[0][0] == 1
    line.close()


def test_a_table_that_is_locked_is_allowed_the_next_time_and_keeps_no_other(database: Database) -> None:
    if database.connect().info.server_version < 170000:
        with pytest.raises(PermanentError):
            maintenance.allow(database.connect("system"))
        return
    ask = "SELECT has_table_privilege('greenroom_system', %s, 'MAINTAIN')"
    allowed = [(table,) for table in ("mail.folders", "mail.mailboxes")]
    system = database.connect("system")
    with locked(database, "mail.folders", "ACCESS EXCLUSIVE"):
        maintenance.allow(system)
        assert [database.value(ask, table) for table in allowed] == [False, True]
    maintenance.allow(system)
    assert [database.value(ask, table) for table in allowed] == [True, True]


@pytest.mark.parametrize("payload", [VacuumTables(least_bytes=10**12), RebuildIndexes(least_bytes=10**12)])
def test_a_table_that_somebody_keeps_from_everybody_is_in_use(
    kept: Database, payload: VacuumTables | RebuildIndexes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "LOCK_SECONDS", 0.1)
    kept.connect().execute("SELECT ops.allow_maintenance()")
    with locked(kept, "mail.folders", "ACCESS EXCLUSIVE"):
        run = ran(kept, payload)
    assert run.outcome == "snooze"
    assert (run.error or "").startswith("in use: mail.folders")


def test_a_table_that_somebody_holds_is_tried_again_and_named_when_it_stays_so(
    kept: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "_PAUSE", timedelta(0))
    monkeypatch.setattr(rounds, "_ROUNDS", 1)
    payload = VacuumTables(least_bytes=month_alone(kept))
    line = Line(kept, Registry([VACUUM]))
    first, second = (enqueue(kept.connect(), payload) for _ in range(2))
    with locked(kept, LOG):
        line.run_once()
        assert line.task(first)["status"] == "pending"
        assert line.task(first)["last_error"].startswith(f"in use: {LOG} (skipping vacuum of")
        line.run_once()
        assert line.task(first)["status"] == "failed"
        assert f"0 done, 1 not: {LOG} (" in line.task(first)["last_error"]
        enqueue(kept.connect(), payload)
    line.run_once()
    assert line.task(second)["status"] == "failed", "its own rounds were over"
    assert kept.rows(
        "SELECT status, result ->> 'done' FROM queue.outbox_tasks WHERE task_type = 'tables.vacuum' ORDER BY id"
    )[-1] == ("done", "1")
    line.close()


def test_what_somebody_else_vacuumed_while_it_waited_is_done(kept: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "_PAUSE", timedelta(0))
    line = Line(kept, Registry([VACUUM]))
    task_id = enqueue(kept.connect(), VacuumTables(least_bytes=month_alone(kept)))
    with locked(kept, LOG):
        line.run_once()
    kept.rows(f"VACUUM (ANALYZE) {LOG}")
    line.run_once()
    assert (line.task(task_id)["status"], line.task(task_id)["result"]["done"]) == ("done", 0)
    assert kept.rows(VACUUMED, (LOG,))[0][0] == 1
    line.close()


@pytest.mark.usefixtures("live_alone")
def test_a_vacuum_without_rights_is_a_failure_and_no_success(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server warns, skips, and ends as if it had vacuumed."""
    monkeypatch.setattr(maintenance, "allow", lambda connection: None)
    run = ran(database, VacuumTables(least_bytes=month_alone(database)))
    assert run.status == "failed"
    assert f"0 done, 1 not: {LOG} (permission denied to vacuum" in (run.error or "")
    assert "as their owner" in (run.error or "")
    run = ran(database, AnalyzeTables())
    assert (run.status, "permission denied to analyze" in (run.error or "")) == ("failed", True)
    run = ran(database, ALL)
    assert (run.status, f"{CLAIM} (" in (run.error or "")) == ("failed", True)


def test_before_postgres_17_the_owner_alone_may_and_the_task_says_so(database: Database) -> None:
    run = ran(database, VacuumTables())
    if database.connect().info.server_version < 170_000:
        assert run.status == "failed"
        assert "PostgreSQL 16 lets none but the owner vacuum" in (run.error or "")
    else:
        assert run.outcome == "done"


def test_parted_tables_are_analysed_which_autovacuum_does_not(kept: Database) -> None:
    old_tasks(kept, 50)
    known = "SELECT reltuples FROM pg_class WHERE oid = 'queue.tasks_history'::regclass"
    assert kept.value(known) == -1
    run = ran(kept, AnalyzeTables())
    assert run.outcome == "done", run.error
    assert run.result["done"] == kept.value(PARTED)
    assert kept.value(known) == 50
    [(_, analysed, _)] = kept.rows(VACUUMED, (MONTH,))
    assert analysed == (0 if kept.connect().info.server_version >= 180_000 else 2)


# ------------------------------------------------------------------------------------------------ indexes


def test_indexes_of_hot_tables_are_rebuilt_and_no_others(kept: Database) -> None:
    before, others = dict(kept.rows(FILES, ("queue.tasks_live",))), dict(kept.rows(FILES, ("mail.emails",)))
    run = ran(kept, RebuildIndexes(least_bytes=0))
    assert run.outcome == "done", run.error
    after = dict(kept.rows(FILES, ("queue.tasks_live",)))
    assert before.keys() == after.keys()
    assert all(after[name] != file for name, file in before.items())
    assert dict(kept.rows(FILES, ("mail.emails",))) == others
    assert ran(kept, RebuildIndexes(least_bytes=10_000_000)).result == {"done": 0, "bytes_freed": 0}


def test_each_hot_table_is_there_or_comes_with_schedules(database: Database) -> None:
    there = {name for (name,) in database.rows("SELECT relation::text FROM ops.kept_tables()")}
    assert set(indexes.HOT) - there <= {"queue.schedules"}


def test_what_a_broken_off_rebuild_left_behind_goes_first(kept: Database) -> None:
    left = leave_behind(kept)
    assert left.endswith("_ccnew")
    run = ran(kept, RebuildIndexes(least_bytes=2**50))
    assert (run.outcome, run.result["done"]) == ("done", 0), run.error
    assert kept.rows(INVALID) == []


def test_what_is_left_behind_in_a_table_that_is_in_use_waits(kept: Database) -> None:
    left = leave_behind(kept)
    reader = kept.connect("operator")
    with reader.transaction():
        reader.execute("SELECT count(*) FROM queue.outbox_tasks")
        run = ran(kept, RebuildIndexes(least_bytes=2**50))
        assert (run.outcome, run.status) == ("snooze", "pending")
    assert kept.rows(INVALID) == [(left,)]


@pytest.mark.usefixtures("live_alone")
def test_a_rebuild_that_fails_leaves_the_old_index_and_nothing_else(
    kept: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "LOCK_SECONDS", 0.1)
    monkeypatch.setattr(rounds, "_ROUNDS", 0)
    before = kept.rows(FILES, ("queue.tasks_live",))
    with old_snapshot(kept):
        run = ran(kept, ALL)
    assert run.status == "failed"
    assert f"{CLAIM} (canceling statement due to lock timeout)" in (run.error or "")
    assert "their old ones serve on" in (run.error or "")
    assert sorted(kept.rows(FILES, ("queue.tasks_live",))) == sorted(before)
    assert kept.rows(INVALID) == []


class Rebuilding:
    """`indexes.rebuild` in a thread, which has come to wait for a transaction at the live table's first index."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.line = Line(database, Registry([REBUILD]))
        self.task_id = enqueue(database.connect(), ALL)
        self._thread = threading.Thread(target=self.line.run_once)

    def __enter__(self) -> "Rebuilding":
        self._thread.start()
        eventually(lambda: self._database.rows(INVALID) != [])
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()

    def again(self) -> str:
        """Run the task once more, and no more; return its status."""
        self.line.run_once()
        status = str(self.line.task(self.task_id)["status"])
        self.line.close()
        return status


@pytest.mark.usefixtures("live_alone")
def test_claims_go_on_while_the_live_table_s_index_is_rebuilt(kept: Database) -> None:
    line = Line(kept, Registry(WORK))
    wanted = Capacity("default", 1e9, ["test.noop"], [1], [100])
    relay, producer = kept.connect("relay"), kept.connect("producer")
    for connection in (relay, producer):
        connection.execute("SET lock_timeout = '150ms'")
    before = file_of(kept, CLAIM)

    def one() -> None:
        enqueue(producer, Noop())
        assert line.run(claim_from(relay, wanted)) == 1

    one()  # plans are prepared with the old index
    with old_snapshot(kept) as blocker, Rebuilding(kept) as rebuilding:
        for _ in range(5):
            one()
        assert file_of(kept, CLAIM) == before, "the old one serves meanwhile"
        blocker.execute("COMMIT")
        blocker.execute("BEGIN")
    assert rebuilding.again() == "done"
    assert file_of(kept, CLAIM) != before
    reads = "SELECT idx_scan FROM pg_stat_all_indexes WHERE indexrelid = %s::regclass"
    scans = kept.value(reads, (CLAIM,))
    one()
    relay.execute("SELECT pg_stat_force_next_flush()")
    eventually(lambda: kept.value(reads, (CLAIM,)) > scans)
    line.close()


@pytest.mark.usefixtures("live_alone")
def test_a_rebuild_whose_session_is_killed_is_begun_again_without_leftovers(kept: Database) -> None:
    with old_snapshot(kept) as blocker, Rebuilding(kept) as rebuilding:
        with psycopg.connect(kept.superuser_url, autocommit=True) as superuser:
            superuser.execute("SELECT pg_terminate_backend(%s)", rebuilders(kept))
        eventually(lambda: rebuilding.line.task(rebuilding.task_id)["last_error"] is not None)
        blocker.execute("COMMIT")
        blocker.execute("BEGIN")
    assert kept.rows(INVALID) != []
    kept.rows("UPDATE queue.tasks_live SET run_after = now() - interval '1 s'")
    before = file_of(kept, CLAIM)
    assert rebuilding.again() == "done"
    assert (kept.rows(INVALID), file_of(kept, CLAIM) != before) == ([], True)


def test_a_statement_ends_soon_after_its_client_did(kept: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance, "CHECK_SECONDS", 0.1)
    connection = kept.connect("system")
    maintenance.allow(connection)

    def rebuild() -> maintenance.Ended:
        with maintenance.session(connection, 60.0):
            return maintenance.rebuild(connection, CLAIM)

    with ThreadPoolExecutor(1) as pool, old_snapshot(kept):
        ended = pool.submit(rebuild)
        eventually(lambda: kept.rows(INVALID) != [])
        assert len(rebuilders(kept)) == 1
        with socket.socket(fileno=os.dup(connection.fileno())) as line:
            line.shutdown(socket.SHUT_RDWR)
        assert isinstance(ended.exception(), UnavailableError)
        eventually(lambda: rebuilders(kept) == [])
