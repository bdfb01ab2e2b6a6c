"""An erasure of archives that is killed, that waits, that is held, or that another is at the same part with."""

from collections.abc import Callable
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest

from core.errors import UnavailableError
from db import archives, forgetting
from db.connection import Connection, tenant_transaction
from pipelines.enqueue import enqueue
from pipelines.retention.archive import archiving as archiving_module
from pipelines.retention.archive import parts
from pipelines.retention.forgetting import EraseArchives
from tests.support.archives import Archiving, archiving, printed, small_pages
from tests.support.forgetting import ERASURES, OVER, FailingArchives, Scene, rows_of, subjects, unlike

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


@pytest.fixture
def zaphod(scene: Scene) -> UUID:
    """A person with an old observation; another one has one, too."""
    both: list[UUID] = [scene.ours.row(PERSONS)["id"] for _ in range(2)]
    for person in both:
        scene.ours.row(OBSERVATIONS, person_id=person, created_at=OLD)
    return both[0]


def kill(run: Archiving, module: ModuleType, name: str) -> None:
    """Have a run end where it would call a function, as a kill does."""

    def killed(*_: Any) -> None:
        raise UnavailableError("killed")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, name, killed)
        with pytest.raises(UnavailableError):
            run.work()


def last(ends: list[tuple[str, str, str | None]]) -> str:
    """Return how the last one ended."""
    return ends[-1][1]


# ------------------------------------------------------------------------------------------------ killed


# the manifest and the file are read, the file is put and read, the manifest is put and read, then the old two go
@pytest.mark.parametrize("after", range(8))
def test_wherever_it_is_killed_a_part_is_whole_and_nothing_is_left_over(scene: Scene, zaphod: UUID, after: int) -> None:
    run = scene.archived(OBSERVATIONS)
    before = rows_of(run)
    left = {text: 1 for text in before if str(zaphod) not in text}
    scene.delete(zaphod)
    failing = FailingArchives(scene.folder / "archives", after)
    scene.work(failing)
    assert failing.left == -1, "it failed"
    assert rows_of(run) in (before, left)
    scene.database.rows(AGAIN)
    assert last(scene.work(failing)) == "done"
    assert rows_of(run) == left
    assert scene.traces(zaphod) == {}
    assert scene.astray() == set()


