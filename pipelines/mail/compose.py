"""A mail as a server is given it, made of its row and its files (RFC 5322, RFC 2045): the same bytes at each attempt.

Text is quoted-printable or base64, so a message has short lines of ASCII; headers too, unless an address needs UTF-8
(RFC 6532). Files are streamed from storage in place of a token that no message of this process has.
"""

import base64
import re
import secrets
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email.headerregistry import Address, BaseHeader, HeaderRegistry
from email.message import EmailMessage
from email.policy import SMTP, Policy
from email.utils import format_datetime
from typing import IO, Any, Final

import idna

from core.errors import PermanentError
from db.outbound import Attachment, Outgoing
from pipelines.storage import Storage

_PIECE: Final = 57 * 1024  # 57 bytes are a line of base64
_MOST_REFERENCES: Final = 40
_ID: Final = re.compile(r"<[!-;=?-~]{1,900}>")
_FIELD: Final = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,75}")
_MIME: Final = re.compile(r"(?!multipart/|message/)[a-z]+/[a-z0-9][a-z0-9.+-]*")
# Category Cc ends lines, or is no text; U+2028 and U+2029 end lines to Python.
_BREAKS: Final = frozenset({"Cc", "Zl", "Zp", "Cs"})
_OURS: Final = frozenset({
    "from", "sender", "to", "cc", "bcc", "subject", "date", "message-id", "in-reply-to", "references", "mime-version",
    "auto-submitted",
})  # fmt: skip


class _Ids(BaseHeader):
    """Message ids, which a line break may stand between and never within: the library would encode long ones."""

    max_count = 1

    @staticmethod
    def parse(value: str, kwds: dict[str, Any]) -> None:
        """Take the ids as they are."""
        kwds |= {"parse_tree": None, "decoded": value}

    def fold(self, *, policy: Policy) -> str:
        """Return the header, an id a line."""
        separator = f"{policy.linesep} "
        return f"{self.name}: {separator.join(str(self).split())}{policy.linesep}"


def _registry() -> HeaderRegistry:
    registry = HeaderRegistry()
    for name in ("message-id", "in-reply-to", "references"):
        registry.map_to_type(name, _Ids)
    return registry


_POLICY: Final = SMTP.clone(cte_type="7bit", header_factory=_registry())


@dataclass(frozen=True, slots=True)
class Envelope:
    """Whom a message is for, each once, and by whom it is sent; `needs_utf8` says that a server must offer SMTPUTF8."""

    sender: str
    recipients: tuple[str, ...]
    needs_utf8: bool


def envelope_of(mail: Outgoing) -> Envelope:
    """Return who is named to the server, those of Bcc too. Raises PermanentError for what is no address."""
    named = [*_all_of("to_emails", mail.to_emails), *_all_of("cc", [mail.cc]), *_all_of("bcc", [mail.bcc])]
    if not named:
        raise PermanentError("the mail has no recipient: fill in to_emails, cc or bcc")
    recipients = tuple(dict.fromkeys(address.addr_spec for address in named))
    # the mailbox, which is read: bounces go there
    sender = _one("from_email", mail.from_email if mail.sender is None else mail.sender.address).addr_spec
    return Envelope(sender, recipients, not all(each.isascii() for each in (sender, *recipients)))


def compose(
    mail: Outgoing, envelope: Envelope, files: Sequence[Attachment], storage: Storage, writing: IO[bytes]
) -> int:
    """Write the message; return its size in bytes. Memory holds its texts and a piece of a file, never a whole one.

    Raises PermanentError for a mail that cannot be one, and what a storage raises.
    """
    token = secrets.token_hex(16)
    message = _message(EmailMessage(_POLICY.clone(utf8=envelope.needs_utf8)), mail, files, token)
    pieces = re.split(rf"{token}-(\d+)".encode(), message.as_bytes())
    for position, piece in enumerate(pieces):
        if position % 2 == 0:
            writing.write(piece)
            continue
        for encoded in _encoded(mail, files[int(piece)], storage):
            writing.write(encoded)
    return writing.tell()


def _message(message: EmailMessage, mail: Outgoing, files: Sequence[Attachment], token: str) -> EmailMessage:
    _add_headers(message, mail)
    inside = f"=_{mail.id.hex}"
    shown = [number for number, each in enumerate(files) if each.is_inline and each.content_id and mail.body_html]
    if mail.body_text is not None or mail.body_html is None:
        _set_text(message, mail.body_text or "", "plain")
    if mail.body_html is not None:
        holder = message
        if mail.body_text is not None:
            message.make_alternative(boundary=f"{inside}_alternative")
            holder = EmailMessage(message.policy)
        _set_text(holder, mail.body_html, "html")
        if shown:
            holder.make_related(boundary=f"{inside}_related")
            _attach(holder, files, shown, token)
        if holder is not message:
            del holder["MIME-Version"]
            message.attach(holder)
    if rest := [number for number in range(len(files)) if number not in shown]:
        message.make_mixed(boundary=f"{inside}_mixed")
        _attach(message, files, rest, token)
    return message


