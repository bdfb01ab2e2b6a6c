"""No mail twice: hundreds are sent while their worker is killed again and again, at whatever moment."""

import os
import random
import signal
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from pipelines.enqueue import enqueue
from pipelines.mail.outbound import SettleEmails
from tests.support.database import Database
from tests.support.engine import publish
from tests.support.mail_worker import rescue, sending
from tests.support.post import REGISTRY, Post
from tests.support.smtp import MailServer, mail_server
from tests.support.waiting import eventually

MAILS, KILLS = 500, 30
STATUSES = "SELECT message_id, status FROM mail.emails"
WAITING = "SELECT count(*) FROM mail.emails WHERE status IN ('queued', 'sending')"


def has_taken(server: MailServer, least: int) -> bool:
    return len(server.taken) >= least


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_no_mail_is_at_the_server_twice_however_often_its_worker_is_killed(database: Database, tmp_path: Path) -> None:
    publish(database, REGISTRY)
    post, chance = Post(database, tmp_path), random.Random(20261124)
    with mail_server() as server:
        mailbox = post.mailbox(server.port)
        for number in range(MAILS):
            post.queue(mailbox, subject=str(number), text="x" * chance.randrange(20_000))
        for _ in range(KILLS):
            with sending(post) as process:
                least = len(server.taken) + chance.randrange(1, MAILS // KILLS)
                eventually(partial(has_taken, server, least), 60)
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
            rescue(post)
        while database.value(WAITING):
            post.run()
            rescue(post)
            enqueue(database.connect(), SettleEmails())
        copies = Counter(str(taken.message["Message-ID"]) for taken in server.taken)
    statuses = dict(database.rows(STATUSES))
    told = Counter(statuses.values())
    sys.stdout.write(f"{MAILS} mails, {KILLS} kills: {dict(told)}, {sum(copies.values())} at the server\n")
    assert max(copies.values()) == 1
    assert {copy for copy in copies if statuses[copy] not in {"sent", "unknown"}} == set()
    assert {message_id for message_id, status in statuses.items() if status == "sent"} <= set(copies)
    assert set(told) <= {"sent", "unknown"}
    assert told["unknown"] <= KILLS
