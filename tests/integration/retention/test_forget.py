"""Who is erased is gone from the archives too, to the last byte, and nobody else is."""

from dataclasses import replace
from uuid import UUID

import pytest
from psycopg import sql

from db import documents
from db.connection import tenant_transaction
from pipelines.enqueue import enqueue
from pipelines.tenants.users import EraseUser
from tests.support.archives import archiving
from tests.support.forgetting import ERASURES, OVER, Scene, rows_of, subjects, unlike
from tests.support.tenants import named, new_tenant

DELETE = "UPDATE identity.tenants SET status = 'deleted' WHERE id = %s"
COUNTS = """
SELECT table_name, tenant_id, policy_name, row_count::int, rows_deleted::int, files FROM ops.archives
WHERE status = 'erased'
"""
OLD = "2020-02-03 00:00+00"
MESSAGES, CONVERSATIONS = "assistants.messages", "assistants.conversations"


def said(scene: Scene, word: str, **whose: UUID | None) -> UUID:
    """Write an old message of somebody's conversation; return the conversation."""
    scene.database.rows("SELECT ops.create_month(%s::regclass, %s)", (MESSAGES, OLD))
    conversation: UUID = scene.ours.row(CONVERSATIONS, created_at=OLD, **whose)["id"]
    scene.ours.row(MESSAGES, conversation_id=conversation, created_at=OLD, content=f"{word} was here")
    return conversation


def test_a_user_is_gone_from_messages_that_do_not_name_them(scene: Scene) -> None:
    ada, bob = scene.ours.row("identity.users")["id"], scene.ours.row("identity.users")["id"]
    conversation = said(scene, "zaphod", user_id=ada)
    message = scene.database.value("SELECT id FROM assistants.messages")
    scene.ours.row("tools.tool_executions", message_id=message, message_created_at=OLD)
    said(scene, "trillian", user_id=bob)
    run = scene.archived(MESSAGES)
    before = rows_of(run)
    assert scene.traces("zaphod", ada)
    assert any("links" in key for key in scene.traces(message)), "what referred to the message does no more"
    enqueue(scene.database.connect("operator"), EraseUser(tenant_id=scene.ours.tenant_id, user_id=ada))
    ends = scene.work()
    assert {(task_type, status) for task_type, status, _ in ends} == {("user.erase", "done"), ("archive.erase", "done")}
    assert scene.traces("zaphod", ada, conversation, message) == {}
    assert rows_of(run) == {text: 1 for text in before if "trillian" in text}
    assert (subjects(scene.database, "user", ada), subjects(scene.database, "user", bob)) == ([], [("messages", 1)])
    assert scene.astray() == set()


def test_what_only_names_a_user_is_emptied_of_them(scene: Scene) -> None:
    ada = scene.ours.row("identity.users")["id"]
    narrative = scene.ours.row("people.narratives", created_by=ada, created_at=OLD, raw_text="the whale")
    run = scene.archived("people.narratives")
    [before] = rows_of(run)
    enqueue(scene.database.connect("operator"), EraseUser(tenant_id=scene.ours.tenant_id, user_id=ada))
    scene.work()
    [after] = rows_of(run)
    assert scene.traces(ada) == {}
    assert after == before.replace(str(ada), "")
    assert str(narrative["id"]) in after
    assert unlike(run) == 0


def test_the_log_of_changes_says_nothing_of_a_user_and_still_that_there_was_a_change(scene: Scene) -> None:
    scene.database.rows("SELECT ops.create_month('audit.audit_log', %s)", (OLD,))
    ada = scene.ours.row("identity.users", name="zaphod")["id"]
    scene.ours.row("assistants.personas", owner_id=ada, name="zaphod's own")
    scene.ours.row("identity.users", name="trillian")
    scene.database.rows(
        "INSERT INTO audit.audit_log SELECT (jsonb_populate_record(l, %s::jsonb)).* FROM audit.audit_log l",
        (f'{{"changed_at": "{OLD}"}}',),
    )
    run = scene.archived("audit.audit_log", "changed_at")
    notes = len(rows_of(run))
    assert scene.traces("zaphod")
    enqueue(scene.database.connect("operator"), EraseUser(tenant_id=scene.ours.tenant_id, user_id=ada))
    scene.work()
    assert scene.traces("zaphod") == {}
    assert scene.traces("trillian")
    assert len(rows_of(run)) == notes
    assert [text for text in rows_of(run) if str(ada) in text and "users" in text], "who it was of stays"


