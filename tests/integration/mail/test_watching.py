"""Mailboxes in IDLE on a real server: mail is polled at once, connections come again, and let go in time."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from uuid import UUID, uuid4

import pytest

from core import events
from core.service import Loop
from pipelines.mail.watching import WatchConfig, Watching
from tests.support.database import Database
from tests.support.engine import Line
from tests.support.imap_line import imap_line
from tests.support.mailboxes import KEY, REGISTRY, Mailboxes, mail_of
from tests.support.waiting import eventually, pass_time

TASKS = "SELECT count(*) FROM queue.tasks_live WHERE task_type = 'mailbox.poll' AND payload->>'mailbox_id' = %s"


class Seen:
    """What watchers told, by mailbox."""

    def __init__(self) -> None:
        self.told: list[tuple[UUID, str]] = []

    def on_event(self, event: events.Event) -> None:
        if isinstance(event, events.MailboxWatch):
            self.told.append((event.mailbox_id, event.state))

    def of(self, mailbox_id: UUID) -> list[str]:
        return [state for each, state in self.told if each == mailbox_id]


@pytest.fixture
def seen() -> Iterator[Seen]:
    found = Seen()
    forget = events.subscribe(found.on_event)
    yield found
    forget()


@contextmanager
def watching(boxes: Mailboxes, *, is_one: bool = False, **mail: Any) -> Iterator[Watching]:
    """Watch in a thread, as the process does."""
    settings = boxes.settings.mail.model_copy(update={"watch_seconds": 0.2} | mail)
    config = WatchConfig(settings, boxes.database.url("system"), (KEY,), is_one=is_one)
    service = Watching(config)
    loop = Loop(service)
    loop.start()
    try:
        yield service
    finally:
        assert loop.stop(5.0)


@pytest.fixture
def alone(boxes: Mailboxes) -> Mailboxes:
    """Mailboxes without those of tests before."""
    boxes.database.rows("UPDATE mail.mailboxes SET is_paused = true")
    boxes.database.rows("DELETE FROM queue.tasks_live")
    return boxes


def polls(database: Database, mailbox_id: UUID) -> int:
    found: int = database.value(TASKS, (str(mailbox_id),))
    return found


def test_a_mail_is_a_row_within_two_seconds(alone: Mailboxes, seen: Seen) -> None:
    user = f"u{uuid4().hex}"
    mailbox = alone.mailbox(user)
    line = Line(alone.database, REGISTRY, resources=alone.resources)
    with watching(alone):
        eventually(lambda: polls(alone.database, mailbox))  # what came before it watched
        line.run_once()
        alone.server.deliver(user, [mail_of("news")])

        def is_here() -> bool:
            line.run_once()
            return alone.subjects(mailbox) == ["news"]

        eventually(is_here, 2.0)
    line.close()
    assert seen.of(mailbox) == ["watched", "left"]


def test_news_while_a_poll_runs_is_rung_for_again(alone: Mailboxes) -> None:
    user = f"u{uuid4().hex}"
    mailbox = alone.mailbox(user)
    line = Line(alone.database, REGISTRY, resources=alone.resources)
    with watching(alone):
        eventually(lambda: polls(alone.database, mailbox))
        [running] = line.take(line.claim())
        alone.server.deliver(user, [mail_of("late")])
        pass_time(0.5)
        assert polls(alone.database, mailbox) == 1
        alone.database.rows("DELETE FROM queue.tasks_live WHERE id = %s", (running.task_id,))  # it ends
        eventually(lambda: polls(alone.database, mailbox) == 1, 5.0)
    line.close()


def test_a_cut_connection_comes_again(alone: Mailboxes, seen: Seen) -> None:
    user = f"u{uuid4().hex}"
    with imap_line(alone.server.tls_port) as line:
        mailbox = alone.mailbox(user, imap_port=line.port)
        with watching(alone):
            eventually(lambda: polls(alone.database, mailbox))
            alone.database.rows("DELETE FROM queue.tasks_live")
            for each in line.connections:
                with suppress(OSError):  # the other half's pump was quicker
                    each.shutdown(socket.SHUT_RDWR)
            eventually(lambda: polls(alone.database, mailbox))  # what came while it was cut
    assert seen.of(mailbox) == ["watched", "lost", "watched", "left"]


def test_idle_is_renewed(alone: Mailboxes, seen: Seen) -> None:
    user = f"u{uuid4().hex}"
    mailbox = alone.mailbox(user)
    with watching(alone, idle_seconds=0.3):
        for _ in range(2):  # each time that IDLE begins is news
            eventually(lambda: polls(alone.database, mailbox))
            alone.database.rows("DELETE FROM queue.tasks_live")
        alone.database.rows("DELETE FROM queue.tasks_live")
        alone.server.deliver(user, [mail_of("news")])
        eventually(lambda: polls(alone.database, mailbox))
    assert seen.of(mailbox) == ["watched", "left"]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE mail.mailboxes SET is_paused = true WHERE id = %s",
        "DELETE FROM mail.mailboxes WHERE id = %s",
        "UPDATE identity.tenants SET status = 'suspended' "
        "WHERE id = (SELECT m.tenant_id FROM mail.mailboxes m WHERE m.id = %s)",
    ],
)
def test_what_is_not_to_be_watched_is_let_go(alone: Mailboxes, seen: Seen, change: str) -> None:
    mailbox = alone.mailbox(f"u{uuid4().hex}")
    with watching(alone) as service:
        eventually(lambda: service.watching == 1)
        alone.database.rows(change, (mailbox,))
        eventually(lambda: seen.of(mailbox) == ["watched", "left"])
        assert service.watching == 0


def test_a_server_without_idle_is_left_to_the_schedule(alone: Mailboxes, seen: Seen) -> None:
    with imap_line(alone.server.port) as line:
        line.alter = lambda said: said.replace(b" IDLE", b" IDEL")
        mailbox = alone.mailbox(f"u{uuid4().hex}", imap_port=line.port, imap_host="127.0.0.1", imap_security="none")
        with watching(alone) as service:
            eventually(lambda: seen.of(mailbox) == ["no_idle"])
            assert service.watching == 0
    assert polls(alone.database, mailbox) == 0


def test_a_refused_login_is_tried_again_when_its_secret_is_another(alone: Mailboxes, seen: Seen) -> None:
    mailbox = alone.mailbox(f"u{uuid4().hex}", secret="wrong")
    with watching(alone):
        eventually(lambda: seen.of(mailbox) == ["refused"])
        change = "UPDATE mail.mailboxes SET imap_secret_id = %s WHERE id = %s"
        alone.database.rows(change, (alone.secret(), mailbox))
        eventually(lambda: seen.of(mailbox)[-1] == "watched")
    assert alone.state(mailbox)[0] is None, "a poll says what is wrong, a watcher does not"


def test_of_two_watchers_one_watches_and_the_other_takes_over(alone: Mailboxes) -> None:
    alone.mailbox(f"u{uuid4().hex}")
    with watching(alone, is_one=True) as second_first:
        eventually(lambda: second_first.watching == 1)
        with watching(alone, is_one=True) as other:
            pass_time(0.5)
            assert other.watching == 0
    with watching(alone, is_one=True) as next_one:
        eventually(lambda: next_one.watching == 1)
