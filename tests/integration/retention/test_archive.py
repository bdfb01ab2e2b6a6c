"""What a run archives is in storage, whole and readable, before it has left its table; nothing else goes."""

from collections import Counter
from datetime import date, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from pipelines.retention.archive import parts
from pipelines.retention.archive.manifest import Manifest
from tests.support.archives import (
    EVENTS,
    HISTORY,
    MESSAGES,
    SUBJECTS,
    archiving,
    begun,
    loaded,
    old_messages,
    printed,
    small_pages,
)
from tests.support.database import Database
from tests.support.factory import Factory
from tests.support.months import PAST, RESULTS, hold, old_events, old_tasks

RUN = "SELECT rows_archived::int, rows_deleted::int, partitions_dropped FROM ops.retention_runs"
PAST_OF = "SELECT leaf::text FROM ops.months() WHERE relation = %s::regclass AND until < '2021-01-01'"
COUNT = "SELECT count(*) FROM queue.tasks_history"
OLD_MESSAGE = "2020-02-03 00:00+00"
EXECUTIONS, CONVERSATIONS = "tools.tool_executions", "assistants.conversations"


@pytest.fixture
def ours(database: Database) -> Factory:
    """Makes rows of the default tenant."""
    return Factory(database.connect(), database.value("SELECT identity.default_tenant_id()"))


def test_a_month_of_history_is_archived_and_dropped(database: Database, tmp_path: Path) -> None:
    old_tasks(database, 50)
    before = printed(database, HISTORY)
    run = archiving(database, tmp_path / "archives")
    assert run.work() is None
    assert run.parts() == [("2020-02-01", 1, "emptied", 50, 50, [])]
    assert run.archived() == before
    assert database.rows(RUN) == [(50, 50, ["tasks_history_2020_02"])]
    assert database.rows(PAST) == []
    assert printed(database, HISTORY) == Counter()


def test_the_manifest_says_what_a_part_holds(database: Database, tmp_path: Path) -> None:
    old_tasks(database, 5)
    run = archiving(database, tmp_path / "archives")
    assert run.work() is None
    [manifest] = run.manifests()
    said = manifest.model_dump(include={"table", "month", "part", "rows", "key_columns", "age_column", "tenant_id"})
    assert said == {
        "table": HISTORY, "month": date(2020, 2, 1), "part": 1, "rows": 5, "key_columns": ("id",),
        "age_column": "completed_at", "tenant_id": None,
    }  # fmt: skip
    assert manifest.schema_revision == database.value("SELECT version_num FROM public.alembic_version")
    [file] = manifest.files
    assert file.key == f"{HISTORY}/2020-02/0001-{manifest.archive_id}/00-{HISTORY}-rows.parquet"
    assert (tmp_path / "archives" / file.key).stat().st_size == file.bytes
    assert run.store.keys(HISTORY) == [file.key, file.key.rpartition("/")[0] + "/manifest.json"]
    assert Manifest.decode(manifest.encode(), "a key") == manifest


def test_what_goes_along_and_what_changes_is_in_the_part(database: Database, ours: Factory, tmp_path: Path) -> None:
    [first, *_] = old_messages(database, ours, 3)
    execution = ours.row(EXECUTIONS, message_id=first, message_created_at=OLD_MESSAGE)
    before = printed(database, MESSAGES)
    run = archiving(database, tmp_path / "archives", MESSAGES, "created_at")
    assert run.work() is None
    assert run.archived() == before
    [manifest] = run.manifests()
    links = manifest.files[1]
    assert (links.table, links.kind, links.rows) == (EXECUTIONS, "links", 1)
    assert [each.name for each in links.columns] == ["id", "message_id", "message_created_at", "started_at"]
    assert str(execution["id"]) in loaded(database, run.store, links)[0]
    assert str(first) in loaded(database, run.store, links)[0]
    assert database.rows("SELECT message_id FROM tools.tool_executions") == [(None,)]
    assert database.rows(PAST) == []


def test_rows_of_other_tables_go_with_their_parents(database: Database, ours: Factory, tmp_path: Path) -> None:
    old_events(database, ours, 3)
    before, results = printed(database, EVENTS), printed(database, RESULTS)
    run = archiving(database, tmp_path / "archives", EVENTS, "created_at")
    assert run.work() is None
    [manifest] = run.manifests()
    assert [(file.table, file.kind, file.rows) for file in manifest.files] == [
        (EVENTS, "rows", 3),
        (RESULTS, "rows", 3),
    ]
    assert run.archived() == before
    assert Counter(loaded(database, run.store, manifest.files[1])) == results
    assert printed(database, EVENTS) + printed(database, RESULTS) == Counter()


