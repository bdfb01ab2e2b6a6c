"""What sends mail in tests: a mailbox with its secret, mails that are queued, and the task that sends them."""

import base64
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from psycopg.rows import dict_row

from db.connection import bind_tenant, connect
from db.vault import SecretName
from pipelines.mail import send
from pipelines.mail.outbound import Mail, send_email
from pipelines.mail.send import MailSending
from pipelines.mail.smtp import Patience
from pipelines.mail.tls import tls_context
from pipelines.registry import Registry
from pipelines.resources import Resources
from pipelines.storage import LocalStorage, Storage
from pipelines.vault.cipher import Cipher
from pipelines.vault.secrets import put_secret
from tests.support.database import Database
from tests.support.factory import Factory
from tests.support.smtp import PASSWORD, USER
from workers.testing import Drained, drain

TENANT = UUID("00000000-0000-7000-8000-000000000001")
KEY = base64.urlsafe_b64encode(bytes(range(32))).decode()
REGISTRY = Registry([replace(task, max_attempts=min(task.max_attempts, 3)) for task in send.TASKS])
"""The task types of sending, with fewer attempts."""
AGAIN = "UPDATE queue.tasks_live SET run_after = now(), is_due = true WHERE status = 'pending'"
LAPSE = "UPDATE queue.tasks_live SET lease_until = now() - interval '1 s' WHERE status = 'in_progress'"


def sending_resources(folder: Path, ca_file: Path | None = None, seconds: float = 5.0, data: float = 5.0) -> Resources:
    """Return what a worker that sends has."""
    resources = Resources()
    resources.provide(Storage, lambda: LocalStorage(folder))
    resources.provide(Cipher, lambda: Cipher([KEY]))
    resources.provide(MailSending, lambda: MailSending(tls_context(ca_file), Patience(seconds, data)))
    return resources


@dataclass
class Post:
    """Queues mails in the default tenant and has them sent."""

    database: Database
    folder: Path

    def mailbox(self, port: int, **changed: Any) -> UUID:
        """Make a mailbox that sends through a port of the loopback; `secret` is its secret."""
        secret = changed.pop("secret", PASSWORD)
        with connect(self.database.owner_url, name="test owner") as owner, owner.transaction():
            bind_tenant(owner, TENANT)
            factory = Factory(owner, TENANT)
            persona = factory.row("assistants.personas")["id"]
            name = SecretName(TENANT, "email_smtp", str(uuid4()), persona)
            put_secret(owner, Cipher([KEY]), name, secret)
            [(secret_id,)] = owner.execute("SELECT id FROM vault.secrets WHERE key_name = %s", (name.key_name,))
            server = {
                "smtp_host": "127.0.0.1",
                "smtp_port": port,
                "smtp_security": "none",
                "smtp_login": "password",
                "smtp_username": USER,
            }
            given = {"persona_id": persona, "address": "ada@example.com", "smtp_secret_id": secret_id}
            row = factory.row("mail.mailboxes", **server | given | changed)
        return UUID(str(row["id"]))

    def queue(self, mailbox_id: UUID, **mail: Any) -> UUID:
        """Write a mail to be sent, as a producer does."""
        with connect(self.database.url("operator"), name="test") as connection, connection.transaction():
            bind_tenant(connection, TENANT)
            return send_email(connection, mailbox_id, Mail(**{"to": ["bo@example.org"], "text": "hello"} | mail))

    def run(self, resources: Resources | None = None) -> Drained:
        """Send what is due, and what waits for a later attempt."""
        self.database.rows(AGAIN)
        return drain(self.database, REGISTRY, resources=resources or sending_resources(self.folder))

    def row(self, email_id: UUID) -> dict[str, Any]:
        """Return a mail's row."""
        with connect(self.database.owner_url, name="test owner") as owner:
            cursor = owner.cursor(row_factory=dict_row)
            [row] = cursor.execute("SELECT * FROM mail.emails WHERE id = %s", (email_id,)).fetchall()
        return row

    def status(self, email_id: UUID) -> str:
        """Return a mail's status."""
        return str(self.row(email_id)["status"])
