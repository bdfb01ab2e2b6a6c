"""An erasure of archives that is killed, that waits, that is held, or that another is at the same part with."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from core.errors import UnavailableError
from db import archives, forgetting
from db.connection import Connection, tenant_transaction
from pipelines.enqueue import enqueue
from pipelines.retention.archive import archiving as archiving_module
from pipelines.retention.archive import parts
from pipelines.retention.archive.store import LocalArchives
from pipelines.retention.forgetting import EraseArchives
from tests.support.archives import Archiving, archiving, printed, small_pages
from tests.support.database import Database
from tests.support.factory import Factory
from tests.support.forgetting import ERASURES, FailingArchives, astray, known, rows_of, subjects, traces, unlike, work
from tests.support.tenants import new_tenant

OLD = "2020-02-03 00:00+00"
OBSERVATIONS, PERSONS = "people.observations", "people.persons"
LATE = """
INSERT INTO queue.outbox_tasks (task_type, payload, run_after) VALUES ('test.late', '{}', '2099-01-01') RETURNING id
"""
AGAIN = "UPDATE queue.tasks_live SET run_after = now(), is_due = true"
OBSERVE = """
INSERT INTO people.observations (tenant_id, person_id, observation_type, content, created_at)
SELECT %s, CASE WHEN n BETWEEN 100 AND 199 THEN %s::uuid ELSE %s END, %s, '{}', '2020-02-03 00:00+00'
FROM generate_series(0, 299) AS n RETURNING id
"""
MANY = """
INSERT INTO ops.archives (policy_name, table_schema, table_name, month, part, status, schema_revision, manifest_key,
    manifest_sha256, since, until, verified_at, emptied_at)
SELECT 'p', 's', 't', '2020-01-01', n, 'emptied', 'r', 'k', repeat('0', 64), now(), now(), now(), now()
FROM generate_series(1, 5000) AS n
"""
OVER = "UPDATE ops.retention_runs SET status = 'completed', ended_at = now()"


@pytest.fixture
def store(tmp_path: Path) -> LocalArchives:
    return LocalArchives(tmp_path / "archives")


@pytest.fixture
def ours(database: Database) -> Iterator[Factory]:
    with new_tenant(known(database)) as factory:
        yield factory


@pytest.fixture
def zaphod(ours: Factory) -> UUID:
    """A person with an old observation; another one has one, too."""
    both: list[UUID] = [ours.row(PERSONS)["id"] for _ in range(2)]
    for person in both:
        ours.row(OBSERVATIONS, person_id=person, created_at=OLD)
    return both[0]


def observed(database: Database, store: LocalArchives) -> Archiving:
    """Archive observations, by a run that is over then."""
    run = archiving(database, store, OBSERVATIONS, "created_at")
    assert run.work() is None
    database.rows(OVER)
    return run


def delete(database: Database, ours: Factory, person: UUID) -> None:
    """Delete a person as a product does."""
    with tenant_transaction(database.connect("worker"), ours.tenant_id) as worker:
        worker.execute("DELETE FROM people.persons WHERE id = %s", (person,))


def last(ends: list[tuple[str, str, str | None]]) -> str:
    """Return how the last one ended."""
    return ends[-1][1]


# ------------------------------------------------------------------------------------------------ killed


# the manifest and the file are read, the file is put and read, the manifest is put and read, then the old two go
@pytest.mark.parametrize("after", range(8))
def test_wherever_it_is_killed_a_part_is_whole_and_nothing_is_left_over(
    database: Database, ours: Factory, zaphod: UUID, store: LocalArchives, tmp_path: Path, after: int
) -> None:
    run = observed(database, store)
    before = rows_of(run)
    left = {text: 1 for text in before if str(zaphod) not in text}
    delete(database, ours, zaphod)
    failing = FailingArchives(tmp_path / "archives", after)
    work(database, failing, tmp_path)
    assert failing.left == -1, "it failed"
    assert rows_of(run) in (before, left)
    database.rows(AGAIN)
    assert last(work(database, failing, tmp_path)) == "done"
    assert rows_of(run) == left
    assert traces(store, zaphod) == {}
    assert astray(database, store) == set()


def test_what_was_written_and_not_put_in_place_is_removed(
    database: Database,
    ours: Factory,
    zaphod: UUID,
    store: LocalArchives,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = observed(database, store)
    before = rows_of(run)
    delete(database, ours, zaphod)

    def killed(*_: Any) -> bool:
        raise RuntimeError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(forgetting, "swap", killed)
        work(database, store, tmp_path)
    assert rows_of(run) == before
    assert len(astray(database, store)) == 2
    database.rows(AGAIN)
    assert last(work(database, store, tmp_path)) == "done"
    assert astray(database, store) == set()


def test_whoever_is_second_at_a_part_looks_again(
    database: Database,
    ours: Factory,
    zaphod: UUID,
    store: LocalArchives,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between the look and the change another erasure changes the part: neither person is left."""
    run = observed(database, store)
    ford = database.value("SELECT id FROM people.persons WHERE id <> %s", (zaphod,))
    delete(database, ours, zaphod)
    swap, late = forgetting.swap, [ford]

    def second(connection: Connection, *others: Any) -> bool:
        if late:
            late.clear()
            with database.connect("system").transaction():
                enqueue(database.connect("operator"), EraseArchives(kind="person", id=ford), priority=100)
            database.rows("UPDATE ops.archives SET manifest_key = manifest_key || '.'")
            is_swapped = swap(connection, *others)
            database.rows("UPDATE ops.archives SET manifest_key = rtrim(manifest_key, '.')")
            return is_swapped
        return swap(connection, *others)

    monkeypatch.setattr(forgetting, "swap", second)
    work(database, store, tmp_path)
    assert traces(store, zaphod, ford) == {}
    assert rows_of(run) == {}
    assert astray(database, store) == set()