def test_a_table_without_months_is_emptied_month_by_month(database: Database, ours: Factory, tmp_path: Path) -> None:
    for moment in ("2020-02-03", "2020-02-29 23:59:59.999999+00", "2020-03-01 00:00+00"):
        ours.row(CONVERSATIONS, created_at=moment)
    young = ours.row(CONVERSATIONS)
    before = printed(database, CONVERSATIONS)
    run = archiving(database, tmp_path / "archives", CONVERSATIONS, "created_at")
    assert run.work() is None
    assert run.parts() == [("2020-02-01", 1, "emptied", 2, 2, []), ("2020-03-01", 1, "emptied", 1, 1, [])]
    assert database.rows("SELECT id FROM assistants.conversations") == [(young["id"],)]
    assert run.archived() + printed(database, CONVERSATIONS) == before


def test_a_month_that_is_not_over_before_the_cutoff_stays(database: Database, tmp_path: Path) -> None:
    cutoff = database.value("SELECT now() - interval '1 year'")
    first = database.value("SELECT date_trunc('month', %s, 'UTC')", (cutoff,))
    for moment in (first, first - timedelta(microseconds=1)):
        old_tasks(database, 1, str(moment))
    run = archiving(database, tmp_path / "archives")
    assert run.work() is None
    assert [row[3] for row in run.parts()] == [1]
    assert database.rows("SELECT completed_at FROM queue.tasks_history") == [(first,)]


