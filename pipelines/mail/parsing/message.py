"""A mail's bytes to its values: the one way in."""

from hashlib import sha256
from typing import Final

from pipelines.mail.parsing.addresses import addresses_of
from pipelines.mail.parsing.bodies import Body, Reader
from pipelines.mail.parsing.fields import Fields
from pipelines.mail.parsing.tree import Builder, Part
from pipelines.mail.parsing.types import MailLimits, ParsedAttachment, ParsedMail, Problems
from pipelines.mail.parsing.values import date_of, ids_of, words_of
from pipelines.mail.parsing.verdicts import is_auto_reply, is_bounce

# These have columns that hold all of them. From, To, Cc and Bcc stay: their names stand nowhere else.
_HELD: Final = {"subject", "message-id", "in-reply-to", "references"}
_MAX_KEPT: Final = 256_000
"""Characters of headers."""
_MARKS: Final = (b"\xef\xbb\xbf",)


def parse(data: bytes, limits: MailLimits) -> ParsedMail:
    """Return what a mail says; of one above `limits.max_bytes` its headers alone. Never raises, whatever the bytes."""
    if len(data) > limits.max_bytes:
        return parse_headers(data, limits, size_bytes=len(data))
    problems = Problems()
    data_read = _with_newlines(data)
    part = Builder(data_read, limits, problems).build(_begin(data_read), len(data_read))
    reader = Reader(data_read, limits, problems)
    body = reader.read(part)
    return _mail(data, data_read, part, body, tuple(reader.files), problems, len(data))


def parse_headers(data: bytes, limits: MailLimits, *, size_bytes: int) -> ParsedMail:
    """Return what the headers of a mail of `size_bytes` say, where only they are kept; `data` begins with them."""
    problems = Problems()
    problems.tell(f"The mail is larger than {limits.max_bytes} bytes; only its headers are kept.")
    data_read = _with_newlines(data)
    part = Builder(data_read, MailLimits(max_depth=0), Problems()).build(_begin(data_read), len(data_read))
    return _mail(data, data_read, part, Body(), (), problems, size_bytes)


def _with_newlines(data: bytes) -> bytes:
    """Return a mail whose lines end as those of old Macintoshes with line ends that the rest knows."""
    return data if b"\n" in data else data.replace(b"\r", b"\n")


def _begin(data: bytes) -> int:
    """Return where the header begins: behind a byte order mark and blank lines."""
    begin = next((len(mark) for mark in _MARKS if data.startswith(mark)), 0)
    while data[begin : begin + 1] in (b"\r", b"\n"):
        begin += 1
    return begin


def _mail(
    data: bytes,
    data_read: bytes,
    part: Part,
    body: Body,
    files: tuple[ParsedAttachment, ...],
    problems: Problems,
    size_bytes: int,
) -> ParsedMail:
    fields = part.fields
    if not len(fields):
        problems.tell("The mail has no header.")
    senders = addresses_of(fields.get("from"), problems) or addresses_of(fields.get("sender"), problems)
    from_email = senders[0] if senders else ""
    to_emails = addresses_of(fields.get_all("to"), problems)
    subject = words_of(fields.get("subject"), problems) if fields.get("subject") else None
    message_ids = ids_of(fields.get("message-id"), problems)
    answered = ids_of(fields.get("in-reply-to"), problems)
    return ParsedMail(
        message_id=message_ids[0] if message_ids else None,
        in_reply_to=answered[0] if answered else None,
        reference_ids=ids_of(fields.get_all("references"), problems),
        from_email=from_email,
        to_email=to_emails[0] if to_emails else "",
        to_emails=to_emails,
        cc=_list(fields, "cc", problems),
        bcc=_list(fields, "bcc", problems),
        subject=subject,
        body_text=body.text,
        body_html=body.html,
        headers=_others(fields, problems),
        is_bounce=is_bounce(data_read, part, _leaves(part), from_email, subject or ""),
        is_auto_reply=is_auto_reply(part, subject or ""),
        dated_at=date_of(fields.get("date"), problems),
        size_bytes=size_bytes,
        content_hash=sha256(data).digest(),
        attachments=files,
        problems=problems.all(),
    )


def _list(fields: Fields, name: str, problems: Problems) -> str | None:
    return ", ".join(addresses_of(fields.get_all(name), problems)) or None


def _others(fields: Fields, problems: Problems) -> dict[str, list[str]]:
    """Return the fields that have no column, by name, within the limit."""
    kept: dict[str, list[str]] = {}
    left = _MAX_KEPT
    for name, raw in fields:
        if name in _HELD:
            continue
        value = words_of(raw, problems)
        left -= len(name) + len(value)
        if left < 0:
            problems.tell(f"The headers have more than {_MAX_KEPT} characters; the rest of them is left out.")
            break
        kept.setdefault(name, []).append(value)
    return kept


def _leaves(part: Part) -> list[Part]:
    """Return the parts that hold no others, in their order."""
    return [leaf for inner in part.parts for leaf in _leaves(inner)] if part.parts else [part]
