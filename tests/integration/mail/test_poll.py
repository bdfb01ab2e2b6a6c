"""Mailboxes are read: each mail once, whatever the server's numbering does, with its files and its documents."""

import hashlib
from uuid import uuid4

import pytest

from pipelines.mail.payloads import PollMailboxes
from tests.support.database import Database
from tests.support.dovecot import PASSWORD, access_token
from tests.support.mailboxes import POLL_ALL, REGISTRY, Mailboxes, mail_of, mailboxes
from workers.testing import run_task

PLACES = "SELECT id, uidvalidity, uid FROM mail.emails WHERE mailbox_id = %s ORDER BY uid"
LIVE = "SELECT payload ->> 'mailbox_id' FROM queue.tasks_live WHERE task_type = 'mailbox.poll' AND tenant_id = %s"
DOCUMENTS = """
SELECT d.name, d.source, d.file_path, d.metadata,
    (SELECT count(*) FROM queue.tasks_live t WHERE t.owner_id = d.id AND t.task_type = 'document.ingest')
FROM knowledge.documents d WHERE d.tenant_id = %s ORDER BY d.name
"""
FILES = "SELECT a.name, a.file_path, a.checksum FROM mail.attachments a WHERE a.tenant_id = %s ORDER BY a.name"


def test_mails_of_an_inbox_become_rows(boxes: Mailboxes) -> None:
    user = f"u{uuid4().hex}"
    boxes.server.deliver(user, [mail_of(f"mail {n}", f"text {n}") for n in range(3)])
    mailbox = boxes.mailbox(user)
    run = boxes.poll(mailbox)
    assert (run.outcome, run.status) == ("done", "done"), run.error
    assert [row[:4] for row in boxes.emails(mailbox)] == [
        ("INBOX", n + 1, f"mail {n}", f"text {n}\n") for n in range(3)
    ]
    assert boxes.state(mailbox) == (None, 0, True)
    boxes.server.deliver(user, [mail_of("one more")])
    assert boxes.poll(mailbox).outcome == "done"
    assert boxes.subjects(mailbox) == ["mail 0", "mail 1", "mail 2", "one more"]


def test_polling_leaves_mails_unread(boxes: Mailboxes) -> None:
    user = f"u{uuid4().hex}"
    boxes.server.deliver(user, [mail_of("unread")])
    boxes.poll(boxes.mailbox(user))
    with boxes.server.client(user) as client:
        client.select_folder("INBOX", readonly=True)
        assert client.search(["SEEN"]) == []
        assert client.search(["UNSEEN"]) == [1]


def test_attachments_stand_in_storage(boxes: Mailboxes) -> None:
    user, content = f"u{uuid4().hex}", b"\x00\x01 bytes" * 1000
    boxes.server.deliver(user, [mail_of("files", files={"a.bin": content, "b.bin": b"other"})])
    assert boxes.poll(boxes.mailbox(user)).outcome == "done"
    found = boxes.database.rows(FILES, (boxes.tenant_id,))
    assert [name for name, _, _ in found] == ["a.bin", "b.bin"]
    for (_, path, checksum), expected in zip(found, (content, b"other"), strict=True):
        assert (boxes.folder / path).read_bytes() == expected
        assert checksum == hashlib.sha256(expected).digest()


@pytest.mark.parametrize(("security", "login"), [("tls", "xoauth2"), ("starttls", "password"), ("none", "password")])
def test_the_ways_to_log_in(boxes: Mailboxes, security: str, login: str) -> None:
    user = f"u{uuid4().hex}"
    boxes.server.deliver(user, [mail_of("found")])
    port = boxes.server.tls_port if security == "tls" else boxes.server.port
    secret = access_token(user) if login == "xoauth2" else PASSWORD
    mailbox = boxes.mailbox(user, secret=secret, imap_security=security, imap_login=login, imap_port=port)
    assert boxes.poll(mailbox).outcome == "done"
    assert boxes.state(mailbox) == (None, 0, True)
    assert boxes.subjects(mailbox) == ["found"]


def test_renumbered_mails_are_known_again(boxes: Mailboxes) -> None:
    user = f"u{uuid4().hex}"
    twin = mail_of("twin")
    boxes.server.deliver(user, [mail_of("first"), twin, twin, mail_of("last")])
    mailbox = boxes.mailbox(user)
    boxes.poll(mailbox)
    before = boxes.database.rows(PLACES, (mailbox,))
    boxes.server.renumber(user)
    boxes.server.deliver(user, [mail_of("newer")])
    assert boxes.poll(mailbox).outcome == "done"
    after = boxes.database.rows(PLACES, (mailbox,))
    assert [row[0] for row in after[:4]] == [row[0] for row in before]
    assert len(after) == 5
    assert len({row[1] for row in after}) == 1
    assert before[0][1] not in {row[1] for row in after}


