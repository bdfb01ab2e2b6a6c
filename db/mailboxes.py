"""Mailboxes and mail as operators see and steer them. Typed calls over `sql/mailboxes.sql`.

Every call but `troubled` runs in a transaction that the caller bound to one tenant.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from core.errors import NotFoundError, UsageError
from db import constraints
from db.connection import Connection
from db.queries import Queries

QUERIES = Queries("mailboxes")


@dataclass(frozen=True, slots=True)
class Mailbox:
    """A mailbox; `folders` has the greatest UID that was read of each."""

    id: UUID
    address: str
    persona_id: UUID
    persona: str
    imap_host: str | None
    imap_port: int | None
    imap_security: str | None
    imap_login: str | None
    imap_username: str | None
    smtp_host: str | None
    smtp_port: int | None
    smtp_security: str | None
    poll_interval_seconds: int
    bodies_to_documents: bool
    attachments_to_documents: bool
    is_paused: bool
    last_polled_at: datetime | None
    last_error: str | None
    failed_polls: int
    folders: dict[str, int]


@dataclass(frozen=True, slots=True)
class Troubled:
    """A mailbox whose polls fail, or that was last polled so many seconds ago."""

    id: UUID
    address: str
    failed_polls: int
    last_error: str | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Line:
    """A mail as it is listed."""

    id: UUID
    direction: str
    status: str
    from_email: str
    to_email: str
    subject: str | None
    at: datetime
    folder: str | None
    is_bounce: bool
    is_auto_reply: bool
    problems: int
    attachments: int


@dataclass(frozen=True, slots=True)
class Shown:
    """A mail with all that is known of it; its HTML is as it came."""

    id: UUID
    mailbox_id: UUID | None
    persona_id: UUID
    direction: str
    status: str
    message_id: str | None
    in_reply_to: str | None
    thread_id: str | None
    from_email: str
    to_emails: list[str]
    cc: str | None
    bcc: str | None
    subject: str | None
    dated_at: datetime | None
    received_at: datetime | None
    sent_at: datetime | None
    folder: str | None
    size_bytes: int | None
    is_bounce: bool
    is_auto_reply: bool
    problems: list[str]
    headers: dict[str, Any]
    body_text: str | None
    body_html: str | None
    error_message: str | None


@dataclass(frozen=True, slots=True)
class File:
    """A file of a mail."""

    id: UUID
    name: str
    mime_type: str | None
    file_size: int
    is_inline: bool
    file_path: str


def persona_id_of(connection: Connection, persona: str) -> UUID:
    """Return the persona of an id, name or external id. Raises NotFoundError, and UsageError where there are two."""
    rows = QUERIES.run(connection, "persona", {"persona": persona})
    if not rows:
        raise NotFoundError(f"no persona is called {persona!r}: `greenroom health` lists those there are")
    if len(rows) > 1 and str(rows[0][0]) != persona:
        raise UsageError(f"several personas are called {persona!r}: give the id of one")
    found: UUID = rows[0][0]
    return found


def add(connection: Connection, values: Mapping[str, Any], folders: Sequence[str]) -> UUID:
    """Make a mailbox, of the values of its columns, and the folders that are read. Raises ConstraintError."""
    with constraints.rules():
        [(made,)] = QUERIES.run(connection, "add", values)
        QUERIES.run(connection, "add_folders", {"mailbox_id": made, "names": list(folders)})
    added: UUID = made
    return added


def mailboxes(connection: Connection, most: int) -> list[Mailbox]:
    """Return the tenant's mailboxes by their addresses."""
    return [Mailbox(*row) for row in QUERIES.run(connection, "mailboxes", {"most": most})]


def find(connection: Connection, mailbox: str) -> Mailbox:
    """Return the mailbox of an id or address. Raises NotFoundError, and UsageError where two personas have it."""
    rows = QUERIES.run(connection, "mailbox", {"mailbox": mailbox})
    if not rows:
        raise NotFoundError(f"there is no mailbox {mailbox!r}: `greenroom mailboxes list` shows those there are")
    if len(rows) > 1:
        raise UsageError(f"several personas have a mailbox {mailbox!r}: give its id")
    return Mailbox(*rows[0])


def set_paused(connection: Connection, mailbox_id: UUID, *, is_paused: bool) -> bool:
    """Pause a mailbox or resume it; return whether that was a change."""
    return QUERIES.count(connection, "set_paused", {"id": mailbox_id, "is_paused": is_paused}) == 1


def remove(connection: Connection, mailbox_id: UUID) -> None:
    """Remove a mailbox with its cursors and the secrets that no other has; its mail stays."""
    for secrets in QUERIES.run(connection, "remove", {"id": mailbox_id}):
        QUERIES.run(connection, "remove_secrets", {"ids": [each for each in secrets if each is not None]})


def troubled(connection: Connection, failures: int, most: int) -> list[Troubled]:
    """Return mailboxes of all tenants that failed so often in a row, or were not polled for long."""
    return [Troubled(*row) for row in QUERIES.run(connection, "troubled", {"failures": failures, "most": most})]


def list_mails(connection: Connection, mailbox_id: UUID | None, before: UUID | None, most: int) -> list[Line]:
    """Return mails, the newest first, of a mailbox or all; `before` is the last of the page before."""
    values = {"mailbox_id": mailbox_id, "before": before, "most": most}
    return [Line(*row) for row in QUERIES.run(connection, "list", values)]


def show(connection: Connection, email_id: UUID) -> tuple[Shown, list[File]]:
    """Return a mail and its files. Raises NotFoundError."""
    rows = QUERIES.run(connection, "show", {"id": email_id})
    if not rows:
        raise NotFoundError(f"there is no mail {email_id}")
    return Shown(*rows[0]), [File(*row) for row in QUERIES.run(connection, "attachments", {"email_id": email_id})]
