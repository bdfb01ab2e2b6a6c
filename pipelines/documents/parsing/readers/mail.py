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
# What the library raises on headers that break the rules.
_UNREADABLE: Final = (ValueError, TypeError, AttributeError, IndexError, RecursionError)


def read(source: Source) -> Reading:
    """Read an eml."""
    message = message_from_bytes(source.data, policy=policy.default)
    if not any(_header(message, name) for name in _SHOWN):
        raise BrokenFileError("The message has none of the headers that messages have; save it again.")
    return Reading(_header(message, "Subject"), _blocks(message, 0))


def _blocks(message: MIMEPart, depth: int) -> Iterator[Block]:
    headings = Headings()
    yield from _facts([(name, _header(message, name)) for name in _SHOWN])
    subject = _header(message, "Subject")
    if subject:
        headings.enter(0, subject)
    yield from _part(message, headings, depth)


def _part(part: MIMEPart, headings: Headings, depth: int) -> Iterator[Block]:
    """Yield the texts of a part and of the parts in it, in their order."""
    kind = part.get_content_type()
    if kind == "message/rfc822":
        _check_depth(depth)
        for inner in part.iter_parts():
            yield from _blocks(inner, depth + 1)
    elif part.is_multipart():
        inside = list(part.iter_parts())
        _check_depth(depth)
        for inner in _best(inside) if kind == "multipart/alternative" else inside:
            yield from _part(inner, headings, depth + 1)
    elif part.get_filename() or part.is_attachment():
        yield from _attachment(part.get_filename(), headings)
    elif kind.startswith(("text/", "multipart/")):  # a multipart message without its boundary is one text
        as_blocks = html_blocks if kind == "text/html" else plain_blocks
        yield from as_blocks(normalise(_content(part)), headings)


def _check_depth(depth: int) -> None:
    if depth >= _MAX_DEPTH:
        raise BrokenFileError(
            f"The message holds others more than {_MAX_DEPTH} deep; save the innermost one by itself and ingest that."
        )


def _best(alternatives: list[MIMEPart]) -> list[MIMEPart]:
    """Return the plain one of several forms of a text, unless it is blank, else the last, which is the richest."""
    plain = (part for part in alternatives if part.get_content_type() == "text/plain" and _content(part).strip())
    return [next(plain, alternatives[-1])] if alternatives else []


def _header(message: MIMEPart, name: str) -> str:
    """Return a header in one line, as it was sent where it cannot be read."""
    try:
        return _line(str(message.get(name, "")))
    except _UNREADABLE:
        raw = {key.casefold(): value for key, value in message.raw_items()}
        return _line(str(raw.get(name.casefold(), "")))


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
    if (message.body or "").strip():
        yield from plain_blocks(normalise(message.body), headings)
    elif message.html_body:
        yield from html_blocks(normalise(message.html_body), headings)
    for attachment in message.attachments:
        yield from _attachment(attachment.file_name, headings)


def _line(text: str) -> str:
    return " ".join(normalise(text).split())
