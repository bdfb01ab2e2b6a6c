"""Mail: what the database sees to by itself, and what it lets no login do."""

from collections.abc import Iterator
from uuid import UUID, uuid4

import psycopg
import pytest

from db.connection import Connection
from tests.support.database import Database
from tests.support.factory import Factory, Row
from tests.support.tenants import (
    acting,
    ids,
    let_go,
)

TABLES = ("mail.attachments", "mail.emails", "mail.folders", "mail.mailboxes")
SERVER = {"imap_host": "localhost", "imap_port": 143, "imap_security": "none", "imap_login": "password"}
RECEIVE = """
INSERT INTO mail.emails
    (tenant_id, persona_id, mailbox_id, folder, uidvalidity, uid, direction, status, from_email, to_email)
SELECT tenant_id, persona_id, id, 'INBOX', %s, %s, 'inbound', 'received', '', '' FROM mail.mailboxes WHERE id = %s
ON CONFLICT DO NOTHING RETURNING id
"""
SEND = """
INSERT INTO mail.emails (tenant_id, persona_id, mailbox_id, direction, status, from_email, to_email)
SELECT tenant_id, persona_id, id, 'outbound', 'queued', address, 'b@example.com' FROM mail.mailboxes WHERE id = %s
RETURNING id
"""


@pytest.fixture
def worker(shared: Database, ours: Factory) -> Iterator[Connection]:
    """A worker's transaction, bound to our tenant."""
    with acting(shared, "worker", ours.tenant_id) as connection:
        yield connection


@pytest.fixture
def rows(ours: Factory) -> dict[str, Row]:
    return fill(ours)


def fill(factory: Factory) -> dict[str, Row]:
    """Make a mailbox with a folder, a mail from it and its attachment, all of one run."""
    collection = factory.row("knowledge.collections", slug="mails")
    agent = factory.row("assistants.agents", slug="clerk")
    run = factory.row("assistants.runs", agent_id=agent["id"], trace_id=f"run-{uuid4()}")
    secret = factory.row("vault.secrets", persona_id=run["persona_id"])
    mailbox = factory.row(
        "mail.mailboxes",
        persona_id=run["persona_id"],
        imap_username="ada",
        imap_secret_id=secret["id"],
        collection_id=collection["id"],
        **SERVER,
    )
    persona = {"persona_id": run["persona_id"], "mailbox_id": mailbox["id"], "run_id": run["id"]}
    mail = factory.row("mail.emails", folder="INBOX", uidvalidity=1, uid=1, **persona)
    return {
        "knowledge.collections": collection,
        "assistants.runs": run,
        "vault.secrets": secret,
        "mail.mailboxes": mailbox,
        "mail.folders": factory.row("mail.folders", mailbox_id=mailbox["id"]),
        "mail.emails": mail,
        "mail.attachments": factory.row("mail.attachments", email_id=mail["id"], run_id=run["id"]),
    }


def key(rows: dict[str, Row], table: str) -> tuple[UUID]:
    return (rows[table]["id"],)


def test_a_mail_does_not_stand_in_another_tenants_mailbox(ours: Factory, theirs: Factory) -> None:
    mailbox = fill(theirs)["mail.mailboxes"]
    with pytest.raises(psycopg.errors.ForeignKeyViolation, match="emails_mailbox_id_tenant_id_fkey"):
        ours.row("mail.emails", mailbox_id=mailbox["id"])


def test_a_mailboxs_secret_stays_as_long_as_it_is_used(rows: dict[str, Row], worker: Connection) -> None:
    delete = b"DELETE FROM vault.secrets WHERE id = %s"
    with pytest.raises(psycopg.IntegrityError, match="mailboxes_imap_secret_id_tenant_id_fkey"), worker.transaction():
        worker.execute(delete, key(rows, "vault.secrets"))
    worker.execute("DELETE FROM mail.mailboxes WHERE id = %s", key(rows, "mail.mailboxes"))
    assert worker.execute(delete, key(rows, "vault.secrets")).rowcount == 1


