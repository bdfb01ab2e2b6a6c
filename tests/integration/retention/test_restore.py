"""Archived, dropped, restored: a table is what it was, to the byte, with what its rows took along or changed."""

from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from db import restores
from db.embedded import EmbeddedServer
from pipelines.retention.enforce import EnforceRetention
from pipelines.retention.restoring import task as restoring
from pipelines.retention.restoring.task import RestoreArchive
from tests.support.factory import Factory
from tests.support.months import old_tasks
from tests.support.restoring import (
    END_KEEPING,
    EVENTS,
    EXECUTIONS,
    MESSAGES,
    NEXT,
    OLD,
    RESULTS,
    Shelf,
    decision,
    old,
    shelf_of,
    talk,
)
from tests.support.retention_runs import add
from tests.support.tenants import new_tenant

PARTED = "SELECT relation::text, key::text FROM ops.parted_tables() ORDER BY 1"
NOTES = """
SELECT (SELECT count(*) FROM audit.audit_log WHERE tenant_id = %(tenant_id)s),
    (SELECT count(*) FROM audit.audit_events WHERE tenant_id = %(tenant_id)s AND event_type <> 'archive.restored')
"""
COUNTS = "SELECT id, message_count FROM assistants.conversations ORDER BY id"


@pytest.fixture(scope="module")
def crowd(
    server_without_fsync: EmbeddedServer, template_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shelf]:
    """A database in which each parted table has rows of a month that is over."""
    folder = tmp_path_factory.mktemp("archives")
    with shelf_of(server_without_fsync, template_database, folder) as shelf, new_tenant(shelf.database) as ours:
        for table, key in shelf.database.rows(PARTED):
            shelf.make_month(table)
            for number in range(3):
                MAKERS.get(table, lambda ours, at, table=table, key=key: ours.row(table, **{key: at}))(
                    ours, old(number)
                )
        old_tasks(shelf.database)
        talk(ours)
        yield shelf


# What a row of a table asks for beyond its time; tasks are written as they come to their end.
MAKERS: dict[str, Callable[[Factory, datetime], Any]] = {
    EVENTS: decision,
    RESULTS: lambda ours, moment: decision(ours, moment),
    "queue.tasks_history": lambda _ours, _moment: None,
}


def texts(shelf: Shelf) -> dict[str, Any]:
    """Return the old rows of each parted table as a hash, and what conversations count."""
    found: dict[str, Any] = {table: shelf.text_of(table, key) for table, key in shelf.database.rows(PARTED)}
    return found | {"counts": shelf.database.rows(COUNTS)}


# ------------------------------------------------------------------------------------------------ all of it


def test_each_parted_table_is_what_it_was_to_the_byte_however_often_it_is_restored(crowd: Shelf) -> None:
    before = texts(crowd)
    assert min(count for table, (count, _) in before.items() if table != "counts") >= 3
    for table, key in crowd.database.rows(PARTED):
        crowd.archive(table, key)
        assert crowd.text_of(table, key) == (0, None), table
        came = crowd.restored(table)
        assert (came["there"], came["different"], came["refused"]) == (0, 0, {}), table
        assert texts(crowd) == before, table
        again = crowd.restored(table)
        assert (again["restored"], again["links"], again["different"], again["refused"]) == (0, 0, 0, {}), table
        assert again["there"] == came["restored"] + came["links"]


def test_what_was_archived_again_after_its_time_comes_back_once(crowd: Shelf) -> None:
    before = texts(crowd)
    tables = {MESSAGES: "created_at", EXECUTIONS: "started_at", "queue.tasks_history": "completed_at"}
    for table, key in tables.items():
        crowd.archive(table, key)
    assert [crowd.text_of(table, key) for table, key in tables.items()] == [(0, None)] * len(tables)
    for table in tables:
        crowd.restored(table)
    assert crowd.restored(MESSAGES)["links"] == 1, "calls came after the messages that they were of"
    assert texts(crowd) == before


# ------------------------------------------------------------------------------------------------ some of it


@pytest.fixture(scope="module")
def shared(
    server_without_fsync: EmbeddedServer, template_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shelf]:
    """A database in which each test has tenants of its own."""
    with shelf_of(server_without_fsync, template_database, tmp_path_factory.mktemp("archives")) as shelf:
        yield shelf


@pytest.fixture
def ours(shared: Shelf) -> Iterator[Factory]:
    """The maker of a tenant's rows."""
    with new_tenant(shared.database) as factory:
        yield factory


@pytest.fixture
def theirs(shared: Shelf) -> Iterator[Factory]:
    """The maker of another tenant's rows."""
    with new_tenant(shared.database) as factory:
        yield factory


