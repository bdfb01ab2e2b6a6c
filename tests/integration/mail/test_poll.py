"""Mailboxes are read: each mail once, whatever the server's numbering does, with its files and its documents."""

import hashlib
from uuid import uuid4

import pytest

from tests.support.dovecot import PASSWORD, access_token
from tests.support.mailboxes import Mailboxes, mail_of

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