def test_a_part_has_no_more_rows_than_it_may_and_none_is_lost_between_two(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old_tasks(database, 150)
    before = printed(database, HISTORY)
    run = archiving(database, tmp_path / "archives")
    with small_pages(60):
        assert run.work() is None
    assert all(row[3] <= 60 for row in run.parts())
    assert sum(row[3] for row in run.parts()) == 150
    assert len(run.parts()) > 2
    assert run.archived() == before
    assert database.rows(RUN) == [(150, 150, ["tasks_history_2020_02"])]
    assert parts.MOST_ROWS == 200_000


def test_a_table_of_messages_goes_by_parts_and_pages(database: Database, ours: Factory, tmp_path: Path) -> None:
    old_messages(database, ours, 90)
    before = printed(database, MESSAGES)
    run = archiving(database, tmp_path / "archives", MESSAGES, "created_at")
    with small_pages(50):
        assert run.work() is None
    assert len(run.parts()) > 1
    assert {row[2] for row in run.parts()} == {"emptied"}
    assert run.archived() == before
    assert database.rows(PAST) == []


def test_an_attempt_that_has_no_time_left_is_followed_by_one_that_goes_on(database: Database, tmp_path: Path) -> None:
    old_tasks(database, 80)
    before = printed(database, HISTORY)
    run = archiving(database, tmp_path / "archives")
    tries = 0
    with small_pages(60):
        while (reason := run.work(seconds=0.001)) is not None:
            assert reason == "the attempt's time is up"
            assert run.archived() | printed(database, HISTORY) == before
            tries += 1
    assert tries > 2
    assert run.archived() == before


def test_what_a_hold_keeps_stays_and_is_not_archived(database: Database, ours: Factory, tmp_path: Path) -> None:
    old_tasks(database, 3)
    kept = database.rows(
        "UPDATE queue.tasks_history SET tenant_id = NULL WHERE id IN "
        "(SELECT id FROM queue.tasks_history LIMIT 1) RETURNING id"
    )
    hold(database, HISTORY, "completed_at")
    run = archiving(database, tmp_path / "archives")
    assert run.work() is None
    assert [row[3:5] for row in run.parts()] == [(1, 1)]
    assert str(kept[0][0]) in next(iter(run.archived()))
    assert database.value(COUNT) == 2


def test_a_policy_of_one_tenant_leaves_the_others_rows(database: Database, tmp_path: Path) -> None:
    old_tasks(database, 3)
    database.rows(
        "UPDATE queue.tasks_history SET tenant_id = NULL WHERE id = (SELECT id FROM queue.tasks_history LIMIT 1)"
    )
    tenant: UUID = database.value("SELECT identity.default_tenant_id()")
    run = archiving(database, tmp_path / "archives", tenant_id=tenant)
    assert run.work() is None
    assert database.rows("SELECT tenant_id, row_count FROM ops.archives") == [(tenant, 2)]
    assert database.rows("SELECT tenant_id FROM queue.tasks_history") == [(None,)]


def test_a_filter_leaves_what_it_does_not_speak_of(database: Database, tmp_path: Path) -> None:
    old_tasks(database, 3)
    database.rows(
        "UPDATE queue.tasks_history SET queue = 'other' WHERE id = (SELECT id FROM queue.tasks_history LIMIT 1)"
    )
    run = archiving(database, tmp_path / "archives", given={"queue": "other"})
    assert run.work() is None
    assert database.rows("SELECT queue FROM queue.tasks_history") == [("default",), ("default",)]


def test_a_table_without_rows_leaves_nothing(database: Database, tmp_path: Path) -> None:
    run = archiving(database, tmp_path / "archives", MESSAGES, "created_at")
    assert run.work() is None
    assert run.parts() == []
    assert run.store.keys("") == []


def test_a_run_whose_policy_is_off_stops_and_deletes_nothing(database: Database, tmp_path: Path) -> None:
    old_tasks(database, 3)
    run = archiving(database, tmp_path / "archives")
    database.rows("UPDATE ops.retention_policies SET is_enabled = false WHERE name = %s", (run.run.policy_name,))
    assert run.work() is None
    assert run.parts() == []
    assert database.value(COUNT) == 3


def test_a_month_that_was_brought_back_is_let_be_for_its_time(database: Database, tmp_path: Path) -> None:
    old_tasks(database, 3)
    run = archiving(database, tmp_path / "archives")
    assert run.work() is None
    database.rows("UPDATE ops.archives SET restored_until = now() + interval '1 day'")
    old_tasks(database, 2)
    again = archiving(database, tmp_path / "archives")
    assert again.work() is None
    assert len(again.parts()) == 1
    database.rows("UPDATE ops.archives SET restored_until = now() - interval '1 second'")
    assert again.work() is None
    assert [row[:4] for row in again.parts()] == [("2020-02-01", 1, "emptied", 3), ("2020-02-01", 2, "emptied", 2)]


def test_an_archive_is_found_by_whom_it_speaks_of(database: Database, ours: Factory, tmp_path: Path) -> None:
    client, user = ours.row("assistants.clients")["id"], ours.row("identity.users")["id"]
    database.rows("SELECT ops.create_month(%s::regclass, %s)", (MESSAGES, OLD_MESSAGE))
    for values in ({"client_id": client, "user_id": None}, {"client_id": None, "user_id": user}):
        conversation = ours.row(CONVERSATIONS, **values)["id"]
        for _ in range(2):
            ours.row(MESSAGES, conversation_id=conversation, created_at=OLD_MESSAGE)
    run = archiving(database, tmp_path / "archives", MESSAGES, "created_at")
    assert run.work() is None
    found = {(kind, subject): count for kind, subject, count in database.rows(SUBJECTS)}
    assert found[("client", client)] == 2
    assert found[("user", user)] == 2
    assert found[("tenant", ours.tenant_id)] == 4


def test_a_task_names_its_owner_where_that_is_somebody(database: Database, ours: Factory, tmp_path: Path) -> None:
    old_tasks(database, 2)
    owner = ours.row("identity.users")["id"]
    for kind in ("user", "invoice"):
        database.rows(
            "UPDATE queue.tasks_history SET owner_kind = %s, owner_id = %s WHERE owner_id IS NULL AND id = "
            "(SELECT id FROM queue.tasks_history WHERE owner_id IS NULL LIMIT 1)",
            (kind, owner),
        )
    run = archiving(database, tmp_path / "archives")
    assert run.work() is None
    assert {(kind, count) for kind, _, count in database.rows(SUBJECTS)} == {("tenant", 2), ("user", 1)}
    assert ("user", owner, 1) in database.rows(SUBJECTS)


def test_a_part_that_a_run_of_before_left_is_taken_up(database: Database, tmp_path: Path) -> None:
    old_tasks(database, 3)
    before = printed(database, HISTORY)
    run = archiving(database, tmp_path / "archives")
    parts.write(run.job(), date(2020, 2, 1))
    database.rows("UPDATE ops.retention_runs SET status = 'cancelled', ended_at = now()")
    run.run = begun(database, run.run.policy_name, "completed_at")
    assert run.work() is None
    assert run.parts() == [("2020-02-01", 1, "emptied", 3, 3, [])]
    assert run.archived() == before
    assert printed(database, HISTORY) == Counter()


def test_each_table_that_is_parted_by_months_goes_and_is_in_its_parts(database: Database, tmp_path: Path) -> None:
    ours = Factory(database.connect(), database.value("SELECT identity.default_tenant_id()"))
    parted = database.rows("SELECT relation::text, key::text FROM ops.parted_tables() ORDER BY 1 DESC")
    assert len(parted) >= 11
    old_tasks(database, 2)
    old_events(database, ours, 2)  # with their results
    for table, key in parted:
        if table not in (HISTORY, EVENTS, RESULTS):
            database.rows("SELECT ops.create_month(%s::regclass, %s)", (table, OLD_MESSAGE))
            ours.row(table, **{key: OLD_MESSAGE})
    for table, key in parted:
        [(leaf,)] = database.rows(PAST_OF, (table,))
        before = printed(database, leaf)
        assert before.total() >= 1, table
        run = archiving(database, tmp_path / table, table, key)
        assert run.work() is None, table
        assert run.archived() == before, table
        database.rows("DELETE FROM ops.archives")
    assert database.rows(PAST) == []