def test_a_mailbox_goes_with_its_folders_and_leaves_its_mail(
    ours: Factory, rows: dict[str, Row], worker: Connection
) -> None:
    worker.execute("DELETE FROM mail.mailboxes WHERE id = %s", key(rows, "mail.mailboxes"))
    assert ids(worker, "mail.folders") == set()
    assert worker.execute("SELECT tenant_id, mailbox_id FROM mail.emails").fetchall() == [(ours.tenant_id, None)]


def test_mail_and_files_outlive_their_run(ours: Factory, rows: dict[str, Row], worker: Connection) -> None:
    worker.execute("DELETE FROM assistants.runs WHERE id = %s", key(rows, "assistants.runs"))
    for query in ("SELECT tenant_id, run_id FROM mail.emails", "SELECT tenant_id, run_id FROM mail.attachments"):
        assert worker.execute(query.encode()).fetchall() == [(ours.tenant_id, None)]


def test_a_mailbox_outlives_the_collection_of_its_documents(
    ours: Factory, rows: dict[str, Row], worker: Connection
) -> None:
    worker.execute("DELETE FROM knowledge.collections WHERE id = %s", key(rows, "knowledge.collections"))
    found = worker.execute("SELECT tenant_id, collection_id FROM mail.mailboxes").fetchall()
    assert found == [(ours.tenant_id, None)]


def test_a_personas_mail_goes_with_it(rows: dict[str, Row], worker: Connection) -> None:
    persona_id = rows["mail.mailboxes"]["persona_id"]
    assert worker.execute("DELETE FROM assistants.personas WHERE id = %s", (persona_id,)).rowcount == 1
    assert [ids(worker, table) for table in (*TABLES, "vault.secrets")] == [set()] * 5


def test_a_tenants_mail_goes_with_it(shared: Database, ours: Factory, rows: dict[str, Row], worker: Connection) -> None:
    assert rows
    let_go(ours.owner, ours.tenant_id)
    assert [ids(worker, table) for table in TABLES] == [set()] * 4


def test_a_mail_is_received_once_until_its_folder_is_numbered_anew(rows: dict[str, Row], worker: Connection) -> None:
    mailbox = key(rows, "mail.mailboxes")
    assert worker.execute(RECEIVE.encode(), (1, 1, *mailbox)).fetchall() == []
    assert len(worker.execute(RECEIVE.encode(), (1, 2, *mailbox)).fetchall()) == 1
    assert len(worker.execute(RECEIVE.encode(), (2, 1, *mailbox)).fetchall()) == 1


def test_a_mail_is_marked_before_it_is_sent(rows: dict[str, Row], worker: Connection) -> None:
    [mail] = worker.execute(SEND.encode(), key(rows, "mail.mailboxes")).fetchall()
    for change, constraint in (
        ("status = 'sending', message_id = NULL, sending_at = now()", "emails_identified_check"),
        ("status = 'sending', message_id = '<1@x>'", "emails_marked_check"),
        ("status = 'sent', message_id = '<1@x>', sending_at = now()", "emails_sent_check"),
        ("status = 'received'", "emails_direction_status_check"),
    ):
        with pytest.raises(psycopg.errors.CheckViolation, match=constraint), worker.transaction():
            worker.execute(update(change), mail)
    for change in (
        "status = 'sending', message_id = '<1@x>', sending_at = now()",
        "status = 'unknown'",
        "status = 'sent', sent_at = now()",
    ):
        assert worker.execute(update(change), mail).rowcount == 1


def update(change: str) -> bytes:
    return b"UPDATE mail.emails SET " + change.encode() + b" WHERE id = %s"


@pytest.mark.parametrize(
    ("host", "is_here"),
    [("localhost", True), ("::1", True), ("127.9.8.7", True), ("127.0.0.1.example.com", False), ("localhost\n", False)],
)
def test_a_login_in_clear_text_stays_on_this_machine(
    rows: dict[str, Row], worker: Connection, host: str, is_here: bool
) -> None:
    change = b"UPDATE mail.mailboxes SET imap_host = %s WHERE id = %s"
    if is_here:
        assert worker.execute(change, (host, *key(rows, "mail.mailboxes"))).rowcount == 1
        return
    with pytest.raises(psycopg.errors.CheckViolation, match="mailboxes_imap_loopback_check"):
        worker.execute(change, (host, *key(rows, "mail.mailboxes")))