def test_a_mail_that_moves_is_one_mail_and_one_that_goes_stays(boxes: Mailboxes) -> None:
    user = f"u{uuid4().hex}"
    boxes.server.deliver(user, [mail_of("moves"), mail_of("goes")])
    mailbox = boxes.mailbox(user, folders=("INBOX", "Entwürfe & Co"))
    boxes.server.deliver(user, [mail_of("there")], "Entwürfe & Co")
    boxes.poll(mailbox)
    with boxes.server.client(user) as client:
        client.select_folder("INBOX")
        client.move([1], "Entwürfe & Co")
        client.delete_messages([2])
        client.expunge()
    assert boxes.poll(mailbox).outcome == "done"
    assert [(row[0], row[2]) for row in boxes.emails(mailbox)] == [
        ("Entwürfe & Co", "there"),
        ("Entwürfe & Co", "moves"),
        ("INBOX", "goes"),
    ]


def test_a_folder_that_is_missing_keeps_no_other_from_being_read(boxes: Mailboxes) -> None:
    user = f"u{uuid4().hex}"
    boxes.server.deliver(user, [mail_of("read")])
    mailbox = boxes.mailbox(user, folders=("INBOX", "Gone"))
    assert boxes.poll(mailbox).result["error"].startswith("the folder 'Gone' cannot be opened")
    assert boxes.subjects(mailbox) == ["read"]
    assert boxes.state(mailbox)[1:] == (1, True)
    boxes.server.deliver(user, [mail_of("back")], "Gone")
    boxes.poll(mailbox)
    assert boxes.state(mailbox) == (None, 0, True)
    assert boxes.subjects(mailbox) == ["back", "read"]