def test_a_tenants_rows_come_back_and_no_others(shared: Shelf, ours: Factory, theirs: Factory) -> None:
    for factory in (ours, theirs):
        decision(factory)
        talk(factory)
    before = {table: shared.of(table, ours.tenant_id) for table in (EVENTS, RESULTS, MESSAGES, EXECUTIONS)}
    for table in (EVENTS, MESSAGES):
        shared.archive(table)
        shared.restored(table, tenant_id=ours.tenant_id)
    assert {table: shared.of(table, ours.tenant_id) for table in before} == before
    assert [shared.of(table, theirs.tenant_id) for table in (EVENTS, RESULTS, MESSAGES)] == [[], [], []]
    calls = "SELECT message_id FROM tools.tool_executions WHERE tenant_id = %s"
    assert shared.database.rows(calls, (theirs.tenant_id,)) == [(None,)]


def test_only_the_months_that_were_asked_for_come_back(shared: Shelf, ours: Factory) -> None:
    for month in (OLD, NEXT):
        talk(ours, month=month)
    shared.archive(MESSAGES, tenant_id=ours.tenant_id)
    assert shared.restored(MESSAGES, since=NEXT, until=date(2020, 3, 31))["restored"] == 3
    assert {created for (created,) in shared.database.rows(
        "SELECT date_trunc('month', created_at, 'UTC') FROM assistants.messages WHERE tenant_id = %s", (ours.tenant_id,)
    )} == {NEXT.replace(day=1)}  # fmt: skip


def test_one_row_comes_back_with_what_went_along_and_what_referred_to_it(shared: Shelf, ours: Factory) -> None:
    event, _ = decision(ours), decision(ours, old(1))
    message, *_ = talk(ours)
    for table in (EVENTS, MESSAGES):
        shared.archive(table, tenant_id=ours.tenant_id)
    assert shared.restored(EVENTS, row_id=str(event["id"]))["restored"] == 3
    came = shared.restored(MESSAGES, row_id=str(message["id"]))
    assert (came["restored"], came["links"]) == (1, 1)
    kept = "SELECT event_id FROM governance.validation_results WHERE tenant_id = %s"
    assert shared.database.rows(kept, (ours.tenant_id,)) == [(event["id"],)] * 2
    assert shared.database.rows(
        "SELECT message_id FROM tools.tool_executions WHERE tenant_id = %s", (ours.tenant_id,)
    ) == [(message["id"],)]


def test_a_row_that_no_archive_holds_is_told(shared: Shelf, ours: Factory) -> None:
    decision(ours)
    shared.archive(EVENTS, tenant_id=ours.tenant_id)
    absent = "00000000-0000-0000-0000-000000000000"
    assert shared.refusal(EVENTS, row_id=absent) == f"no archive of {EVENTS} holds the row {absent}"
    assert "no archive holds such rows of mail.emails" in shared.refusal("mail.emails")


def test_a_conversation_comes_back_with_its_messages_counted_and_its_dates(shared: Shelf, ours: Factory) -> None:
    talk(ours, month=OLD)
    tables = ("assistants.conversations", MESSAGES, EXECUTIONS)
    before = [shared.of(table, ours.tenant_id) for table in tables]
    shared.archive("assistants.conversations", "started_at", tenant_id=ours.tenant_id)
    assert [shared.of(table, ours.tenant_id) for table in tables] == [[], [], []]
    shared.restored("assistants.conversations", tenant_id=ours.tenant_id)
    assert [shared.of(table, ours.tenant_id) for table in tables] == before


def test_what_triggers_would_alter_or_note_comes_back_as_it_was_and_unnoted(shared: Shelf, ours: Factory) -> None:
    session = uuid4()
    ours.row(EVENTS, created_at=old(), agent_session_id=session, agent_type="coder")
    ours.row("governance.agent_sessions", id=session, agent_type="tester")
    ours.row(EXECUTIONS, started_at=old(), status="success")
    before = [shared.of(table, ours.tenant_id) for table in (EVENTS, EXECUTIONS)]
    shared.archive(EVENTS, tenant_id=ours.tenant_id)
    shared.archive(EXECUTIONS, "started_at", tenant_id=ours.tenant_id)
    noted = shared.database.rows(NOTES, {"tenant_id": ours.tenant_id})
    for table in (EVENTS, EXECUTIONS):
        assert shared.restored(table, tenant_id=ours.tenant_id)["restored"] == 1
    assert [shared.of(table, ours.tenant_id) for table in (EVENTS, EXECUTIONS)] == before
    assert shared.database.rows(NOTES, {"tenant_id": ours.tenant_id}) == noted


def test_a_row_that_is_there_with_other_content_is_left_and_counted(shared: Shelf, ours: Factory) -> None:
    first, *_ = talk(ours)
    shared.archive(MESSAGES, tenant_id=ours.tenant_id)
    shared.restored(MESSAGES, tenant_id=ours.tenant_id)
    shared.database.rows("UPDATE assistants.messages SET content = 'mine' WHERE id = %s", (first["id"],))
    came = shared.restored(MESSAGES, tenant_id=ours.tenant_id)
    assert (came["restored"], came["there"], came["different"]) == (
        0,
        3,
        1,
    )  # two messages and the call's link are there
    [(content,)] = shared.database.rows("SELECT content FROM assistants.messages WHERE id = %s", (first["id"],))
    assert content == "mine"


