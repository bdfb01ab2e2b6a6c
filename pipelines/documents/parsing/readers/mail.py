"""Messages: eml by the standard library, msg (Outlook) by python-oxmsg. Headers, body, then what is attached."""

from collections.abc import Iterable, Iterator
from email import message_from_bytes, policy
from email.message import MIMEPart
from io import BytesIO
from typing import Any, Final

from pipelines.documents.errors import BrokenFileError
from pipelines.documents.parsing.headings import Headings
from pipelines.documents.parsing.readers.markup import html_blocks
from pipelines.documents.parsing.readers.plain import plain_blocks
from pipelines.documents.parsing.types import Block, Reading, Source, normalise

_SHOWN: Final = ("From", "To", "Cc", "Date", "Subject")
_MAX_DEPTH: Final = 10


def read(source: Source) -> Reading:
    """Read an eml."""
    message = message_from_bytes(source.data, policy=policy.default)
    if not any(message.get(name) for name in _SHOWN):
        raise BrokenFileError("The message has none of the headers that messages have; save it again.")
    return Reading(_line(str(message.get("Subject", ""))) or None, _blocks(message, 0))


def _blocks(message: MIMEPart, depth: int) -> Iterator[Block]:
    headings = Headings()
    yield from _facts([(name, message.get(name)) for name in _SHOWN])
    subject = _line(str(message.get("Subject", "")))
    if subject:
        headings.enter(0, subject)
    body = message.get_body(preferencelist=("plain", "html"))
    if body is not None:
        as_blocks = html_blocks if body.get_content_type() == "text/html" else plain_blocks
        yield from as_blocks(normalise(_content(body)), headings)
    for part in message.iter_attachments() if message.is_multipart() else ():
        yield from _attachment(part.get_filename(), headings)
        if part.get_content_type() == "message/rfc822" and depth < _MAX_DEPTH:
            for inner in part.iter_parts():
                yield from _blocks(inner, depth + 1)


def _facts(pairs: Iterable[tuple[str, Any]]) -> Iterator[Block]:
    lines = [f"{name}: {_line(str(value))}" for name, value in pairs if value]
    if lines:
        yield Block("\n".join(lines), "text", None, None)


def _attachment(name: str | None, headings: Headings) -> Iterator[Block]:
    if name and _line(name):
        yield Block(f"Attachment: {_line(name)}", "text", None, headings.path)


def _content(part: MIMEPart) -> str:
    """Return a part's text, whatever it says of its encoding."""
    try:
        return str(part.get_content())
    except (LookupError, UnicodeError, ValueError, KeyError):
        payload = part.get_payload(decode=True)
        return payload.decode("utf-8", "replace") if isinstance(payload, bytes) else ""


def read_msg(source: Source) -> Reading:
    """Read an Outlook message."""
    from oxmsg import Message

    message = Message.load(BytesIO(source.data))
    subject = _line(message.subject or "")
    return Reading(subject or None, _msg_blocks(message, subject))


def _msg_blocks(message: Any, subject: str) -> Iterator[Block]:
    headings = Headings()
    recipients = ", ".join(f"{recipient.name} <{recipient.email_address}>" for recipient in message.recipients)
    facts = (("From", message.sender), ("To", recipients), ("Date", message.sent_date), ("Subject", subject))
    yield from _facts(facts)
    if subject:
        headings.enter(0, subject)
    if message.body:
        yield from plain_blocks(normalise(message.body), headings)
    elif message.html_body:
        yield from html_blocks(normalise(message.html_body), headings)
    for attachment in message.attachments:
        yield from _attachment(attachment.file_name, headings)


def _line(text: str) -> str:
    return " ".join(normalise(text).split())
