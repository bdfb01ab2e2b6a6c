"""Writing a mail that is to be sent, in the producer's own transaction; all that a producer has to import.

A plain INSERT into `mail.emails` does the same (docs/mail.md): a trigger completes the row and enqueues `email.send`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar
from uuid import UUID

from core.errors import NotFoundError, UsageError
from pipelines.enqueue import call
from pipelines.payload import Payload

_WRITE = (
    """
WITH given AS (SELECT CAST({0} AS jsonb) AS mail), written AS (
    INSERT INTO mail.emails (tenant_id, persona_id, run_id, mailbox_id, direction, status, from_email, to_emails, cc,
        bcc, subject, body_text, body_html, in_reply_to, headers, is_auto_reply)
    SELECT m.tenant_id, m.persona_id, CAST(mail->>'run_id' AS uuid), m.id, 'outbound', 'queued', mail->>'from_email',
        ARRAY(SELECT jsonb_array_elements_text(mail->'to')), mail->>'cc', mail->>'bcc', mail->>'subject',
        mail->>'text', mail->>'html', mail->>'in_reply_to', mail->'headers', CAST(mail->>'is_auto_reply' AS boolean)
    FROM given JOIN mail.mailboxes m ON m.id = CAST(mail->>'mailbox_id' AS uuid)
    RETURNING id, tenant_id
), files AS (
    INSERT INTO mail.attachments (tenant_id, email_id, name, file_path, file_size, mime_type, checksum, content_id,
        is_inline)
    SELECT w.tenant_id, w.id, f.name, f.file_path, f.file_size, f.mime_type, decode(f.sha256, 'hex'), f.content_id,
        f.is_inline
    FROM written w CROSS JOIN given CROSS JOIN jsonb_to_recordset(mail->'files') AS f (name text, file_path text,
        file_size bigint, mime_type text, sha256 text, content_id text, is_inline boolean)
)
SELECT (SELECT id FROM written)
""",
    ("mail",),
)


class SendEmail(Payload):
    """Give a queued mail to its mailbox's server; enqueued by the row."""

    task_type: ClassVar[str] = "email.send"

    email_id: UUID


class SettleEmails(Payload):
    """End outgoing mails that no task works for any more, of all tenants."""

    task_type: ClassVar[str] = "emails.settle"


@dataclass(frozen=True, slots=True)
class File:
    """A file to go along: `file_path` is its key in storage (`Storage.put`), `file_size` in bytes, `sha256` in hex.

    With `content_id` and `is_inline` an HTML body shows it as `cid:…`.
    """

    name: str
    file_path: str
    file_size: int
    mime_type: str | None = None
    sha256: str | None = None
    content_id: str | None = None
    is_inline: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """What is to be sent. Addresses are `ada@example.com` or `Ada <ada@example.com>`; a body is text, HTML or both.

    `in_reply_to` is the Message-ID of what is answered; `headers` are more, such as Reply-To.
    """

    to: Sequence[str]
    subject: str = ""
    text: str | None = None
    html: str | None = None
    cc: Sequence[str] = ()
    bcc: Sequence[str] = ()
    from_email: str | None = None
    in_reply_to: str | None = None
    headers: Mapping[str, str] | None = None
    is_auto_reply: bool = False
    files: Sequence[File] = ()
    run_id: UUID | None = None


def send_email(connection: Any, mailbox_id: UUID, mail: Mail) -> UUID:
    """Write a mail to be sent from a mailbox, with the task that sends it; return its id.

    Takes what `enqueue` takes, and commits nothing: without the caller's commit there is no mail. Raises NotFoundError
    for a mailbox that the transaction's tenant does not have, UsageError for what would be another header or is no
    text of Postgres, before anything is written. An address that is none shows when the mail is sent: it fails then.
    """
    headers = [text for pair in (mail.headers or {}).items() for text in pair]
    names = [text for file in mail.files for text in (file.name, file.content_id or "")]
    lines = [
        mail.subject,
        mail.from_email or "",
        mail.in_reply_to or "",
        *mail.to,
        *mail.cc,
        *mail.bcc,
        *headers,
        *names,
    ]
    if any(text.splitlines() not in ([], [text]) for text in lines):
        raise UsageError("a mail's headers, addresses and names of files have no line breaks")
    try:
        written = call(connection, *_WRITE, {"mail": json.dumps(_fields(mailbox_id, mail))})
    except ValueError as error:  # half a surrogate pair
        raise UsageError("a mail holds a character that Postgres cannot store") from error
    if written is None:
        raise NotFoundError(f"there is no mailbox {mailbox_id}")
    return UUID(str(written))


def _fields(mailbox_id: UUID, mail: Mail) -> dict[str, Any]:
    return {
        "mailbox_id": str(mailbox_id),
        "run_id": None if mail.run_id is None else str(mail.run_id),
        "from_email": mail.from_email,
        "to": list(mail.to),
        "cc": ", ".join(mail.cc) or None,
        "bcc": ", ".join(mail.bcc) or None,
        "subject": mail.subject,
        "text": mail.text,
        "html": mail.html,
        "in_reply_to": mail.in_reply_to,
        "headers": dict(mail.headers or {}),
        "is_auto_reply": mail.is_auto_reply,
        "files": [{name: getattr(file, name) for name in File.__dataclass_fields__} for file in mail.files],
    }