def _add_headers(message: EmailMessage, mail: Outgoing) -> None:
    own = _one("from_email", mail.from_email)
    message["From"] = own
    if mail.sender is not None and own.addr_spec.lower() != mail.sender.address.lower():
        message["Sender"] = _addresses("the mailbox's address", mail.sender.address)
    if to := _all_of("to_emails", mail.to_emails):
        message["To"] = to
    if cc := _all_of("cc", [mail.cc]):
        message["Cc"] = cc
    message["Subject"] = _line("subject", mail.subject)
    message["Date"] = format_datetime(mail.dated_at)
    if mail.message_id is None or not _ID.fullmatch(mail.message_id):
        raise PermanentError("message_id is no Message-ID: leave it out, or write <unique@domain>")
    message["Message-ID"] = mail.message_id
    _add_thread(message, mail)
    _add_own(message, mail)


def _add_own(message: EmailMessage, mail: Outgoing) -> None:
    """Add what the mail's row has no column for."""
    if mail.is_auto_reply:
        message["Auto-Submitted"] = "auto-replied"
    for name, values in mail.headers.items():
        for value in values if isinstance(values, list) else [values]:
            message[_own_name(name)] = _line(f"the header {name}", str(value))


def _add_thread(message: EmailMessage, mail: Outgoing) -> None:
    """Name what is answered and what came before it: its beginning and its end, where it is long."""
    if mail.in_reply_to is not None and _ID.fullmatch(mail.in_reply_to):
        message["In-Reply-To"] = mail.in_reply_to
    ids = [each for each in mail.reference_ids if _ID.fullmatch(each)]
    if len(ids) > _MOST_REFERENCES:
        ids = [ids[0], *ids[1 - _MOST_REFERENCES :]]
    if ids:
        message["References"] = " ".join(ids)


def _own_name(name: str) -> str:
    if not _FIELD.fullmatch(name):
        raise PermanentError("headers has a name that is none")
    if name.lower() in _OURS or name.lower().startswith("content-"):
        raise PermanentError(f"headers has {name}, which follows from the mail's columns")
    return name


def _line(what: str, text: str) -> str:
    """Return a header's text; raises PermanentError where it would be more than one header."""
    if any(unicodedata.category(character) in _BREAKS for character in text):
        raise PermanentError(f"{what} has a line break or another control character in it")
    return text


def _all_of(what: str, texts: Sequence[str]) -> list[Address]:
    return [address for text in texts for address in _addresses(what, text)]


def _addresses(what: str, text: str) -> list[Address]:
    """Return the addresses of a text with commas, their domains in ASCII. Errors name the field and no address."""
    if not text.strip():
        return []
    parsed = _POLICY.header_factory("To", _line(what, text))
    found: list[Address] = []
    for address in parsed.addresses:
        if not address.username or not address.domain or re.search(r"\s", address.addr_spec):
            raise PermanentError(f"{what} holds what is no address")
        try:
            domain = address.domain
            ascii_domain = domain if domain.isascii() else idna.encode(domain, uts46=True).decode()
        except idna.IDNAError:
            raise PermanentError(f"{what} holds an address whose domain is none") from None
        found.append(Address(address.display_name, address.username, ascii_domain))
    if not found or any("NonASCII" not in type(defect).__name__ for defect in parsed.defects):
        raise PermanentError(f"{what} holds what is no address")
    return found


def _one(what: str, text: str) -> Address:
    found = _addresses(what, text)
    if len(found) != 1:
        raise PermanentError(f"{what} is not one address")
    return found[0]


def _set_text(part: EmailMessage, text: str, kind: str) -> None:
    """Set a part's text; encoded in any case, so that no line of it can be a boundary or too long."""
    ascii_share = sum(character.isascii() for character in text) >= 0.7 * len(text)
    part.set_content(text, subtype=kind, charset="utf-8", cte="quoted-printable" if ascii_share else "base64")


def _attach(holder: EmailMessage, files: Sequence[Attachment], numbers: Sequence[int], token: str) -> None:
    for number in numbers:
        file = files[number]
        part = EmailMessage(holder.policy)
        mime = (file.mime_type or "").lower()
        part["Content-Type"] = mime if _MIME.fullmatch(mime) else "application/octet-stream"
        kind = "inline" if file.is_inline else "attachment"
        part.add_header("Content-Disposition", kind, filename=_line("an attachment's name", file.name))
        if file.content_id:
            part["Content-ID"] = f"<{_line('a content_id', file.content_id).strip('<>')}>"
        part["Content-Transfer-Encoding"] = "base64"
        part.set_payload(f"{token}-{number}")
        holder.attach(part)


def _encoded(mail: Outgoing, file: Attachment, storage: Storage) -> Iterator[bytes]:
    """Yield a file in lines of base64. Raises PermanentError where it is not what the mail was written with."""
    with storage.open(mail.tenant_id, file.file_path) as content:
        if file.checksum is not None and file.checksum != content.sha256:
            raise PermanentError("an attachment's file was changed since the mail was written")
        with content.path.open("rb") as reading:
            while piece := reading.read(_PIECE):
                yield base64.encodebytes(piece).replace(b"\n", b"\r\n")
