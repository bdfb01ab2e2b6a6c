"""Servers of mail: encrypted and checked in every case, logged in to by password or token, and never believed."""

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from db import outbound
from db.connection import bind_tenant, connect
from tests.support.post import TENANT, Post, sending_resources
from tests.support.smtp import TOKEN, Certificate, MailServer, mail_server, make_certificate


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.mark.parametrize("security", ["tls", "starttls"])
def test_a_mail_goes_encrypted_to_a_server_of_a_private_authority(
    post: Post, certificate: Certificate, security: str
) -> None:
    with mail_server(security, certificate) as server:
        email_id = post.queue(post.mailbox(server.port, smtp_security=security))
        post.run(sending_resources(post.folder, certificate.certificate))
        assert (post.status(email_id), len(server.taken)) == ("sent", 1)


@pytest.mark.parametrize("security", ["tls", "starttls"])
@pytest.mark.parametrize("whose", ["nobody we know", "another host"])
def test_a_certificate_that_is_wrong_is_refused(
    post: Post, certificate: Certificate, security: str, whose: str, tmp_path: Path
) -> None:
    shown = certificate if whose == "nobody we know" else make_certificate(tmp_path, "mail.example.net")
    known = None if whose == "nobody we know" else shown.certificate
    with mail_server(security, shown) as server:
        email_id = post.queue(post.mailbox(server.port, smtp_security=security))
        assert post.run(sending_resources(post.folder, known)).outcomes == {("email.send", "retry"): 1}
        row = post.row(email_id)
        assert (row["status"], server.taken, server.logins) == ("queued", [], [])
        assert "is refused" in row["error_message"]
        assert "GREENROOM_MAIL_CA_FILE" in row["error_message"]


def test_a_server_without_starttls_gets_no_login(post: Post, server: MailServer) -> None:
    email_id = post.queue(post.mailbox(server.port, smtp_security="starttls"))
    post.run()
    assert "does not offer STARTTLS" in post.row(email_id)["error_message"]
    assert server.logins == []


def test_a_token_logs_in_and_a_wrong_one_is_told_of(post: Post, server: MailServer) -> None:
    good = post.queue(post.mailbox(server.port, smtp_login="xoauth2", secret=TOKEN))
    post.run()
    assert (post.status(good), server.logins) == ("sent", ["XOAUTH2"])
    bad = post.queue(post.mailbox(server.port, smtp_login="xoauth2", secret="lapsed-token", address="b@example.com"))
    assert post.run().outcomes == {("email.send", "retry"): 1}
    row = post.row(bad)
    assert (row["status"], row["error_code"], "lapsed" in str(row)) == ("queued", 535, False)


def test_a_password_that_is_refused_is_tried_again_later(post: Post, server: MailServer) -> None:
    email_id = post.queue(post.mailbox(server.port, secret="another-password"))
    assert post.run().outcomes == {("email.send", "retry"): 1}
    told = post.database.value("SELECT last_error FROM queue.tasks_live")
    assert told == f"127.0.0.1:{server.port} refuses the login (535)"
    assert (post.status(email_id), post.row(email_id)["error_code"]) == ("queued", 535)


def test_an_address_beyond_ascii_needs_a_server_that_takes_it(post: Post, server: MailServer) -> None:
    taken = post.queue(post.mailbox(server.port), to=["jürgen@example.org"])
    post.run()
    assert (post.status(taken), server.taken[0].recipients) == ("sent", ["jürgen@example.org"])
    assert server.taken[0].message["To"] == "jürgen@example.org"
    with mail_server(enable_SMTPUTF8=False) as old:
        refused = post.queue(post.mailbox(old.port, address="b@example.com"), to=["jürgen@example.org"])
        assert post.run().outcomes == {("email.send", "fail"): 1}
        assert old.taken == []
    assert "SMTPUTF8" in post.row(refused)["error_message"]
    assert "jürgen" not in post.row(refused)["error_message"]


@contextmanager
def saying(*lines: bytes) -> Iterator[int]:
    """A server that says each of these after it was told something, and the last one for ever; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(10)

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.settimeout(5)
                try:
                    for line in lines[:-1]:
                        connection.sendall(line)
                        if connection.recv(4096) == b"":
                            return
                    while True:
                        connection.sendall(lines[-1])
                except OSError:
                    return

        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
        thread.join()


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ((b"HTTP/1.1 400 Bad Request\r\n",), "that is not SMTP"),
        ((b"554 5.3.2 closed today\r\n",), "closed today"),
        ((b"220 hi\r\n", b"250-" + b"x" * 2000 + b"\r\n"), "that is not SMTP"),
        ((b"220 hi\r\n", b"2" * 10_000), "that is not SMTP"),
        ((b"220 hi\r\n", b"250 hi\r\n"), "does not offer a login"),
    ],
)
def test_a_server_that_talks_nonsense_is_bounded(post: Post, lines: tuple[bytes, ...], says: str) -> None:
    with saying(*lines) as port:
        email_id = post.queue(post.mailbox(port))
        assert post.run(sending_resources(post.folder, seconds=2.0)).outcomes == {("email.send", "retry"): 1}
    assert says in post.row(email_id)["error_message"]


def test_a_silent_server_is_waited_for_and_no_longer(post: Post) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        email_id = post.queue(post.mailbox(listening.getsockname()[1]))
        assert post.run(sending_resources(post.folder, seconds=0.3)).outcomes == {("email.send", "retry"): 1}
    assert "did not answer in time" in post.row(email_id)["error_message"]


def test_what_a_server_adds_in_clear_behind_starttls_is_not_believed(post: Post) -> None:
    lines = (b"220 hi\r\n", b"250-hi\r\n250 STARTTLS\r\n", b"220 go\r\n250-hi\r\n250 AUTH PLAIN\r\n")
    with saying(*lines) as port:
        email_id = post.queue(post.mailbox(port, smtp_security="starttls"))
        post.run(sending_resources(post.folder, seconds=1.0))
    assert post.status(email_id) == "queued"


def test_a_limit_is_exact_with_many_senders_at_once(post: Post) -> None:
    mailbox = post.mailbox(25, rate_limit=5)
    ids = [post.queue(mailbox) for _ in range(24)]

    def begin(number: int) -> int:
        marked = 0
        with connect(post.database.url("worker"), name="test") as connection:
            for email_id in ids[number::8]:
                with connection.transaction():
                    bind_tenant(connection, TENANT)
                    marked += outbound.begin(connection, email_id, mailbox) is None
        return marked

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(begin, range(8))) == 5
    assert post.database.value("SELECT count(*) FROM mail.emails WHERE status = 'sending'") == 5