def test_rows_that_a_part_left_behind_are_not_its_own(shared: Shelf, ours: Factory) -> None:
    decision(ours)
    decision(ours, old(1))
    shared.archive(EVENTS, tenant_id=ours.tenant_id)
    left = (
        "UPDATE ops.archives SET left_behind = '{0}' "
        "WHERE id = (SELECT archive_id FROM ops.archive_subjects WHERE subject_id = %s)"
    )
    shared.database.rows(left, (ours.tenant_id,))
    assert shared.restored(EVENTS, tenant_id=ours.tenant_id)["restored"] == 3
    assert [len(shared.of(table, ours.tenant_id)) for table in (EVENTS, RESULTS)] == [1, 2]


# ------------------------------------------------------------------------------------------------ beside runs; killed


def test_runs_leave_what_was_restored_alone_for_as_long_as_was_said(shared: Shelf, ours: Factory) -> None:
    talk(ours)
    before = shared.of(MESSAGES, ours.tenant_id)
    shared.archive(MESSAGES, tenant_id=ours.tenant_id)
    shared.restored(MESSAGES, tenant_id=ours.tenant_id, keep="P2D")
    shared.archive(MESSAGES, tenant_id=ours.tenant_id, is_kept=True)
    assert shared.of(MESSAGES, ours.tenant_id) == before
    left = shared.database.value(
        "SELECT a.restored_until - now() FROM ops.archives a JOIN ops.archive_subjects s ON s.archive_id = a.id "
        "WHERE s.subject_id = %s",
        (ours.tenant_id,),
    )
    assert timedelta(hours=47) < left < timedelta(hours=48)


@pytest.mark.parametrize("action", ["delete", "drop_partition"])
def test_other_policies_leave_what_was_restored_alone_too(shared: Shelf, ours: Factory, action: str) -> None:
    ours.row(EXECUTIONS, started_at=old())
    shared.archive(EXECUTIONS, "started_at", tenant_id=ours.tenant_id)
    shared.restored(EXECUTIONS, tenant_id=ours.tenant_id)
    shared.database.rows("DELETE FROM ops.retention_policies WHERE name = %s", (f"archive {EXECUTIONS}",))
    policy = add(shared.database, EXECUTIONS, "started_at", action=action)
    assert shared.run(EnforceRetention(policies=(policy,)))["status"] == "done"
    assert len(shared.of(EXECUTIONS, ours.tenant_id)) == 1
    shared.database.rows(END_KEEPING)
    assert shared.run(EnforceRetention(policies=(policy,)))["status"] == "done"
    assert shared.of(EXECUTIONS, ours.tenant_id) == []
    shared.database.rows("DELETE FROM ops.retention_policies WHERE name = %s", (policy,))
    shared.make_month(EXECUTIONS)


def test_a_restore_that_is_killed_at_each_page_goes_on_where_it_was(
    shared: Shelf, ours: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        talk(ours, 5)
    decision(ours)
    decision(ours, NEXT)
    tables = (MESSAGES, EXECUTIONS, EVENTS, RESULTS)
    before = [shared.of(table, ours.tenant_id) for table in tables]
    monkeypatch.setattr(restoring, "_MOST", 2)
    for table, rows, links in ((MESSAGES, 10, 2), (EVENTS, 6, 0)):
        shared.archive(table, tenant_id=ours.tenant_id)
        deaths = dying(monkeypatch)
        asked = RestoreArchive(table=table, tenant_id=ours.tenant_id)
        came = shared.run(asked, max_attempts=100)["result"]
        assert came == {"restored": rows, "links": links, "there": 0, "different": 0, "refused": {}}
        assert len(deaths) >= (rows + links) // 2
    assert [shared.of(table, ours.tenant_id) for table in tables] == before


def dying(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Have each page fail once it is written and before its transaction ends; the next attempt takes it."""
    deaths: list[int] = []
    calls = iter(range(1_000))

    def write_page(*arguments: Any) -> restores.Written | None:
        came = REAL(*arguments)
        if (number := next(calls)) % 2 == 0:
            deaths.append(number)
            raise ConnectionError("killed")
        return came

    monkeypatch.setattr(restores, "write_page", write_page)
    return deaths


REAL = restores.write_page


def test_a_restore_leaves_one_event_with_counts_and_no_contents(shared: Shelf, ours: Factory) -> None:
    talk(ours)
    shared.archive(MESSAGES, tenant_id=ours.tenant_id)
    shared.restored(MESSAGES, tenant_id=ours.tenant_id)
    [(told, kind, thing, metadata)] = shared.database.rows(
        "SELECT description, resource_type, resource_id, metadata FROM audit.audit_events "
        "WHERE event_type = 'archive.restored' AND tenant_id = %s", (ours.tenant_id,)
    )  # fmt: skip
    assert (told, kind, thing) == ("3 rows of assistants.messages restored", "table", MESSAGES)
    assert metadata == {
        "tenant_id": str(ours.tenant_id), "keep": "P30D", "without": [], "restored": 3, "links": 1, "there": 0,
        "different": 0, "refused": {},
    }  # fmt: skip