@pytest.mark.parametrize("kind", ["person", "client", "persona"])
def test_whom_a_product_deletes_is_forgotten(scene: Scene, kind: str) -> None:
    """A plain DELETE by a product's login, which knows of no archive."""
    table, archive_of, column = {
        "person": ("people.persons", "people.observations", "person_id"),
        "client": ("assistants.clients", CONVERSATIONS, "client_id"),
        "persona": ("assistants.personas", "mail.emails", "persona_id"),
    }[kind]
    zaphod, trillian = scene.ours.row(table)["id"], scene.ours.row(table)["id"]
    for whose in (zaphod, trillian):
        scene.ours.row(archive_of, **{column: whose}, created_at=OLD)
    run = scene.archived(archive_of)
    left = {text: 1 for text in rows_of(run) if str(zaphod) not in text}
    with tenant_transaction(scene.database.connect("worker"), scene.ours.tenant_id) as worker:
        worker.execute(sql.SQL("DELETE FROM {} WHERE id = %s").format(named(table)), (zaphod,))
    assert scene.database.rows(ERASURES) == [({"kind": kind, "id": str(zaphod)},)]
    assert [status for _, status, _ in scene.work()] == ["done"]
    assert scene.traces(zaphod) == {}
    assert rows_of(run) == left != {}


def test_a_documents_text_is_gone_with_it(scene: Scene) -> None:
    first, second = (scene.ours.row("knowledge.documents")["id"] for _ in range(2))
    for document, word in ((first, "zaphod"), (second, "trillian")):
        scene.ours.row("knowledge.chunks", document_id=document, text=f"{word} was here", created_at=OLD)
    run = scene.archived("knowledge.chunks")
    assert scene.traces("zaphod", first)
    with tenant_transaction(scene.database.connect("worker"), scene.ours.tenant_id) as worker:
        documents.delete(worker, scene.ours.tenant_id, first)
    scene.work()
    assert scene.traces("zaphod", first) == {}
    assert scene.traces("trillian")
    assert len(run.manifests()) == 1


def test_nothing_is_left_of_a_tenant_in_archives_and_its_part_stays_with_counts(scene: Scene) -> None:
    said(scene, "zaphod")
    with new_tenant(scene.database) as theirs:
        said(replace(scene, ours=theirs), "trillian")
    both = scene.archived(MESSAGES)
    left = {text: 1 for text in rows_of(both) if "trillian" in text}
    own = archiving(scene.database, scene.store, CONVERSATIONS, "created_at", tenant_id=scene.ours.tenant_id)
    assert own.work() is None
    scene.database.rows(OVER)
    scene.database.connect("operator").execute(DELETE, (scene.ours.tenant_id,))
    assert [status for _, status, _ in scene.work()] == ["done"]
    assert scene.traces("zaphod", scene.ours.tenant_id) == {}
    assert rows_of(both) == left
    assert scene.database.rows(COUNTS) == [("conversations", None, "erased", 0, 1, [])]
    assert scene.astray() == set()
    told = "SELECT metadata -> 'archives' FROM audit.audit_events WHERE event_type = 'tenant.erased'"
    assert scene.database.value(told) == 2


def test_another_tenants_user_is_not_erased(scene: Scene) -> None:
    said(scene, "zaphod", user_id=(ada := scene.ours.row("identity.users")["id"]))
    scene.archived(MESSAGES)
    with new_tenant(scene.database) as theirs:
        enqueue(scene.database.connect("operator"), EraseUser(tenant_id=theirs.tenant_id, user_id=ada))
    [(_, status, error)] = scene.work()
    assert (status, "is not one of the tenant" in str(error)) == ("failed", True)
    assert scene.traces("zaphod")


def test_a_user_whom_a_hold_keeps_is_not_erased(scene: Scene) -> None:
    ada = scene.ours.row("identity.users")["id"]
    hold = {"table_schema": "identity", "table_name": "users", "filter": {}, "is_held": True, "hold_reason": "why"}
    scene.ours.row("ops.retention_policies", name="case 7", **hold)
    enqueue(scene.database.connect("operator"), EraseUser(tenant_id=scene.ours.tenant_id, user_id=ada))
    [(_, status, error)] = scene.work()
    assert (status, f"the user {ada} is held" in str(error)) == ("failed", True)
    assert scene.database.rows("SELECT id FROM identity.users") == [(ada,)]
