"""`files.remove`: a stored file goes with the last row that names it, whoever deletes the row, and not before."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import LiteralString
from uuid import UUID

import pytest

from core.errors import UnavailableError
from db import files
from db.connection import tenant_transaction
from db.embedded import EmbeddedServer
from pipelines.documents import tasks as documents_tasks
from pipelines.documents.payloads import DeleteDocument
from pipelines.enqueue import enqueue
from pipelines.registry import Registry
from pipelines.retention import files as retention
from pipelines.retention.files import RemoveFiles
from pipelines.storage import LocalStorage
from tests.support.database import Database, cloned
from tests.support.engine import publish
from tests.support.retention_runs import let_go
from tests.support.stored import ATTACHMENTS, DOCUMENTS, NOTES, REMOVE, TEXTS, Site, sited
from tests.support.tenants import acting, new_tenant
from tests.support.waiting import eventually
from workers.testing import drain

OWNING = """
SELECT c.table_schema || '.' || c.table_name FROM information_schema.columns c WHERE c.column_name = 'file_path'
    AND c.table_schema NOT LIKE 'pg_%' ORDER BY 1
"""
TRIGGERED = """
SELECT tgrelid::regclass::text, array_agg(tgname::text ORDER BY tgname) FROM pg_trigger
WHERE tgfoid = 'ops.release_files'::regproc GROUP BY 1 ORDER BY 1
"""
GOES: tuple[tuple[str, LiteralString], ...] = (
    (DOCUMENTS, "DELETE FROM knowledge.documents WHERE id = %(id)s"),
    (DOCUMENTS, "DELETE FROM knowledge.collections WHERE id = %(collection_id)s"),
    (DOCUMENTS, "DELETE FROM assistants.personas WHERE id = %(persona_id)s"),
    (DOCUMENTS, "UPDATE knowledge.documents SET file_path = NULL WHERE id = %(id)s"),
    (DOCUMENTS, "UPDATE knowledge.documents SET file_path = 'another' WHERE id = %(id)s"),
    (TEXTS, "DELETE FROM knowledge.document_texts WHERE document_id = %(document_id)s"),
    (TEXTS, "DELETE FROM knowledge.documents WHERE id = %(document_id)s"),
    (ATTACHMENTS, "DELETE FROM mail.attachments WHERE id = %(id)s"),
    (ATTACHMENTS, "DELETE FROM mail.emails WHERE id = %(email_id)s"),
)
WAITS = "SELECT true FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"


@pytest.fixture(scope="module")
def shared(server_without_fsync: EmbeddedServer, template_database: str) -> Iterator[Database]:
    with cloned(server_without_fsync, template_database) as database:
        publish(database, Registry([*retention.TASKS, *documents_tasks.TASKS]))
        yield database


@pytest.fixture
def site(shared: Database, tmp_path: Path) -> Iterator[Site]:
    with sited(shared, tmp_path) as site:
        yield site


# ------------------------------------------------------------------------------------------------ a row goes


@pytest.mark.parametrize(("table", "statement"), GOES, ids=[f"{n}" for n in range(len(GOES))])
def test_a_file_goes_with_the_row_that_named_it(site: Site, table: str, statement: LiteralString) -> None:
    key, other = site.put("tea"), site.put("coffee")
    row = site.row(table, key)
    site.row(table, other)
    assert site.notes() == []
    with acting(site.database, "operator", site.tenant_id) as operator:
        operator.execute(statement, row)
        operator.execute("COMMIT")
    assert site.notes() == [key]
    assert site.has(key)
    assert site.remove().result == {"removed": 1, "kept": 0, "refused": 0}
    assert (site.has(key), site.has(other), site.notes()) == (False, True, [])


def test_a_row_that_stays_after_all_lets_go_of_nothing(site: Site) -> None:
    row = site.row(DOCUMENTS, site.put("tea"))
    with acting(site.database, "operator", site.tenant_id) as operator:
        operator.execute(GOES[0][1], row)
    site.database.rows("UPDATE knowledge.documents SET name = 'x' WHERE id = %s RETURNING 1", (row["id"],))
    site.database.rows("UPDATE knowledge.documents SET file_path = file_path WHERE id = %s RETURNING 1", (row["id"],))
    assert site.notes() == []


def test_what_a_policy_deletes_lets_go_of_its_files(site: Site) -> None:
    old, new = site.put("old"), site.put("new")
    site.row(DOCUMENTS, old, created_at="2020-01-01")
    site.row(DOCUMENTS, new)
    policy = site.factory.row(
        "ops.retention_policies",
        tenant_id=site.tenant_id,
        **{"table_schema": "knowledge", "table_name": "documents", "age_column": "created_at", "filter": {}},
    )
    assert let_go(site.database.connect("system"), policy["name"]) == 1
    site.remove()
    assert (site.has(old), site.has(new)) == (False, True)


def test_a_file_that_another_row_names_stays_until_that_goes(site: Site) -> None:
    key = site.put("shared")
    rows = [site.row(table, key) for table in (DOCUMENTS, TEXTS, ATTACHMENTS)]
    for row, statement in zip(rows, (GOES[0][1], GOES[5][1]), strict=False):
        site.database.connect().execute(statement, row)
        assert site.remove().result == {"removed": 0, "kept": 1, "refused": 0}
        assert (site.has(key), site.notes()) == (True, [])
    site.database.rows("DELETE FROM mail.attachments WHERE id = %s RETURNING 1", (rows[2]["id"],))
    assert site.remove().result["removed"] == 1
    assert not site.has(key)


def test_a_deleted_tenants_files_are_not_noted_one_by_one(site: Site) -> None:
    key = site.put("tea")
    gone, left = site.row(DOCUMENTS, key), site.row(DOCUMENTS, key)
    site.database.rows("DELETE FROM knowledge.documents WHERE id = %s RETURNING 1", (gone["id"],))
    site.database.rows("UPDATE identity.tenants SET status = 'deleted' WHERE id = %s RETURNING 1", (site.tenant_id,))
    with acting(site.database, "system") as system:
        page = "SELECT gone FROM ops.erase_page(%s, %s::regclass, 100, 0)"
        assert system.execute(page, (site.tenant_id, DOCUMENTS)).fetchall() == [(1,)]
        assert system.execute(NOTES, (site.tenant_id,)).fetchall() == [(key,)], "what was noted before"
        assert system.execute(page, (site.tenant_id, "ops.released_files")).fetchall() == [(1,)]
        assert system.execute(NOTES, (site.tenant_id,)).fetchall() == []
        assert left["file_path"] == key


# ------------------------------------------------------------------------------------------------ it is named again


def test_a_file_that_is_named_again_before_it_is_removed_stays(site: Site) -> None:
    key = site.put("tea")
    row = site.row(DOCUMENTS, key)
    site.database.rows("DELETE FROM knowledge.documents WHERE id = %s RETURNING 1", (row["id"],))
    assert site.put("tea") == key
    site.row(DOCUMENTS, key)
    assert site.remove().result == {"removed": 0, "kept": 1, "refused": 0}
    assert (site.has(key), site.notes()) == (True, [])


def test_a_file_that_is_named_while_its_removal_waits_stays(site: Site) -> None:
    key = site.put("tea")
    row = site.row(DOCUMENTS, key)
    site.database.rows("DELETE FROM knowledge.documents WHERE id = %s RETURNING 1", (row["id"],))
    naming = site.database.connect("worker")
    removing = threading.Thread(target=site.remove)
    with tenant_transaction(naming, site.tenant_id):
        files.lock(naming, key)
        removing.start()
        eventually(lambda: site.database.rows(WAITS))
        again = "INSERT INTO knowledge.documents (tenant_id, name, file_path) VALUES (%s, 'again', %s)"
        naming.execute(again, (site.tenant_id, key))
    removing.join()
    assert (site.has(key), site.notes()) == (True, [])


def test_a_row_that_lets_go_while_its_file_is_looked_at_is_not_forgotten(site: Site) -> None:
    key = site.put("tea")
    first, last = site.row(DOCUMENTS, key), site.row(DOCUMENTS, key)
    site.database.rows("DELETE FROM knowledge.documents WHERE id = %s RETURNING 1", (first["id"],))
    with acting(site.database, "operator", site.tenant_id) as operator:
        operator.execute(GOES[0][1], last)
        assert site.remove().result["kept"] == 1
        operator.execute("COMMIT")
    assert site.notes() == [key]
    assert site.remove().result["removed"] == 1
    assert not site.has(key)


# ------------------------------------------------------------------------------------------------ the task


def test_another_tenants_file_is_out_of_reach(site: Site) -> None:
    with new_tenant(site.database) as other:
        theirs = f"{other.tenant_id}/file"
    (site.root / theirs).parent.mkdir(parents=True)
    (site.root / theirs).write_text("theirs")
    row = site.row(DOCUMENTS, theirs)
    site.database.rows("DELETE FROM knowledge.documents WHERE id = %s RETURNING 1", (row["id"],))
    assert site.remove().result == {"removed": 0, "kept": 0, "refused": 1}
    assert (site.has(theirs), site.notes()) == (True, [])


def released(site: Site, count: int) -> list[str]:
    keys = [site.put(f"file {number}") for number in range(count)]
    for key in keys:
        site.row(DOCUMENTS, key)
    site.database.rows("DELETE FROM knowledge.documents WHERE tenant_id = %s RETURNING 1", (site.tenant_id,))
    return keys


def test_it_goes_on_page_by_page(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "_PAGE", 2)
    monkeypatch.setattr(retention, "_SECONDS", 0.0)
    keys = released(site, 5)
    task_id = enqueue(site.database.connect(), RemoveFiles())
    outcomes = drain(site.database, Registry([REMOVE]), resources=site.resources).outcomes
    assert outcomes == {("files.remove", "snooze"): 3, ("files.remove", "done"): 1}
    result = "SELECT result FROM queue.outbox_tasks WHERE id = %s"
    assert site.database.value(result, (task_id,)) == {"removed": 5, "kept": 0, "refused": 0}
    assert [key for key in keys if site.has(key)] == site.notes() == []


def test_what_cannot_be_removed_is_told_of_and_tried_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = released(site, 3)
    delete = LocalStorage.delete

    def refuse(storage: LocalStorage, tenant_id: UUID, key: str) -> None:
        if key == keys[1]:
            raise PermissionError(13, "Permission denied")
        delete(storage, tenant_id, key)

    with monkeypatch.context() as patched:
        patched.setattr(LocalStorage, "delete", refuse)
        run = site.remove()
    assert (run.status, site.notes()) == ("failed", [keys[1]])
    assert f"1 files could not be removed, the last {keys[1]} (Permission denied)" in str(run.error)
    assert [site.has(key) for key in keys] == [False, True, False]
    assert site.remove().result["removed"] == 1
    assert not site.has(keys[1])


def test_a_disk_that_refuses_all_is_not_asked_for_ever(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "_PAGE", 2)
    monkeypatch.setattr(retention, "_MOST_FAILED", 2)
    keys, asked = released(site, 5), list[str]()

    def refuse(_storage: LocalStorage, _tenant_id: UUID, key: str) -> None:
        asked.append(key)
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(LocalStorage, "delete", refuse)
    assert site.remove().status == "failed"
    assert (len(asked), sorted(site.notes())) == (2, sorted(keys))


def test_a_storage_that_is_away_is_waited_for(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = released(site, 2)

    def away(*_given: object) -> None:
        raise UnavailableError("the storage does not answer")

    monkeypatch.setattr(LocalStorage, "delete", away)
    run = site.remove()
    assert (run.outcome, run.status, sorted(site.notes())) == ("retry", "pending", sorted(keys))


def test_a_document_that_is_deleted_leaves_neither_file_nor_note(site: Site) -> None:
    key = site.put("tea")
    row = site.row(DOCUMENTS, key)
    site.factory.row(TEXTS, document_id=row["id"], file_path=key)
    enqueue(site.database.connect(), DeleteDocument(document_id=row["id"]), tenant_id=site.tenant_id)
    ours = [task for task in documents_tasks.TASKS if task.name in ("document.delete", "file.delete")]
    drain(site.database, Registry(ours), resources=site.resources)
    assert (site.has(key), site.notes()) == (False, [])


# ------------------------------------------------------------------------------------------------ who names files


def test_each_column_of_keys_is_known_and_has_its_triggers(shared: Database) -> None:
    known = shared.rows("SELECT relation::text FROM ops.file_columns() ORDER BY 1")
    assert known == shared.rows(OWNING)
    assert shared.rows(TRIGGERED) == [(table, ["release_files", "release_former"]) for (table,) in known]


def test_a_long_key_is_no_reason_to_keep_a_row(site: Site) -> None:
    key = f"{site.tenant_id}/" + "".join(chr(0x4E00 + number) for number in range(800))
    row = site.row(TEXTS, key)
    site.database.rows("DELETE FROM knowledge.document_texts WHERE document_id = %s RETURNING 1", (row["document_id"],))
    assert site.notes() == [key]
