"""What goes wrong with a server is told in a sentence, stops nothing else, and loses no mail."""

import time
from uuid import uuid4

import pytest

from tests.support.imap_line import Alter, as_it_is, cut_at, imap_line, instead
from tests.support.mailboxes import Mailboxes, mail_of, mailboxes

HUGE = b"* 1 FETCH (UID 1 BODY[] {4000000000}\r\n" + b"x" * 100


def test_a_login_that_is_refused(boxes: Mailboxes) -> None:
    user = f"u{uuid4().hex}"
    boxes.server.deliver(user, [mail_of("waits")])
    mailbox = boxes.mailbox(user, secret="not-the-password")
    for failed in (1, 2):
        run = boxes.poll(mailbox)
        assert (run.outcome, run.status) == ("done", "done")
        error, count, _ = boxes.state(mailbox)
        assert "refuses the login" in error
        assert "not-the-password" not in error
        assert count == failed


def test_a_certificate_of_nobody_we_know_is_refused(boxes: Mailboxes) -> None:
    user = f"u{uuid4().hex}"
    boxes.server.deliver(user, [mail_of("waits")])
    with mailboxes(boxes.database, boxes.factory, boxes.server, ca_file=None) as strict:
        for security, port in (("tls", boxes.server.tls_port), ("starttls", boxes.server.port)):
            address = f"{uuid4()}@example.org"
            mailbox = strict.mailbox(user, address=address, imap_security=security, imap_port=port)
            strict.poll(mailbox)
            assert "certificate" in strict.state(mailbox)[0]
            assert strict.emails(mailbox) == []


def test_a_certificate_for_another_name_is_refused(boxes: Mailboxes) -> None:
    mailbox = boxes.mailbox(f"u{uuid4().hex}", imap_host="127.0.0.2")
    with imap_line(boxes.server.tls_port, "127.0.0.2") as line:
        boxes.database.rows("UPDATE mail.mailboxes SET imap_port = %s WHERE id = %s", (line.port, mailbox))
        boxes.poll(mailbox)
    assert "certificate" in boxes.state(mailbox)[0]


def test_a_line_that_breaks_in_a_mail_costs_that_mail_alone(boxes: Mailboxes) -> None:
    user = f"u{uuid4().hex}"
    boxes.server.deliver(user, [mail_of(f"mail {n}", "CUT" if n == 3 else "fine") for n in range(6)])
    with imap_line(boxes.server.port) as line:
        mailbox = boxes.mailbox(user, imap_security="none", imap_port=line.port)
        line.alter = cut_at(b"CUT")
        for _ in range(3):
            boxes.poll(mailbox)
        assert boxes.subjects(mailbox) == ["mail 0", "mail 1", "mail 2"]
        assert "broke the connection off" in boxes.state(mailbox)[0]
        line.alter = as_it_is
        boxes.poll(mailbox)
    assert boxes.subjects(mailbox) == [f"mail {n}" for n in range(6)]
    assert boxes.state(mailbox) == (None, 0, True)


@pytest.mark.parametrize(
    ("alter", "told"),
    [
        (instead(b"\x00\xff" * 400 + b"\r\n", behind=b"BODY[]"), "not IMAP"),
        (instead(b"* 1 FETCH (((((\r\nA OK\r\n", behind=b"BODY[]"), "not IMAP"),
        (instead(HUGE, behind=b"BODY[]"), "not IMAP"),
        (instead(b"", behind=b"BODY[]"), "did not answer in time"),
        (instead(b"* BYE over capacity\r\n", behind=b"* OK"), "refuses: "),
    ],
    ids=["bytes", "brackets", "huge", "silent", "bye"],
)
def test_answers_that_are_none(boxes: Mailboxes, alter: Alter, told: str) -> None:
    user = f"u{uuid4().hex}"
    boxes.server.deliver(user, [mail_of("the subject")])
    with (
        imap_line(boxes.server.port) as line,
        mailboxes(boxes.database, boxes.factory, boxes.server, silence_seconds=0.5) as hasty,
    ):
        mailbox = hasty.mailbox(user, imap_security="none", imap_port=line.port)
        line.alter = alter
        began = time.monotonic()
        assert hasty.poll(mailbox).outcome == "done"
        assert time.monotonic() - began < 10
        error = hasty.state(mailbox)[0]
        assert told in error
        assert "subject" not in error
        line.alter = as_it_is
        hasty.poll(mailbox)
        assert hasty.subjects(mailbox) == ["the subject"]


def test_nobody_listens(boxes: Mailboxes) -> None:
    mailbox = boxes.mailbox(f"u{uuid4().hex}", imap_port=1)
    boxes.poll(mailbox)
    assert "cannot be reached (Connection refused)" in boxes.state(mailbox)[0]
