"""Mail out: a row that is written is sent once, and whatever the server says of it stands on the row."""

from pathlib import Path
from uuid import UUID, uuid4

import pytest

from core import events
from core.errors import NotFoundError, UsageError
from db.connection import bind_tenant, connect
from pipelines.mail.outbound import File, Mail, send_email
from pipelines.storage import LocalStorage
from tests.support.post import TENANT, Post, sending_resources
from tests.support.smtp import CLOSE, HANG, OK, MailServer, mail_server

PLAIN = """INSERT INTO mail.emails (tenant_id, persona_id, mailbox_id, direction, status, to_emails, subject, body_text)
SELECT tenant_id, persona_id, id, 'outbound', 'queued', ARRAY['bo@example.org'], 'Plain', 'by SQL' FROM mail.mailboxes
RETURNING id"""
ERRORS = "SELECT last_error FROM queue.outbox_tasks WHERE task_type = 'email.send'"


def test_a_row_that_a_producer_inserts_is_completed_and_sent(post: Post, server: MailServer) -> None:
    post.mailbox(server.port)
    [(email_id,)] = post.database.rows(PLAIN)
    queued = post.row(email_id)
    assert (queued["status"], queued["from_email"], queued["to_email"]) == (
        "queued",
        "ada@example.com",
        "bo@example.org",
    )
    assert queued["message_id"] == f"<{email_id}@example.com>" == queued["thread_id"]
    assert post.run().outcomes == {("email.send", "done"): 1}
    [taken] = server.taken
    assert (taken.sender, taken.recipients) == ("ada@example.com", ["bo@example.org"])
    assert taken.message["Message-ID"] == queued["message_id"]
    sent = post.row(email_id)
    assert (sent["status"], sent["size_bytes"], sent["attempt_count"], sent["refused"]) == (
        "sent",
        len(taken.content),
        1,
        [],
    )
    assert sent["sending_at"] <= sent["sent_at"]
    [(told, outcome)] = post.database.rows(
        "SELECT event_type, status FROM audit.audit_events WHERE resource_type = 'email'"
    )
    assert (told, outcome) == ("email_sent", "success")


def test_a_mail_goes_with_its_thread_its_files_and_its_bcc(post: Post, server: MailServer) -> None:
    mailbox = post.mailbox(server.port)
    source = post.folder / "a.bin"
    source.write_bytes(b"\r\n.\r\nfile" * 300_000)
    stored = LocalStorage(post.folder / "storage").put(TENANT, source)
    first = post.queue(mailbox, subject="First")
    answered = post.row(first)
    email_id = post.queue(
        mailbox,
        to=["Bö <bo@bücher.example>"],
        cc=["cy@example.org"],
        bcc=["di@example.org"],
        subject="Grüße",
        text="Zeile\n.\n..\nFrom x",
        html="<p>Zeile</p>",
        in_reply_to=answered["message_id"],
        headers={"Reply-To": "desk@example.com"},
        files=[File("räport.bin", stored.key, stored.size, "application/pdf", stored.sha256)],
    )
    post.run(sending_resources(post.folder / "storage"))
    taken = next(each for each in server.taken if len(each.recipients) > 1)
    assert set(taken.recipients) == {"bo@xn--bcher-kva.example", "cy@example.org", "di@example.org"}
    message = taken.message
    assert (message["Subject"], message["Reply-To"], message["Bcc"]) == ("Grüße", "desk@example.com", None)
    assert message["In-Reply-To"] == message["References"] == answered["message_id"]
    assert post.row(email_id)["thread_id"] == answered["thread_id"]
    text, html = message.get_body(("plain",)), message.get_body(("html",))
    assert text is not None
    assert html is not None
    assert text.get_content().splitlines() == ["Zeile", ".", "..", "From x"]
    [attachment] = message.iter_attachments()
    assert attachment.get_filename() == "räport.bin"
    assert attachment.get_payload(decode=True) == source.read_bytes()


