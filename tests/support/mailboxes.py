"""A tenant's mailboxes on the suite's own IMAP server, polled by the tasks themselves, as workers run them."""

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from core.settings import Settings, load_settings
from db.connection import tenant_transaction
from db.vault import SecretName
from pipelines.documents import tasks as documents_tasks
from pipelines.enqueue import enqueue
from pipelines.mail import poll
from pipelines.mail.payloads import PollMailbox
from pipelines.registry import Registry
from pipelines.resources import Resources
from pipelines.storage import LocalStorage
from pipelines.vault import rotation
from pipelines.vault.cipher import Cipher
from pipelines.vault.secrets import put_secret
from tests.support.database import Database
from tests.support.dovecot import PASSWORD, Dovecot
from tests.support.factory import Factory
from workers.testing import TaskRun, run_task
from workers.testing.line import Line

[POLL_ALL, POLL] = poll.TASKS
REGISTRY = Registry([*poll.TASKS, *documents_tasks.TASKS])
KEY = "c3VpdGUtc3VpdGUtc3VpdGUtc3VpdGUtc3VpdGUtMTI="
_SECRET_ID = "SELECT id FROM vault.secrets WHERE key_name = %s AND tenant_id = %s"
_EMAILS = """
SELECT folder, uid, subject, body_text, problems, thread_id, message_id, from_email, content_hash
FROM mail.emails WHERE mailbox_id = %s ORDER BY folder, uidvalidity, uid
"""
_STATE = "SELECT last_error, failed_polls, last_polled_at IS NOT NULL FROM mail.mailboxes WHERE id = %s"


@dataclass
class Mailboxes:
    """A tenant's mailboxes, and what polling them comes to."""

    database: Database
    factory: Factory
    server: Dovecot
    folder: Path
    settings: Settings
    resources: Resources = field(default_factory=Resources)

    def __post_init__(self) -> None:
        for module in (poll, rotation, documents_tasks):
            module.provide(self.resources, self.settings)

    @property
    def tenant_id(self) -> UUID:
        """The tenant."""
        return self.factory.tenant_id

    @property
    def storage(self) -> LocalStorage:
        """Where attachments go."""
        return LocalStorage(self.folder)

    def secret(self, value: str = PASSWORD) -> UUID:
        """Write a secret to the vault; return its row's id."""
        name = SecretName(self.tenant_id, "email_imap", f"secret {uuid4()}")
        with tenant_transaction(self.database.connect("operator"), self.tenant_id) as connection:
            put_secret(connection, self.resources.get(Cipher), name, value)
        found: UUID = self.database.value(_SECRET_ID, (name.key_name, self.tenant_id))
        return found

    def mailbox(
        self, user: str, *, folders: tuple[str, ...] = ("INBOX",), secret: str = PASSWORD, **given: Any
    ) -> UUID:
        """Make a mailbox of a user of the server, read over TLS unless it is `given` otherwise."""
        place = {
            "imap_host": "localhost", "imap_port": self.server.tls_port, "imap_security": "tls",
            "imap_login": "password", "imap_username": user, "smtp_host": None, "smtp_port": None,
            "smtp_security": None, "smtp_login": None, "smtp_username": None, "smtp_secret_id": None,
        }  # fmt: skip
        values = place | {"address": f"{user}@example.org", "imap_secret_id": self.secret(secret)} | given
        made: UUID = self.factory.row("mail.mailboxes", **values)["id"]
        for name in folders or ("INBOX",):
            self.factory.row("mail.folders", mailbox_id=made, name=name)
        return made

    def step(self, mailbox_id: UUID) -> TaskRun:
        """Run one attempt of a poll."""
        payload = PollMailbox(mailbox_id=mailbox_id)
        return run_task(
            self.database, POLL, payload, registry=REGISTRY, resources=self.resources, tenant_id=self.tenant_id
        )

    def poll(self, mailbox_id: UUID) -> TaskRun:
        """Poll a mailbox to the end, each attempt by a task of its own; return the last."""
        while (run := self.step(mailbox_id)).outcome == "snooze":
            self.database.rows("DELETE FROM queue.tasks_live WHERE id = %s", (run.task_id,))
        return run

    def poll_at_once(self, mailbox_id: UUID, count: int) -> int:
        """Poll a mailbox to the end by so many tasks, each in a thread of its own; return how often they came back."""
        for _ in range(count):
            enqueue(self.database.connect(), PollMailbox(mailbox_id=mailbox_id), tenant_id=self.tenant_id)
        line, rounds = Line(self.database, REGISTRY, resources=self.resources), 0
        with ThreadPoolExecutor(count) as pool:
            while claims := line.claim():
                list(pool.map(lambda claim: line.run([claim]), claims))
                rounds += 1
        line.close()
        return rounds

    def emails(self, mailbox_id: UUID) -> list[tuple[Any, ...]]:
        """Return a mailbox's mails in the order of folder and UID."""
        return self.database.rows(_EMAILS, (mailbox_id,))

    def subjects(self, mailbox_id: UUID) -> list[str]:
        """Return the subjects of a mailbox's mails."""
        return [row[2] for row in self.emails(mailbox_id)]

    def state(self, mailbox_id: UUID) -> tuple[Any, ...]:
        """Return a mailbox's last error, how many polls failed, and whether it was ever polled."""
        [row] = self.database.rows(_STATE, (mailbox_id,))
        return row


@contextmanager
def mailboxes(database: Database, factory: Factory, server: Dovecot, **mail: Any) -> Iterator[Mailboxes]:
    """Mailboxes of a tenant, and a storage that is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="gr-mail-") as name:
        given = {"ca_file": server.ca_file, "silence_seconds": 5.0, "answer_seconds": 20.0} | mail
        settings = load_settings(_env_file=None, mail=given, storage={"root": Path(name)}, encryption={"keys": [KEY]})
        yield Mailboxes(database, factory, server, Path(name), settings)


def mail_of(subject: str, text: str = "hello", *, files: dict[str, bytes] | None = None, **headers: str) -> bytes:
    """Return a mail; a header's name is written with underscores."""
    message = EmailMessage()
    message["From"] = "Anna <anna@example.org>"
    message["To"] = "Bert <bert@example.org>"
    message["Subject"] = subject
    message["Message-ID"] = f"<{uuid4()}@example.org>"
    for name, value in headers.items():
        del message[name.replace("_", "-")]
        message[name.replace("_", "-")] = value
    message.set_content(text)
    for name, content in (files or {}).items():
        message.add_attachment(content, maintype="application", subtype="octet-stream", filename=name)
    return message.as_bytes()
