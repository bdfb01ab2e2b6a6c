"""Who is erased is gone from the archives too, to the last byte, and nobody else is."""

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from psycopg import sql

from db import documents
from db.connection import tenant_transaction
from pipelines.enqueue import enqueue
from pipelines.retention.archive.store import LocalArchives
from pipelines.tenants.users import EraseUser
from tests.support.archives import Archiving, archiving
from tests.support.database import Database
from tests.support.factory import Factory
from tests.support.forgetting import ERASURES, astray, known, rows_of, subjects, traces, unlike, work
from tests.support.tenants import named, new_tenant

DELETE = "UPDATE identity.tenants SET status = 'deleted' WHERE id = %s"
COUNTS = """
SELECT table_name, tenant_id, policy_name, row_count::int, rows_deleted::int, files FROM ops.archives
WHERE status = 'erased'
"""
OLD = "2020-02-03 00:00+00"
MESSAGES, CONVERSATIONS = "assistants.messages", "assistants.conversations"


@pytest.fixture
def store(tmp_path: Path) -> LocalArchives:
    return LocalArchives(tmp_path / "archives")


@pytest.fixture
def ours(database: Database) -> Iterator[Factory]:
    with new_tenant(known(database)) as factory:
        yield factory


def archived(database: Database, store: LocalArchives, table: str, age_column: str = "created_at") -> Archiving:
    """Archive what is old of a table."""
    run = archiving(database, store, table, age_column)
    assert run.work() is None
    database.rows("UPDATE ops.retention_runs SET status = 'completed', ended_at = now() WHERE id = %s", (run.run.id,))
    return run


def said(database: Database, ours: Factory, word: str, **whose: UUID | None) -> UUID:
    """Write an old message of somebody's conversation; return the conversation."""
    database.rows("SELECT ops.create_month(%s::regclass, %s)", (MESSAGES, OLD))
    conversation: UUID = ours.row(CONVERSATIONS, created_at=OLD, **whose)["id"]
    ours.row(MESSAGES, conversation_id=conversation, created_at=OLD, content=f"{word} was here")
    return conversation


def test_a_user_is_gone_from_messages_that_do_not_name_them(
    database: Database, ours: Factory, store: LocalArchives, tmp_path: Path
) -> None:
    ada, bob = ours.row("identity.users")["id"], ours.row("identity.users")["id"]
    conversation = said(database, ours, "zaphod", user_id=ada)
    message = database.value("SELECT id FROM assistants.messages")
    ours.row("tools.tool_executions", message_id=message, message_created_at=OLD)
    said(database, ours, "trillian", user_id=bob)
    run = archived(database, store, MESSAGES)
    before = rows_of(run)
    assert traces(store, "zaphod", ada)
    assert any("links" in key for key in traces(store, message)), "what referred to the message does no more"
    enqueue(database.connect("operator"), EraseUser(tenant_id=ours.tenant_id, user_id=ada))
    ends = work(database, store, tmp_path / "storage")
    assert {(task_type, status) for task_type, status, _ in ends} == {("user.erase", "done"), ("archive.erase", "done")}
    assert traces(store, "zaphod", ada, conversation, message) == {}
    assert rows_of(run) == {text: 1 for text in before if "trillian" in text}
    assert (subjects(database, "user", ada), subjects(database, "user", bob)) == ([], [("messages", 1)])
    assert astray(database, store) == set()


def test_what_only_names_a_user_is_emptied_of_them(
    database: Database, ours: Factory, store: LocalArchives, tmp_path: Path
) -> None:
    ada = ours.row("identity.users")["id"]
    narrative = ours.row("people.narratives", created_by=ada, created_at=OLD, raw_text="the whale")
    run = archived(database, store, "people.narratives")
    [before] = rows_of(run)
    enqueue(database.connect("operator"), EraseUser(tenant_id=ours.tenant_id, user_id=ada))
    work(database, store, tmp_path / "storage")
    [after] = rows_of(run)
    assert traces(store, ada) == {}
    assert after == before.replace(str(ada), "")
    assert str(narrative["id"]) in after
    assert unlike(run) == 0


def test_the_log_of_changes_says_nothing_of_a_user_and_still_that_there_was_a_change(
    database: Database, ours: Factory, store: LocalArchives, tmp_path: Path
) -> None:
    database.rows("SELECT ops.create_month('audit.audit_log', %s)", (OLD,))
    ada = ours.row("identity.users", name="zaphod")["id"]
    ours.row("assistants.personas", owner_id=ada, name="zaphod's own")
    ours.row("identity.users", name="trillian")
    database.rows(
        "INSERT INTO audit.audit_log SELECT (jsonb_populate_record(l, %s::jsonb)).* FROM audit.audit_log l",
        (f'{{"changed_at": "{OLD}"}}',),
    )
    run = archived(database, store, "audit.audit_log", "changed_at")
    notes = len(rows_of(run))
    assert traces(store, "zaphod")
    enqueue(database.connect("operator"), EraseUser(tenant_id=ours.tenant_id, user_id=ada))
    work(database, store, tmp_path / "storage")
    assert traces(store, "zaphod") == {}
    assert traces(store, "trillian")
    assert len(rows_of(run)) == notes
    assert [text for text in rows_of(run) if str(ada) in text and "users" in text], "who it was of stays"