def test_what_was_written_and_not_put_in_place_is_removed(
    scene: Scene, zaphod: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = scene.archived(OBSERVATIONS)
    before = rows_of(run)
    scene.delete(zaphod)

    def killed(*_: Any) -> bool:
        raise RuntimeError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(forgetting, "swap", killed)
        scene.work()
    assert rows_of(run) == before
    assert len(scene.astray()) == 2
    scene.database.rows(AGAIN)
    assert last(scene.work()) == "done"
    assert scene.astray() == set()


def test_whoever_is_second_at_a_part_looks_again(scene: Scene, zaphod: UUID, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look and the change another erasure changes the part: neither person is left."""
    run = scene.archived(OBSERVATIONS)
    ford = scene.database.value("SELECT id FROM people.persons WHERE id <> %s", (zaphod,))
    scene.delete(zaphod)
    swap, late = forgetting.swap, [ford]

    def second(connection: Connection, *others: Any) -> bool:
        if late:
            late.clear()
            with scene.database.connect("system").transaction():
                enqueue(scene.database.connect("operator"), EraseArchives(kind="person", id=ford), priority=100)
            scene.database.rows("UPDATE ops.archives SET manifest_key = manifest_key || '.'")
            is_swapped = swap(connection, *others)
            scene.database.rows("UPDATE ops.archives SET manifest_key = rtrim(manifest_key, '.')")
            return is_swapped
        return swap(connection, *others)

    monkeypatch.setattr(forgetting, "swap", second)
    scene.work()
    assert scene.traces(zaphod, ford) == {}
    assert rows_of(run) == {}
    assert scene.astray() == set()


# ------------------------------------------------------------------------------------------------ at the same moment


def test_a_part_that_is_being_written_is_waited_for(
    scene: Scene, zaphod: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody is deleted when the rows are read and nobody knows yet whose they are."""
    run = archiving(scene.database, scene.store, OBSERVATIONS, "created_at")
    scene.database.rows("UPDATE ops.retention_runs SET task_id = %s", (scene.database.value(LATE),))
    verify = archives.verify

    def meanwhile(*given: Any) -> bool:
        scene.delete(zaphod)
        assert subjects(scene.database, "person", zaphod) == []
        assert scene.work() == []
        assert "an archive is being written" in scene.database.value(WAITS)
        return verify(*given)

    monkeypatch.setattr(archives, "verify", meanwhile)
    run.work()
    monkeypatch.undo()
    assert scene.traces(zaphod)
    scene.database.rows(AGAIN + " WHERE task_type = 'archive.erase'")
    scene.work()
    scene.database.rows(OVER)
    scene.database.rows(AGAIN + " WHERE task_type = 'archive.erase'")
    assert last(scene.work()) == "done"
    assert scene.traces(zaphod) == {}
    assert scene.astray() == set()


WAITS = "SELECT error FROM queue.attempts ORDER BY ended_at DESC LIMIT 1"


def test_a_part_that_nobody_goes_on_with_is_forgotten(
    scene: Scene, zaphod: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = archiving(scene.database, scene.store, OBSERVATIONS, "created_at")
    kill(run, parts, "_note")
    assert scene.traces(zaphod)
    scene.delete(zaphod)
    assert last(scene.work()) == "done"
    assert scene.store.keys("") == []
    assert scene.database.rows("SELECT 1 FROM ops.archives") == []
    assert scene.database.value("SELECT count(*) FROM people.observations") == 1


def test_an_archive_begins_when_deletions_that_saw_none_are_over(scene: Scene, zaphod: UUID) -> None:
    run = archiving(scene.database, scene.store, OBSERVATIONS, "created_at")
    with tenant_transaction(scene.database.connect("worker"), scene.ours.tenant_id) as worker:
        worker.execute("DELETE FROM people.persons WHERE id = %s", (zaphod,))
        assert run.work() == f"in use: {OBSERVATIONS}"
    assert scene.database.rows(ERASURES) == []
    assert run.work() is None
    assert scene.traces(zaphod) == {}
    assert len(rows_of(run)) == 1


def test_what_retention_archives_stays_in_the_archive(scene: Scene) -> None:
    """A run deletes persons with all that goes along, and nobody wants them forgotten."""
    person = scene.ours.row(PERSONS, created_at=OLD)["id"]
    scene.ours.row(OBSERVATIONS, person_id=person)
    run = archiving(scene.database, scene.store, PERSONS, "created_at")
    assert run.work() is None
    assert scene.database.rows("SELECT 1 FROM people.persons WHERE id = %s", (person,)) == []
    assert scene.database.rows(ERASURES) == []
    assert subjects(scene.database, "person", person) == [("persons", 2)]


def test_who_has_nothing_in_archives_costs_no_task(scene: Scene, zaphod: UUID) -> None:
    scene.archived(OBSERVATIONS)
    scene.delete(scene.ours.row(PERSONS)["id"])
    assert scene.database.rows(ERASURES) == []


def test_a_deletion_finds_what_is_being_written_among_many_parts(scene: Scene) -> None:
    scene.database.rows(MANY)
    scene.database.rows("ANALYZE ops.archives")
    plan = scene.database.rows("EXPLAIN SELECT FROM ops.archives a WHERE a.status = 'writing'")
    assert "archives_writing_idx" in str(plan)


# ------------------------------------------------------------------------------------------------ held


def test_held_rows_stay_with_what_they_need_and_the_task_names_the_hold(scene: Scene) -> None:
    client = scene.ours.row("assistants.clients")["id"]
    for role in ("user", "assistant"):
        conversation = scene.ours.row("assistants.conversations", client_id=client, created_at=OLD)["id"]
        scene.ours.row("assistants.messages", conversation_id=conversation, role=role)
    run = archiving(scene.database, scene.store, "assistants.conversations", "created_at")
    assert run.work() is None
    scene.database.rows(OVER)
    scene.ours.row(
        "ops.retention_policies", name="case 7", table_schema="assistants", table_name="messages", is_held=True,
        hold_reason="a court's order", filter={"role": "assistant"},
    )  # fmt: skip
    scene.database.rows("DELETE FROM assistants.clients WHERE id = %s", (client,))
    told = "archived rows are held by case 7 (a court's order): lift the hold, then replay the task"
    [(_, status, error)] = scene.work()
    assert (status, str(error).startswith(told)) == ("failed", True)
    assert len(rows_of(run)) == 2
    assert [text for text in rows_of(run) if "assistant," in text]
    assert unlike(run) == 0

    scene.database.rows("DELETE FROM ops.retention_policies WHERE is_held")
    enqueue(scene.database.connect("operator"), EraseArchives(kind="client", id=client))
    assert last(scene.work()) == "done"
    assert scene.traces(client) == {}


def test_a_hold_that_is_set_while_a_part_is_written_anew_is_seen(
    scene: Scene, zaphod: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = scene.archived(OBSERVATIONS)
    before = rows_of(run)
    holds: Callable[..., str] = forgetting.holds

    def late(connection: Connection, tables: list[str]) -> str:
        found = holds(connection, tables)
        if not scene.database.rows("SELECT 1 FROM ops.retention_policies WHERE is_held"):
            hold = {"table_schema": "people", "table_name": "observations", "filter": {}}
            scene.ours.row("ops.retention_policies", name="late", is_held=True, hold_reason="why", **hold)
        return found

    monkeypatch.setattr(forgetting, "holds", late)
    scene.delete(zaphod)
    assert last(scene.work()) == "failed"
    assert rows_of(run) == before
    assert scene.astray() == set()


# ------------------------------------------------------------------------------------------------ half emptied


def test_a_part_that_is_half_emptied_is_emptied_on_without_them(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is over left it, with a row that had changed: none is lost or doubled."""
    kept, gone = (scene.ours.row(PERSONS)["id"] for _ in range(2))
    kind = scene.ours.values(OBSERVATIONS, person_id=kept)["observation_type"]
    ids = scene.database.rows(OBSERVE, (scene.ours.tenant_id, kept, gone, kind))
    before = printed(scene.database, OBSERVATIONS)
    empty, run = archiving_module._empty_page, archiving(scene.database, scene.store, OBSERVATIONS, "created_at")

    def killed(job: Any, part: Any, number: int, *others: Any) -> None:
        if number == 0:
            scene.database.rows(
                "UPDATE people.observations SET metadata = %s WHERE id = %s", ('{"changed": 1}', *ids[100])
            )
        if scene.database.value("SELECT cardinality(left_behind) FROM ops.archives"):
            raise UnavailableError("killed")
        empty(job, part, number, *others)

    with small_pages(1000), monkeypatch.context() as patched:
        patched.setattr(archiving_module, "_empty_page", killed)
        with pytest.raises(UnavailableError):
            run.work()
    scene.database.rows(OVER)
    [(status, pages, left_behind)] = scene.database.rows("SELECT status, pages_emptied, left_behind FROM ops.archives")
    assert (status, pages > 1, left_behind) == ("verified", True, [100])
    scene.delete(gone)
    assert last(scene.work()) == "done"
    assert scene.traces(gone) == {}
    [(fewer, left_behind)] = scene.database.rows("SELECT pages_emptied, left_behind FROM ops.archives")
    assert (fewer < pages, left_behind) == (True, [0])
    again = archiving(scene.database, scene.store, OBSERVATIONS, "created_at")
    assert again.work() is None
    assert scene.database.rows("SELECT 1 FROM people.observations") == []
    theirs = {text for text in before if str(kept) in text}
    assert len(theirs - set(again.archived())) == 1, "the row that changed, as it was"
    assert sorted(again.archived().values()) == [1] * len(theirs)


def test_a_part_that_was_written_anew_and_is_forgotten_leaves_no_file(
    scene: Scene, zaphod: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None of its rows is as it was, so that none was deleted for it: the next run writes another one."""
    run = archiving(scene.database, scene.store, OBSERVATIONS, "created_at")
    kill(run, archiving_module, "_empty_page")
    scene.database.rows(OVER)
    scene.delete(zaphod)
    assert last(scene.work()) == "done"
    scene.database.rows("UPDATE people.observations SET metadata = '{}'")
    again = archiving(scene.database, scene.store, OBSERVATIONS, "created_at")
    assert str(again.work()).startswith("rows change")
    assert again.work() is None
    assert scene.astray() == set()
    assert (len(rows_of(again)), scene.traces(zaphod)) == (1, {})