def test_what_the_producer_rolls_back_is_not_sent(post: Post, server: MailServer) -> None:
    mailbox = post.mailbox(server.port)
    with connect(post.database.url("operator"), name="test") as connection:
        with connection.transaction(force_rollback=True):
            bind_tenant(connection, TENANT)
            send_email(connection, mailbox, Mail(to=["bo@example.org"]))
        with connection.transaction():
            bind_tenant(connection, uuid4())
            with pytest.raises(NotFoundError):
                send_email(connection, mailbox, Mail(to=["bo@example.org"]))
        with pytest.raises(UsageError, match="line breaks"):
            send_email(connection, mailbox, Mail(to=["bo@example.org"], subject="Hi\r\nBcc: eve@example.org"))
    assert post.run().attempts == ()
    assert server.taken == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("UPDATE mail.emails SET subject = E'Hi\\r\\nBcc: eve@example.org'", "subject has a line break"),
        ("UPDATE mail.emails SET cc = E'bo@example.org\\nX: y'", "cc has a line break"),
        ("UPDATE mail.emails SET to_emails = ARRAY['no address']", "to_emails holds what is no address"),
        ("UPDATE mail.emails SET to_emails = '{}'", "the mail has no recipient"),
        ("UPDATE mail.emails SET message_id = E'<a>\\r\\nX: y'", "message_id is no Message-ID"),
        ('UPDATE mail.emails SET headers = \'{"X-A": "b\\u000ac"}\'', "the header X-A has a line break"),
        ('UPDATE mail.emails SET headers = \'{"bcc": "eve@example.org"}\'', "headers has bcc"),
        ("UPDATE mail.emails SET mailbox_id = NULL", "mailbox is gone"),
    ],
)
def test_what_cannot_be_a_mail_fails_for_good(post: Post, server: MailServer, change: str, says: str) -> None:
    email_id = post.queue(post.mailbox(server.port))
    post.database.rows(change)
    assert post.run().outcomes == {("email.send", "fail"): 1}
    row = post.row(email_id)
    assert row["status"] == "failed"
    assert says in row["error_message"]
    assert server.taken == []


def test_words_of_the_server_stay_on_the_row(post: Post, server: MailServer, recorded: list[events.Event]) -> None:
    server.sender = "550 5.1.0 <ada@example.com> has no right to"
    email_id = post.queue(post.mailbox(server.port))
    assert post.run().outcomes == {("email.send", "fail"): 1}
    row = post.row(email_id)
    assert (row["status"], row["error_code"]) == ("failed", 550)
    assert row["error_message"] == "5.1.0 <ada@example.com> has no right to"
    assert post.database.value(ERRORS) == "the server refused the mail (550): its row has the server's words"
    [given] = [event for event in recorded if isinstance(event, events.MailGiven)]
    assert (given.outcome, given.code) == ("failed", 550)
    assert "example.com" not in repr(recorded)


def test_a_refusal_for_now_waits_and_is_sent_later(post: Post, server: MailServer) -> None:
    answers = iter(["451 4.3.0 try again", OK])
    server.data = lambda: next(answers)
    email_id = post.queue(post.mailbox(server.port))
    assert post.run().outcomes == {("email.send", "retry"): 1}
    row = post.row(email_id)
    assert (row["status"], row["sending_at"], row["error_code"], row["error_message"]) == (
        "queued",
        None,
        451,
        "4.3.0 try again",
    )
    assert post.run().outcomes == {("email.send", "done"): 1}
    assert (post.status(email_id), post.row(email_id)["error_code"], len(server.taken)) == ("sent", None, 1)


def test_who_is_refused_for_ever_has_failed_with_its_task(post: Post, server: MailServer) -> None:
    server.data = lambda: "452 4.2.2 full"
    email_id = post.queue(post.mailbox(server.port))
    outcomes = [post.run().outcomes for _ in range(3)]
    assert outcomes == [{("email.send", "retry"): 1}, {("email.send", "retry"): 1}, {("email.send", "fail"): 1}]
    assert post.status(email_id) == "failed"


