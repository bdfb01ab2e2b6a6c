"""A mail of which nobody knows is held: its worker was killed, or its task ended, between the marker and the answer."""

import json
import os
import signal
from collections.abc import Iterator

import psycopg
import pytest

from core.errors import NotFoundError, UsageError
from db import outbound
from db.connection import bind_tenant, connect
from pipelines.enqueue import enqueue
from pipelines.mail.outbound import SettleEmails
from tests.support.mail_worker import rescue, sending
from tests.support.post import TENANT, Post
from tests.support.smtp import HANG, MailServer

CANCEL = "DELETE FROM queue.tasks_live"
DEEDS = "SELECT event_type FROM audit.audit_events WHERE event_type LIKE 'mail.%' ORDER BY created_at, id"


def test_a_worker_that_is_killed_before_the_answer_leaves_one_copy_and_an_unknown_mail(
    post: Post, server: MailServer
) -> None:
    server.data = lambda: HANG
    email_id = post.queue(post.mailbox(server.port))
    with sending(post) as process:
        assert server.given.wait(20)
        assert post.status(email_id) == "sending"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    server.release.set()
    rescue(post)
    assert post.run().outcomes == {("email.send", "done"): 1}
    row = post.row(email_id)
    assert (row["status"], row["attempt_count"], len(server.taken)) == ("unknown", 1, 1)
    assert "before it had the answer" in row["error_message"]


def test_a_mail_whose_task_is_gone_is_settled(post: Post, server: MailServer) -> None:
    mailbox = post.mailbox(server.port)
    given, waiting, living = (post.queue(mailbox) for _ in range(3))
    post.database.rows("UPDATE mail.emails SET status = 'sending', sending_at = now() WHERE id = %s", (given,))
    post.database.rows(f"{CANCEL} WHERE owner_id = ANY (%s)", ([given, waiting],))
    post.database.rows("UPDATE mail.mailboxes SET is_paused = true")
    enqueue(post.database.connect(), SettleEmails())
    assert post.run().outcomes == {
        ("email.send", "snooze"): 1,
        ("emails.settle", "snooze"): 1,
        ("emails.settle", "done"): 1,
    }
    assert [post.status(each) for each in (given, waiting, living)] == ["unknown", "failed", "queued"]
    assert post.row(waiting)["error_message"] == outbound.LEFT_ALONE


@pytest.fixture
def operator(post: Post) -> Iterator[psycopg.Connection]:
    with connect(post.database.url("operator"), name="test") as connection, connection.transaction():
        bind_tenant(connection, TENANT)
        yield connection


def held(post: Post, server: MailServer) -> outbound.Unknown:
    """Return a mail that is unknown, its task ended."""
    post.queue(post.mailbox(server.port), subject="Held")
    post.database.rows("UPDATE mail.emails SET status = 'sending', sending_at = now()")
    post.run()
    with connect(post.database.url("operator"), name="test") as connection, connection.transaction():
        bind_tenant(connection, TENANT)
        [found] = outbound.unknown(connection)
    return found


def test_an_operator_sends_it_again_with_its_message_id(
    post: Post, server: MailServer, operator: psycopg.Connection
) -> None:
    found = held(post, server)
    assert (found.subject, found.mailbox, found.to_emails) == ("Held", "ada@example.com", ["bo@example.org"])
    with connect(post.database.url("operator"), name="test") as connection, connection.transaction():
        bind_tenant(connection, TENANT)
        assert [(slug, count) for slug, count, _ in outbound.count_unknown(connection)] == [("default", 1)]
        outbound.resend(connection, found.id)
    assert post.run().outcomes == {("email.send", "done"): 1}
    [taken] = server.taken
    assert (post.status(found.id), taken.message["Message-ID"]) == ("sent", found.message_id)
    with pytest.raises(UsageError, match="the mail is sent"):
        outbound.resend(operator, found.id)
    with pytest.raises(NotFoundError):
        outbound.mark_sent(operator, TENANT)
    assert post.database.rows(DEEDS) == [("mail.resent",)]


def test_an_operator_says_that_it_was_sent(post: Post, server: MailServer, operator: psycopg.Connection) -> None:
    found = held(post, server)
    outbound.mark_sent(operator, found.id)
    assert outbound.unknown(operator) == []
    [row] = operator.execute("SELECT status, sent_at = sending_at FROM mail.emails").fetchall()
    assert row == ("sent", True)
    assert operator.execute(DEEDS.encode()).fetchall() == [("mail.marked_sent",)]


def test_a_replayed_task_of_a_mail_that_failed_sends_it_and_of_one_that_is_unknown_does_not(
    post: Post, server: MailServer
) -> None:
    server.data = lambda: "554 no"
    email_id = post.queue(post.mailbox(server.port))
    post.run()
    assert post.status(email_id) == "failed"
    server.data = MailServer().data
    post.database.rows("SELECT queue.enqueue('email.send', %s)", (json.dumps({"email_id": str(email_id)}),))
    post.run()
    assert post.status(email_id) == "sent"
    post.database.rows("UPDATE mail.emails SET status = 'unknown'")
    post.database.rows("SELECT queue.enqueue('email.send', %s)", (json.dumps({"email_id": str(email_id)}),))
    assert post.run().outcomes == {("email.send", "done"): 1}
    assert (post.status(email_id), len(server.taken)) == ("unknown", 1)
