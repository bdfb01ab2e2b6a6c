"""What a mail becomes, within which limits, and what had to be said of it."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

MAX_PROBLEMS: Final = 50


@dataclass(frozen=True)
class MailLimits:
    """What one mail may cost; what is above is left out and told in `problems`.

    The values are settings (core/groups.py, MailSettings).
    """

    max_bytes: int = 50_000_000
    """Of the whole mail; of a larger one only the headers are read."""
    max_parts: int = 1_000
    """Of all parts, those that hold others included."""
    max_depth: int = 50
    """Of parts within parts; deeper ones come as one file."""
    max_attachment_bytes: int = 50_000_000
    """Of one file, decoded."""
    max_text_characters: int = 10_000_000
    """Of the plain text, and of the HTML."""


@dataclass(frozen=True)
class ParsedAttachment:
    """A file of a mail; the fields are columns of `mail.attachments`."""

    name: str
    """1 to 255 characters, no path."""
    mime_type: str
    """By content where content tells, else as declared."""
    content: bytes
    checksum: bytes
    """SHA-256 of the content."""
    content_id: str | None
    """Without angle brackets."""
    is_inline: bool


@dataclass(frozen=True)
class ParsedMail:
    """A mail; the fields are columns of `mail.emails`. No text in it holds a NUL or an unpaired surrogate."""

    message_id: str | None
    """In angle brackets, as those of in_reply_to and reference_ids."""
    in_reply_to: str | None
    reference_ids: tuple[str, ...]
    from_email: str
    to_email: str
    to_emails: tuple[str, ...]
    cc: str | None
    bcc: str | None
    subject: str | None
    body_text: str | None
    """Of a mail with HTML alone: the words of that."""
    body_html: str | None
    """As received: never to be shown before `safe_html`."""
    headers: dict[str, list[str]]
    """By name in lower case, decoded; those that have a column are not among them, except for addresses with names."""
    is_bounce: bool
    is_auto_reply: bool
    dated_at: datetime | None
    """In UTC."""
    size_bytes: int
    content_hash: bytes
    """SHA-256 of the bytes that were parsed."""
    attachments: tuple[ParsedAttachment, ...]
    problems: tuple[str, ...]
    """Sentences on what is damaged or left out; none quotes the mail."""


@dataclass
class Problems:
    """Collects sentences, each once, the first MAX_PROBLEMS."""

    _told: dict[str, None] = field(default_factory=dict)

    def tell(self, sentence: str) -> None:
        """Add a sentence, which must not quote the mail."""
        if len(self._told) < MAX_PROBLEMS:
            self._told[sentence] = None

    def all(self) -> tuple[str, ...]:
        """Return the sentences in the order they were told."""
        return tuple(self._told)