# ------------------------------------------------------------------------------------------------ at the same moment


def test_a_part_that_is_being_written_is_waited_for(
    database: Database,
    ours: Factory,
    zaphod: UUID,
    store: LocalArchives,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Somebody is deleted when the rows are read and nobody knows yet whose they are."""
    run = archiving(database, store, OBSERVATIONS, "created_at")
    database.rows("UPDATE ops.retention_runs SET task_id = %s", (database.value(LATE),))
    verify = archives.verify

    def meanwhile(*given: Any) -> None:
        delete(database, ours, zaphod)
        assert subjects(database, "person", zaphod) == []
        assert work(database, store, tmp_path) == []
        assert "an archive is being written" in database.value(WAITS)
        verify(*given)

    monkeypatch.setattr(archives, "verify", meanwhile)
    run.work()
    monkeypatch.undo()
    assert traces(store, zaphod)
    database.rows(AGAIN + " WHERE task_type = 'archive.erase'")
    work(database, store, tmp_path)
    database.rows(OVER)
    database.rows(AGAIN + " WHERE task_type = 'archive.erase'")
    assert last(work(database, store, tmp_path)) == "done"
    assert traces(store, zaphod) == {}
    assert astray(database, store) == set()


WAITS = "SELECT error FROM queue.attempts ORDER BY ended_at DESC LIMIT 1"


def test_a_part_that_nobody_goes_on_with_is_forgotten(
    database: Database,
    ours: Factory,
    zaphod: UUID,
    store: LocalArchives,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = archiving(database, store, OBSERVATIONS, "created_at")

    def killed(*_: Any) -> None:
        raise UnavailableError("killed")

    monkeypatch.setattr(parts, "_note", killed)
    with pytest.raises(UnavailableError):
        run.work()
    assert traces(store, zaphod)
    delete(database, ours, zaphod)
    assert last(work(database, store, tmp_path)) == "done"
    assert store.keys("") == []
    assert database.rows("SELECT 1 FROM ops.archives") == []
    assert database.value("SELECT count(*) FROM people.observations") == 1


def test_an_archive_begins_when_deletions_that_saw_none_are_over(
    database: Database, ours: Factory, zaphod: UUID, store: LocalArchives
) -> None:
    run = archiving(database, store, OBSERVATIONS, "created_at")
    with tenant_transaction(database.connect("worker"), ours.tenant_id) as worker:
        worker.execute("DELETE FROM people.persons WHERE id = %s", (zaphod,))
        assert run.work() == f"in use: {OBSERVATIONS}"
    assert database.rows(ERASURES) == []
    assert run.work() is None
    assert traces(store, zaphod) == {}
    assert len(rows_of(run)) == 1


def test_what_retention_archives_stays_in_the_archive(database: Database, ours: Factory, store: LocalArchives) -> None:
    """A run deletes persons with all that goes along, and nobody wants them forgotten."""
    person = ours.row(PERSONS, created_at=OLD)["id"]
    ours.row(OBSERVATIONS, person_id=person)
    run = archiving(database, store, PERSONS, "created_at")
    assert run.work() is None
    assert database.rows("SELECT 1 FROM people.persons WHERE id = %s", (person,)) == []
    assert database.rows(ERASURES) == []
    assert subjects(database, "person", person) == [("persons", 2)]


def test_who_has_nothing_in_archives_costs_no_task(
    database: Database, ours: Factory, zaphod: UUID, store: LocalArchives
) -> None:
    observed(database, store)
    delete(database, ours, ours.row(PERSONS)["id"])
    assert database.rows(ERASURES) == []


def test_a_deletion_finds_what_is_being_written_among_many_parts(database: Database) -> None:
    database.rows(MANY)
    database.rows("ANALYZE ops.archives")
    plan = database.rows("EXPLAIN SELECT FROM ops.archives a WHERE a.status = 'writing'")
    assert "archives_writing_idx" in str(plan)


# ------------------------------------------------------------------------------------------------ held


def test_held_rows_stay_with_what_they_need_and_the_task_names_the_hold(
    database: Database, ours: Factory, store: LocalArchives, tmp_path: Path
) -> None:
    client = ours.row("assistants.clients")["id"]
    for role in ("user", "assistant"):
        conversation = ours.row("assistants.conversations", client_id=client, created_at=OLD)["id"]
        ours.row("assistants.messages", conversation_id=conversation, role=role)
    run = archiving(database, store, "assistants.conversations", "created_at")
    assert run.work() is None
    database.rows(OVER)
    ours.row(
        "ops.retention_policies", name="case 7", table_schema="assistants", table_name="messages", is_held=True,
        hold_reason="a court's order", filter={"role": "assistant"},
    )  # fmt: skip
    database.rows("DELETE FROM assistants.clients WHERE id = %s", (client,))
    told = "archived rows are held by case 7 (a court's order): lift the hold, then replay the task"
    [(_, status, error)] = work(database, store, tmp_path)
    assert (status, str(error).startswith(told)) == ("failed", True)
    assert len(rows_of(run)) == 2
    assert [text for text in rows_of(run) if "assistant," in text]
    assert unlike(run) == 0

    database.rows("DELETE FROM ops.retention_policies WHERE is_held")
    enqueue(database.connect("operator"), EraseArchives(kind="client", id=client))
    assert last(work(database, store, tmp_path)) == "done"
    assert traces(store, client) == {}


def test_a_hold_that_is_set_while_a_part_is_written_anew_is_seen(
    database: Database,
    ours: Factory,
    zaphod: UUID,
    store: LocalArchives,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = observed(database, store)
    before = rows_of(run)
    holds: Callable[..., str] = forgetting.holds

    def late(connection: Connection, tables: list[str]) -> str:
        found = holds(connection, tables)
        if not database.rows("SELECT 1 FROM ops.retention_policies WHERE is_held"):
            hold = {"table_schema": "people", "table_name": "observations", "filter": {}}
            ours.row("ops.retention_policies", name="late", is_held=True, hold_reason="why", **hold)
        return found

    monkeypatch.setattr(forgetting, "holds", late)
    delete(database, ours, zaphod)
    assert last(work(database, store, tmp_path)) == "failed"
    assert rows_of(run) == before
    assert astray(database, store) == set()


# ------------------------------------------------------------------------------------------------ half emptied


def test_a_part_that_is_half_emptied_is_emptied_on_without_them(
    database: Database, ours: Factory, store: LocalArchives, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is over left it, with a row that had changed: none is lost or doubled."""
    kept, gone = (ours.row(PERSONS)["id"] for _ in range(2))
    kind = ours.values(OBSERVATIONS, person_id=kept)["observation_type"]
    ids = database.rows(OBSERVE, (ours.tenant_id, kept, gone, kind))
    before = printed(database, OBSERVATIONS)
    empty, run = archiving_module._empty_page, archiving(database, store, OBSERVATIONS, "created_at")

    def killed(job: Any, part: Any, number: int, *others: Any) -> None:
        if number == 0:
            database.rows("UPDATE people.observations SET metadata = %s WHERE id = %s", ('{"changed": 1}', *ids[100]))
        if database.value("SELECT cardinality(left_behind) FROM ops.archives"):
            raise UnavailableError("killed")
        empty(job, part, number, *others)

    with small_pages(1000), monkeypatch.context() as patched:
        patched.setattr(archiving_module, "_empty_page", killed)
        with pytest.raises(UnavailableError):
            run.work()
    database.rows(OVER)
    [(status, pages, left_behind)] = database.rows("SELECT status, pages_emptied, left_behind FROM ops.archives")
    assert (status, pages > 1, left_behind) == ("verified", True, [100])
    delete(database, ours, gone)
    assert last(work(database, store, tmp_path)) == "done"
    assert traces(store, gone) == {}
    [(fewer, left_behind)] = database.rows("SELECT pages_emptied, left_behind FROM ops.archives")
    assert (fewer < pages, left_behind) == (True, [0])
    again = archiving(database, store, OBSERVATIONS, "created_at")
    assert again.work() is None
    assert database.rows("SELECT 1 FROM people.observations") == []
    theirs = {text for text in before if str(kept) in text}
    assert len(theirs - set(again.archived())) == 1, "the row that changed, as it was"
    assert sorted(again.archived().values()) == [1] * len(theirs)


def test_a_part_that_was_written_anew_and_is_forgotten_leaves_no_file(
    database: Database,
    ours: Factory,
    zaphod: UUID,
    store: LocalArchives,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """None of its rows is as it was, so that none was deleted for it: the next run writes another one."""
    run = archiving(database, store, OBSERVATIONS, "created_at")

    def killed(*_: Any) -> None:
        raise UnavailableError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(archiving_module, "_empty_page", killed)
        with pytest.raises(UnavailableError):
            run.work()
    database.rows(OVER)
    delete(database, ours, zaphod)
    assert last(work(database, store, tmp_path)) == "done"
    database.rows("UPDATE people.observations SET metadata = '{}'")
    again = archiving(database, store, OBSERVATIONS, "created_at")
    assert str(again.work()).startswith("rows change")
    assert again.work() is None
    assert astray(database, store) == set()
    assert (len(rows_of(again)), traces(store, zaphod)) == (1, {})