def test_recipients_that_are_refused_are_recorded_and_the_others_get_it(post: Post, server: MailServer) -> None:
    server.rcpt = {"no@example.org": "550 5.1.1 <no@example.org> unknown"}
    email_id = post.queue(post.mailbox(server.port), to=["bo@example.org", "no@example.org"])
    assert post.run().outcomes == {("email.send", "done"): 1}
    row = post.row(email_id)
    refused = {"email": "no@example.org", "code": 550, "message": "5.1.1 <no@example.org> unknown"}
    assert (row["status"], row["refused"]) == ("sent", [refused])
    assert [taken.recipients for taken in server.taken] == [["bo@example.org"]]


def test_recipients_that_are_refused_for_now_are_waited_for(post: Post, server: MailServer) -> None:
    server.rcpt = {"grey@example.org": "451 4.7.1 greylisted"}
    email_id = post.queue(post.mailbox(server.port), to=["bo@example.org", "grey@example.org"])
    assert post.run().outcomes == {("email.send", "retry"): 1}
    assert (post.status(email_id), server.taken) == ("queued", [])
    server.rcpt = {}
    post.run()
    assert [taken.recipients for taken in server.taken] == [["bo@example.org", "grey@example.org"]]


@pytest.mark.parametrize("answer", [HANG, CLOSE])
def test_a_server_that_does_not_say_that_it_has_the_mail_is_not_given_it_again(
    post: Post, server: MailServer, answer: str, tmp_path: Path
) -> None:
    server.data = lambda: answer
    email_id = post.queue(post.mailbox(server.port))
    quick = sending_resources(tmp_path, data=0.7)
    assert post.run(quick).outcomes == {("email.send", "done"): 1}
    server.release.set()
    row = post.row(email_id)
    assert (row["status"], row["error_message"]) == ("unknown", "the server was given the mail and did not answer")
    assert post.run(quick).attempts == ()
    assert len(server.taken) == 1


def test_a_server_that_breaks_off_before_the_mail_is_whole_is_tried_again(post: Post, server: MailServer) -> None:
    with_closed_port = post.mailbox(1)
    email_id = post.queue(with_closed_port)
    assert post.run().outcomes == {("email.send", "retry"): 1}
    assert (post.status(email_id), "cannot be reached" in post.row(email_id)["error_message"]) == ("queued", True)
    post.database.rows("UPDATE mail.mailboxes SET smtp_port = %s", (server.port,))
    post.run()
    assert post.status(email_id) == "sent"


def test_a_mail_larger_than_the_server_takes_fails(post: Post) -> None:
    with mail_server(data_size_limit=5000) as small:
        email_id = post.queue(post.mailbox(small.port), text="x" * 5000)
        assert post.run().outcomes == {("email.send", "fail"): 1}
        assert small.taken == []
    assert "takes 5000 at most" in post.row(email_id)["error_message"]


def limited(post: Post, server: MailServer, count: int, limit: int) -> list[UUID]:
    mailbox = post.mailbox(server.port, rate_limit=limit, rate_limit_seconds=3600)
    return [post.queue(mailbox) for _ in range(count)]


def test_a_mailbox_sends_no_more_than_its_limit(post: Post, server: MailServer) -> None:
    ids = limited(post, server, 5, 2)
    assert post.run().outcomes == {("email.send", "done"): 2, ("email.send", "snooze"): 3}
    assert len(server.taken) == 2
    assert {post.status(each) for each in ids} == {"queued", "sent"}
    waits = "SELECT min(run_after - now()) > interval '59 minutes', max(attempts) FROM queue.tasks_live"
    assert post.database.rows(waits) == [(True, 0)]
    post.database.rows(
        "UPDATE mail.emails SET sending_at = sending_at - interval '1 hour' WHERE sending_at IS NOT NULL"
    )
    assert post.run().outcomes == {("email.send", "done"): 2, ("email.send", "snooze"): 1}
    assert len(server.taken) == 4


def test_what_stands_under_a_marker_is_held_and_never_given_again(post: Post, server: MailServer) -> None:
    email_id = post.queue(post.mailbox(server.port))
    post.database.rows("UPDATE mail.emails SET status = 'sending', sending_at = now()")
    assert post.run().outcomes == {("email.send", "done"): 1}
    assert (post.status(email_id), server.taken) == ("unknown", [])
