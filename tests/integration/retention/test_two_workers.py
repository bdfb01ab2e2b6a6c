"""Two workers at one run, one of which has lost its lease without knowing: no archived row is lost between them."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from db import archives, retention_runs
from pipelines.retention.archive import parts
from pipelines.retention.archive.errors import ChangedArchiveError
from tests.support.archives import HISTORY, MESSAGES, Archiving, archiving, old_messages, printed, small_pages
from tests.support.database import Database
from tests.support.factory import Factory
from tests.support.forgetting import ERASURES
from tests.support.months import old_tasks
from tests.support.retention_runs import add, enforced, hold
from tests.support.waiting import eventually

SESSIONS, INTERACTIONS = "governance.agent_sessions", "governance.agent_interactions"
MONTH = date(2020, 2, 1)
RUNS = "SELECT policy_name FROM ops.retention_runs WHERE rows_deleted > 0"


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
    assert len(run.store.keys("")) == 2


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


def test_a_deletion_that_looks_at_the_past_is_followed_up_whatever_it_sees(database: Database, tmp_path: Path) -> None:
    ours = Factory(database.connect(), database.value("SELECT identity.default_tenant_id()"))
    person = ours.row("people.persons")["id"]
    old_messages(database, ours, 3)
    run = archiving(database, tmp_path / "archives", MESSAGES, "created_at")
    with psycopg.connect(database.owner_url) as owner:
        owner.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        owner.execute("SELECT FROM ops.archives")
        archives.begin(run.connection, run.run.id, MONTH)
        owner.execute("DELETE FROM people.persons WHERE id = %s", (person,))
    assert len(database.rows(ERASURES)) == 1


SLOW = """
CREATE FUNCTION public.waits() RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(42);
    RETURN true;
END
$$;
CREATE POLICY slow ON governance.agent_sessions AS RESTRICTIVE FOR UPDATE TO greenroom_owner USING (public.waits())
"""
WAITS = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 42 AND NOT granted"


def test_a_held_row_that_comes_while_a_page_is_chosen_keeps_what_it_refers_to(database: Database) -> None:
    ours = Factory(database.connect(), database.value("SELECT identity.default_tenant_id()"))
    database.rows("DELETE FROM ops.retention_policies")
    add(database, SESSIONS)
    hold(database, INTERACTIONS)
    kept, gone = (ours.row(SESSIONS, created_at="2020-02-03")["id"] for _ in "ab")
    with psycopg.connect(database.superuser_url, autocommit=True) as other, ThreadPoolExecutor() as beside:
        other.execute(SLOW)
        other.execute("SELECT pg_advisory_lock(42)")
        enforcing = beside.submit(enforced, database)
        eventually(lambda: other.execute(WAITS).fetchone() == (1,))
        ours.row(INTERACTIONS, agent_session_id=kept)
        other.execute("SELECT pg_advisory_unlock(42)")
        assert enforcing.result().outcome == "done"
    assert database.rows("SELECT id FROM governance.agent_sessions") == [(kept,)]
    assert gone != kept


DEEPLY = """
CREATE FUNCTION public.waits() RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(42);
    RETURN true;
END
$$;
CREATE POLICY slow ON identity.users AS RESTRICTIVE FOR DELETE TO greenroom_owner USING (public.waits())
"""


def test_a_held_row_that_comes_below_while_a_page_goes_is_not_taken_along(database: Database) -> None:
    ours = Factory(database.connect(), database.value("SELECT identity.default_tenant_id()"))
    database.rows("DELETE FROM ops.retention_policies")
    add(database, "identity.users")
    hold(database, INTERACTIONS)
    user = ours.row("identity.users", created_at="2020-02-03")["id"]
    session = ours.row(SESSIONS, user_id=user, session_id=None)["id"]
    with psycopg.connect(database.superuser_url, autocommit=True) as other, ThreadPoolExecutor() as beside:
        other.execute(DEEPLY)
        other.execute("SELECT pg_advisory_lock(42)")
        enforcing = beside.submit(enforced, database)
        eventually(lambda: other.execute(WAITS).fetchone() == (1,))
        ours.owner.execute("SET lock_timeout = '300ms'")
        # what is to go is locked to its end, so that nothing comes to refer to it
        with pytest.raises(psycopg.errors.LockNotAvailable):
            ours.row(INTERACTIONS, agent_session_id=session)
        other.execute("SELECT pg_advisory_unlock(42)")
        assert enforcing.result().outcome == "done"
    assert database.rows("SELECT id FROM identity.users WHERE id = %s", (user,)) == []


def test_an_attempt_makes_way_where_tasks_wait_and_goes_on_later(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = Factory(database.connect(), database.value("SELECT identity.default_tenant_id()"))
    database.rows("DELETE FROM ops.retention_policies")
    for table in (SESSIONS, "identity.users"):
        add(database, table)
    ours.row(SESSIONS, created_at="2020-02-03", user_id=ours.row("identity.users", created_at="2020-02-03")["id"])
    ours.row("identity.users", created_at="2020-02-03")
    monkeypatch.setattr(retention_runs, "waiting_seconds", lambda connection, own_queue: 5.0)
    left = "SELECT count(*) FROM governance.agent_sessions UNION ALL SELECT count(*) FROM identity.users"
    assert (enforced(database).outcome, len(database.rows(RUNS))) == ("snooze", 1), (
        "one page, and the other policy waits"
    )
    assert (enforced(database).outcome, len(database.rows(RUNS))) == ("snooze", 2)
    assert database.rows(left) == [(0,), (0,)]


def test_a_policy_that_takes_more_since_its_run_began_asks_again(database: Database) -> None:
    ours = Factory(database.connect(), database.value("SELECT identity.default_tenant_id()"))
    database.rows("DELETE FROM ops.retention_policies")
    policy = add(database, SESSIONS, most_share=0.5, filter={"status": "completed"})
    for _ in range(3):
        ours.row(SESSIONS, created_at="2020-02-03")
    system = database.connect("system")
    task = uuid4()
    run, _ = retention_runs.begin(system, policy, task, is_confirmed=False)
    assert run is not None
    assert retention_runs.weigh(system, run)
    database.rows("UPDATE ops.retention_policies SET filter = '{}' WHERE name = %s", (policy,))
    assert not retention_runs.weigh(system, run)
    assert retention_runs.begin(system, policy, task, is_confirmed=True) == (run, "running")
    assert retention_runs.weigh(system, run)
    database.rows("UPDATE ops.retention_policies SET description = 'x' WHERE name = %s", (policy,))
    assert not retention_runs.weigh(system, run)