@pytest.mark.parametrize("kind", ["person", "client", "persona"])
def test_whom_a_product_deletes_is_forgotten(
    database: Database, ours: Factory, store: LocalArchives, tmp_path: Path, kind: str
) -> None:
    """A plain DELETE by a product's login, which knows of no archive."""
    table, archive_of, column = {
        "person": ("people.persons", "people.observations", "person_id"),
        "client": ("assistants.clients", CONVERSATIONS, "client_id"),
        "persona": ("assistants.personas", "mail.emails", "persona_id"),
    }[kind]
    zaphod, trillian = ours.row(table)["id"], ours.row(table)["id"]
    for whose in (zaphod, trillian):
        ours.row(archive_of, **{column: whose}, created_at=OLD)
    run = archived(database, store, archive_of)
    left = {text: 1 for text in rows_of(run) if str(zaphod) not in text}
    with tenant_transaction(database.connect("worker"), ours.tenant_id) as worker:
        worker.execute(sql.SQL("DELETE FROM {} WHERE id = %s").format(named(table)), (zaphod,))
    assert database.rows(ERASURES) == [({"kind": kind, "id": str(zaphod)},)]
    assert [status for _, status, _ in work(database, store, tmp_path / "storage")] == ["done"]
    assert traces(store, zaphod) == {}
    assert rows_of(run) == left != {}


def test_a_documents_text_is_gone_with_it(
    database: Database, ours: Factory, store: LocalArchives, tmp_path: Path
) -> None:
    first, second = (ours.row("knowledge.documents")["id"] for _ in range(2))
    for document, word in ((first, "zaphod"), (second, "trillian")):
        ours.row("knowledge.chunks", document_id=document, text=f"{word} was here", created_at=OLD)
    run = archived(database, store, "knowledge.chunks")
    assert traces(store, "zaphod", first)
    with tenant_transaction(database.connect("worker"), ours.tenant_id) as worker:
        documents.delete(worker, ours.tenant_id, first)
    work(database, store, tmp_path / "storage")
    assert traces(store, "zaphod", first) == {}
    assert traces(store, "trillian")
    assert len(run.manifests()) == 1


def test_nothing_is_left_of_a_tenant_in_archives_and_its_part_stays_with_counts(
    database: Database, ours: Factory, store: LocalArchives, tmp_path: Path
) -> None:
    said(database, ours, "zaphod")
    with new_tenant(database) as theirs:
        said(database, theirs, "trillian")
    both = archived(database, store, MESSAGES)
    left = {text: 1 for text in rows_of(both) if "trillian" in text}
    own = archiving(database, store, CONVERSATIONS, "created_at", tenant_id=ours.tenant_id)
    assert own.work() is None
    database.rows("UPDATE ops.retention_runs SET status = 'completed', ended_at = now()")
    database.connect("operator").execute(DELETE, (ours.tenant_id,))
    assert [status for _, status, _ in work(database, store, tmp_path / "storage")] == ["done"]
    assert traces(store, "zaphod", ours.tenant_id) == {}
    assert rows_of(both) == left
    assert database.rows(COUNTS) == [("conversations", None, "erased", 0, 1, [])]
    assert astray(database, store) == set()
    told = "SELECT metadata -> 'archives' FROM audit.audit_events WHERE event_type = 'tenant.erased'"
    assert database.value(told) == 2


def test_another_tenants_user_is_not_erased(
    database: Database, ours: Factory, store: LocalArchives, tmp_path: Path
) -> None:
    said(database, ours, "zaphod", user_id=(ada := ours.row("identity.users")["id"]))
    archived(database, store, MESSAGES)
    with new_tenant(database) as theirs:
        enqueue(database.connect("operator"), EraseUser(tenant_id=theirs.tenant_id, user_id=ada))
    [(_, status, error)] = work(database, store, tmp_path / "storage")
    assert (status, "is not one of the tenant" in str(error)) == ("failed", True)
    assert traces(store, "zaphod")


def test_a_user_whom_a_hold_keeps_is_not_erased(
    database: Database, ours: Factory, store: LocalArchives, tmp_path: Path
) -> None:
    ada = ours.row("identity.users")["id"]
    hold = {"table_schema": "identity", "table_name": "users", "filter": {}, "is_held": True, "hold_reason": "why"}
    ours.row("ops.retention_policies", name="case 7", **hold)
    enqueue(database.connect("operator"), EraseUser(tenant_id=ours.tenant_id, user_id=ada))
    [(_, status, error)] = work(database, store, tmp_path / "storage")
    assert (status, f"the user {ada} is held" in str(error)) == ("failed", True)
    assert database.rows("SELECT id FROM identity.users") == [(ada,)]
