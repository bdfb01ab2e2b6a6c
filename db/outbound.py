"""Mail out: what is to be sent, the marker before a server is given it, and what came of it.

Typed calls over `sql/outbound.sql`. A mail goes from `queued` by the marker to `sending`, and from there to `sent`, to
`failed`, back to `queued`, or, where nobody knows, to `unknown`, which only an operator ends.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from psycopg.types.json import Jsonb

from core.errors import NotFoundError, UsageError
from db.audit import Resource, record
from db.connection import Connection
from db.queries import Queries

QUERIES = Queries("outbound")
FIRST = UUID(int=0)
LEFT_ALONE = "its task ended before the mail was sent"


@dataclass(frozen=True, slots=True)
class Sender:
    """The mailbox that a mail is sent from; the fields from `host` on are None where it sends nothing."""

    id: UUID
    address: str
    is_paused: bool
    host: str | None
    port: int | None
    security: str | None
    login: str | None
    username: str | None
    secret_id: UUID | None


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A mail as its row says it; `sender` is None where its mailbox is gone, `headers` are more of its own."""

    id: UUID
    tenant_id: UUID
    status: str
    message_id: str | None
    in_reply_to: str | None
    reference_ids: list[str]
    from_email: str
    to_emails: list[str]
    cc: str
    bcc: str
    subject: str
    body_text: str | None
    body_html: str | None
    headers: dict[str, Any]
    is_auto_reply: bool
    dated_at: datetime
    sender: Sender | None


_OWN = len(Outgoing.__dataclass_fields__) - 1


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file of a mail: `file_path` is its key in storage, `checksum` the SHA-256 that it was written with."""

    name: str
    file_path: str
    mime_type: str | None
    checksum: bytes | None
    content_id: str | None
    is_inline: bool


@dataclass(frozen=True, slots=True)
class Unknown:
    """A mail that its server may have or not; `since` is when it was given to it."""

    id: UUID
    mailbox: str | None
    to_emails: list[str]
    subject: str | None
    since: datetime
    message_id: str
    why: str | None


@dataclass(frozen=True, slots=True)
class Refused:
    """A recipient that the server refused, with its words."""

    email: str
    code: int
    message: str


def outgoing(connection: Connection, email_id: UUID) -> Outgoing | None:
    """Return a mail that is or was to be sent, None where there is none of that id."""
    rows = QUERIES.run(connection, "outgoing", {"id": email_id})
    if not rows:
        return None
    own, sender = list(rows[0][:_OWN]), rows[0][_OWN:]
    own.append(None if sender[0] is None else Sender(*sender))
    return Outgoing(*own)


def attachments(connection: Connection, email_id: UUID) -> list[Attachment]:
    """Return a mail's files, in the order in which they were added."""
    return [Attachment(*row) for row in QUERIES.run(connection, "attachments", {"id": email_id})]


def seconds_until_free(connection: Connection, mailbox_id: UUID) -> float:
    """Return for how long a mailbox may send no more by its limit, 0 where it may send now."""
    rows = QUERIES.run(connection, "seconds_until_free", {"mailbox_id": mailbox_id})
    return max(float(rows[0][0]), 0.0) if rows else 0.0


def begin(connection: Connection, email_id: UUID, mailbox_id: UUID) -> float | None:
    """Mark a mail as given to its server; return None where it is marked, else the seconds until its mailbox may.

    Expects a transaction, and that its commit comes before the server is given the mail. Exact with any number of
    senders: they take turns at a mailbox that has a limit. Raises UsageError where the mail is not to be sent any more.
    """
    QUERIES.run(connection, "lock_limited", {"mailbox_id": mailbox_id})
    if wait := seconds_until_free(connection, mailbox_id):
        return wait
    if QUERIES.count(connection, "begin", {"id": email_id}) != 1:
        raise UsageError("the mail is not to be sent any more")
    return None


def end_unsent(
    connection: Connection, email_id: UUID, status: Literal["queued", "failed"], code: int | None, message: str
) -> None:
    """Take a marker back, or leave none: the server has not taken the mail. Expects a transaction."""
    values = {"id": email_id, "status": status, "code": code, "message": message}
    QUERIES.run(connection, "end_unsent", values)


def end_sent(connection: Connection, email_id: UUID, size: int, refused: Sequence[Refused]) -> None:
    """Write that the server took a mail of so many bytes, and for whom it did not. Expects a transaction."""
    told = [{"email": each.email, "code": each.code, "message": each.message} for each in refused]
    QUERIES.run(connection, "end_sent", {"id": email_id, "size": size, "refused": Jsonb(told)})


def end_unknown(connection: Connection, email_id: UUID, why: str) -> None:
    """Write that nobody knows whether the server took a mail. Expects a transaction."""
    QUERIES.run(connection, "end_unknown", {"id": email_id, "message": why})


def on_the_way(connection: Connection, status: Literal["queued", "sending"], after: UUID, most: int) -> list[UUID]:
    """Return the next mails of a status, of all tenants, behind one of them. For the system role."""
    rows = QUERIES.run(connection, "on_the_way", {"status": status, "after": after, "most": most})
    return [row[0] for row in rows]


def settle(connection: Connection, ids: Sequence[UUID]) -> list[tuple[UUID, str]]:
    """End those of the mails that no task works for any more; return which, with what became of each.

    For the system role. Expects a transaction.
    """
    rows = QUERIES.run(connection, "settle", {"ids": list(ids), "message": LEFT_ALONE})
    return [(row[0], row[1]) for row in rows]


def unknown(connection: Connection, after: UUID = FIRST, most: int = 20) -> list[Unknown]:
    """Return mails of the tenant of which nobody knows whether they were sent, behind one of them."""
    return [Unknown(*row) for row in QUERIES.run(connection, "unknown", {"after": after, "most": most})]


def count_unknown(connection: Connection) -> list[tuple[str, int, datetime]]:
    """Return by tenant how many mails nobody knows of, and since when the first is; for a login of no tenant."""
    return [(row[0], row[1], row[2]) for row in QUERIES.run(connection, "count_unknown")]


def resend(connection: Connection, email_id: UUID) -> None:
    """Queue a mail again that failed or is unknown, with its task and an event of the audit.

    Expects a transaction bound to the tenant. Raises NotFoundError, UsageError for a mail in another status, and the
    driver's UniqueViolation while the task before is about to end.
    """
    resource, before = _locked(connection, email_id, ("failed", "unknown"), "sent again")
    QUERIES.run(connection, "queue_again", {"id": email_id})
    record(connection, "mail.resent", "an operator had a mail sent again", resource, metadata={"was": before})


def mark_sent(connection: Connection, email_id: UUID) -> None:
    """Say of an unknown mail that it was sent, with an event of the audit. Raises as `resend` does."""
    resource, before = _locked(connection, email_id, ("unknown",), "marked as sent")
    QUERIES.run(connection, "call_sent", {"id": email_id})
    told = "an operator knew that a mail was sent"
    record(connection, "mail.marked_sent", told, resource, metadata={"was": before})


def _locked(connection: Connection, email_id: UUID, wanted: Sequence[str], deed: str) -> tuple[Resource, str]:
    rows = QUERIES.run(connection, "status", {"id": email_id})
    if not rows:
        raise NotFoundError(f"there is no mail of that id that is or was to be sent: {email_id}")
    status, tenant_id = rows[0]
    if status not in wanted:
        raise UsageError(f"the mail is {status}: only one that is {' or '.join(wanted)} can be {deed}")
    return Resource("email", email_id, tenant_id), status
