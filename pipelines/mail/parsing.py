"""A minimal parser that stands in until the real one is merged."""

import hashlib
from dataclasses import dataclass, field
from datetime import datetime
from email import message_from_bytes, policy
from email.utils import getaddresses, parsedate_to_datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class MailLimits:
    max_parts: int = 1000
    max_depth: int = 50
    max_attachment_bytes: int = 50_000_000


@dataclass(frozen=True, slots=True)
class ParsedAttachment:
    name: str
    mime_type: str | None
    content: bytes
    checksum: bytes
    content_id: str | None = None
    is_inline: bool = False


@dataclass(frozen=True, slots=True)
class ParsedMail:
    message_id: str | None
    in_reply_to: str | None
    reference_ids: tuple[str, ...]
    from_email: str
    to_email: str
    to_emails: tuple[str, ...]
    cc: str | None
    bcc: str | None
    subject: str | None
    body_text: str | None
    body_html: str | None
    headers: dict[str, Any]
    is_bounce: bool
    is_auto_reply: bool
    dated_at: datetime | None
    size_bytes: int
    content_hash: bytes
    attachments: tuple[ParsedAttachment, ...] = ()
    problems: tuple[str, ...] = field(default=())


def parse(data: bytes, limits: MailLimits) -> ParsedMail:
    mail = message_from_bytes(data, policy=policy.default)
    bodies: dict[str, str] = {}
    files = []
    for part in mail.walk():
        if part.is_multipart():
            continue
        content = part.get_payload(decode=True) or b""
        if part.get_filename():
            digest = hashlib.sha256(content).digest()
            files.append(ParsedAttachment(part.get_filename(), part.get_content_type(), content, digest))
        else:
            bodies.setdefault(
                part.get_content_type(), content.decode("utf-8", "replace").replace("\0", "").replace("\r\n", "\n")
            )
    to = [address for _, address in getaddresses(mail.get_all("To", []))]
    sender = [address for _, address in getaddresses(mail.get_all("From", []))]
    date = mail["Date"]
    return ParsedMail(
        message_id=_id(mail["Message-ID"]),
        in_reply_to=_id(mail["In-Reply-To"]),
        reference_ids=tuple(str(mail["References"] or "").split()),
        from_email=sender[0] if sender else "",
        to_email=to[0] if to else "",
        to_emails=tuple(to),
        cc=None,
        bcc=None,
        subject=str(mail["Subject"]) if mail["Subject"] else None,
        body_text=bodies.get("text/plain"),
        body_html=bodies.get("text/html"),
        headers={},
        is_bounce=False,
        is_auto_reply=False,
        dated_at=parsedate_to_datetime(date) if date else None,
        size_bytes=len(data),
        content_hash=hashlib.sha256(data).digest(),
        attachments=tuple(files),
    )


def _id(value: Any) -> str | None:
    return str(value).strip() if value else None