def test_wide_gaps_between_mails(boxes: Mailboxes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.mail.reading._MOST_MAILS", 3)
    user = f"u{uuid4().hex}"
    boxes.server.deliver(user, [mail_of(f"mail {n}") for n in range(30)])
    with boxes.server.client(user) as client:
        client.select_folder("INBOX")
        client.delete_messages(range(2, 25))
        client.expunge()
    mailbox = boxes.mailbox(user)
    boxes.poll(mailbox)
    assert [row[1] for row in boxes.emails(mailbox)] == [1, *range(25, 31)]
    [(last_uid,)] = boxes.database.rows("SELECT last_uid FROM mail.folders WHERE mailbox_id = %s", (mailbox,))
    assert last_uid == 30


def test_of_a_mail_that_is_too_large_the_headers_are_kept(shared: Database, boxes: Mailboxes) -> None:
    user = f"u{uuid4().hex}"
    boxes.server.deliver(user, [mail_of("small"), mail_of("large", "x" * 60 + "\n" * 30_000), mail_of("after")])
    with mailboxes(boxes.database, boxes.factory, boxes.server, max_bytes=20_000) as bounded:
        mailbox = bounded.mailbox(user)
        bounded.poll(mailbox)
        found = bounded.emails(mailbox)
    assert [row[2] for row in found] == ["small", "large", "after"]
    assert [row[3] is None for row in found] == [False, True, False]
    assert "20000 bytes" in found[1][4][0]


def test_a_mail_that_the_database_refuses_stops_no_other(boxes: Mailboxes) -> None:
    user = f"u{uuid4().hex}"
    boxes.server.deliver(user, [mail_of("a"), mail_of("refused", files={"f": b"kept"}), mail_of("c")])
    mailbox = boxes.mailbox(user)
    rule = "ALTER TABLE mail.emails ADD CONSTRAINT strange CHECK (subject <> 'refused') NOT VALID"
    boxes.database.rows(rule)
    try:
        run = boxes.poll(mailbox)
    finally:
        boxes.database.rows("ALTER TABLE mail.emails DROP CONSTRAINT strange")
    assert run.outcome == "done"
    found = boxes.emails(mailbox)
    assert [row[2] for row in found] == ["a", None, "c"]
    assert found[1][4] == ["the database refused the mail (strange): its text is not kept"]
    assert [row[0] for row in boxes.database.rows(FILES, (boxes.tenant_id,))] == ["f"]


def test_answers_find_their_threads(boxes: Mailboxes) -> None:
    user = f"u{uuid4().hex}"
    first, second, third = (f"<{uuid4()}@example.org>" for _ in range(3))
    answers = [
        mail_of("Re: plan", Message_ID=third, In_Reply_To=second),  # before the mail that it answers
        mail_of("plan", Message_ID=first),
        mail_of("Re: plan", Message_ID=second, In_Reply_To=first, References=first),
        mail_of("AW: plan"),  # names none
        mail_of("another"),
    ]
    boxes.server.deliver(user, answers)
    mailbox = boxes.mailbox(user)
    boxes.poll(mailbox)
    threads = [row[5] for row in boxes.emails(mailbox)]
    assert threads[:4] == [threads[1]] * 4
    assert threads[4] != threads[1]


def test_two_polls_at_once_keep_each_mail_once(boxes: Mailboxes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.mail.reading._MOST_MAILS", 5)
    user = f"u{uuid4().hex}"
    boxes.server.deliver(user, [mail_of(f"mail {n:02}", files={"f": b"%d" % n}) for n in range(20)])
    mailbox = boxes.mailbox(user)
    rounds = boxes.poll_at_once(mailbox, 3)
    assert rounds >= 4
    assert boxes.subjects(mailbox) == [f"mail {n:02}" for n in range(20)]


def test_mail_becomes_documents_that_go_with_it(boxes: Mailboxes) -> None:
    user = f"u{uuid4().hex}"
    boxes.server.deliver(
        user, [mail_of("Tea: green", "Sencha is steamed.", files={"notes.txt": b"leaf", "x.bin": b"?"})]
    )
    mailbox = boxes.mailbox(user, bodies_to_documents=True, attachments_to_documents=True)
    assert boxes.poll(mailbox).outcome == "done"
    found = boxes.database.rows(DOCUMENTS, (boxes.tenant_id,))
    assert [(row[0], row[1], row[4]) for row in found] == [("Tea green.txt", "mail", 1), ("notes.txt", "mail", 1)]
    assert (boxes.folder / found[0][2]).read_text() == (
        "Subject: Tea: green\nFrom: anna@example.org\n\nSencha is steamed.\n"
    )
    assert found[0][3]["from"] == "anna@example.org"
    boxes.database.rows("DELETE FROM mail.emails WHERE mailbox_id = %s", (mailbox,))
    assert boxes.database.rows(DOCUMENTS, (boxes.tenant_id,)) == []
    released = boxes.database.rows("SELECT count(*) FROM ops.released_files WHERE tenant_id = %s", (boxes.tenant_id,))
    assert released[0][0] >= 3


def test_a_received_mail_leaves_an_event(boxes: Mailboxes) -> None:
    user = f"u{uuid4().hex}"
    boxes.server.deliver(user, [mail_of("secret subject")])
    boxes.poll(boxes.mailbox(user))
    told = "SELECT event_type, metadata::text FROM audit.audit_events WHERE tenant_id = %s AND resource_type = 'email'"
    [(event, metadata)] = boxes.database.rows(told, (boxes.tenant_id,))
    assert event == "email_received"
    assert "secret" not in metadata


def test_what_is_due_is_polled_by_the_schedule(boxes: Mailboxes) -> None:
    due, paused, failing, sending = (boxes.mailbox(f"u{uuid4().hex}") for _ in range(4))
    change = (
        "UPDATE mail.mailboxes SET is_paused = %s, failed_polls = %s, last_polled_at = now() - %s::interval"
        " WHERE id = %s"
    )
    boxes.database.rows(change, (True, 0, "1 day", paused))
    boxes.database.rows(change, (False, 4, "5 minutes", failing))  # eight minutes after its last
    boxes.database.rows("UPDATE mail.mailboxes SET last_polled_at = now() WHERE id = %s", (sending,))
    for _ in range(2):
        run = run_task(boxes.database, POLL_ALL, PollMailboxes(), registry=REGISTRY)
        assert run.outcome == "done", run.error
    assert boxes.database.rows(LIVE, (boxes.tenant_id,)) == [(str(due),)]
    boxes.database.rows(change, (False, 4, "8 minutes", failing))
    run_task(boxes.database, POLL_ALL, PollMailboxes(), registry=REGISTRY)
    assert {row[0] for row in boxes.database.rows(LIVE, (boxes.tenant_id,))} == {str(due), str(failing)}
    boxes.database.rows("DELETE FROM queue.tasks_live WHERE tenant_id = %s", (boxes.tenant_id,))
