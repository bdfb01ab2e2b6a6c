"""Payloads of reading mail; all that a producer has to import."""

from typing import ClassVar
from uuid import UUID

from pipelines.payload import Payload

MAIL_QUEUE = "mail"


class PollMailboxes(Payload):
    """Poll every mailbox that is due, of all tenants."""

    task_type: ClassVar[str] = "mailboxes.poll"


class PollMailbox(Payload):
    """Read what came to a mailbox since it was read last."""

    task_type: ClassVar[str] = "mailbox.poll"

    mailbox_id: UUID
