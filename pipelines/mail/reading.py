"""From a folder to the next mails that are to be kept: fetched in UID order, parsed, their files in storage.

Invariant: a batch is bounded in mails, bytes and files, and no transaction is open while it is made. Files are stored
before the rows that name them; one whose row never comes is an orphan that `files.check` finds.
"""

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from db.mail import Folder, Inbound, InboundFile
from pipelines.documents.parsing import is_read
from pipelines.mail.errors import MailServerError
from pipelines.mail.imap import ImapSession, Listed, Raw
from pipelines.mail.parsing import MailLimits, ParsedMail, parse, parse_headers
from pipelines.storage import Storage, StoredObject

_MOST_MAILS: Final = 100
_MOST_BYTES: Final = 20_000_000
_MOST_FILES: Final = 100
# So much is asked for at once: what a server breaks off is asked for again.
_GROUP_MAILS, _GROUP_BYTES = 25, 1_000_000
_WIDER: Final = 4
_SAME: Final = {each.name for each in fields(Inbound)} & {each.name for each in fields(ParsedMail)} - {"attachments"}


@dataclass(frozen=True, slots=True)
class Arrived:
    """A mail that is to be kept, and as it was parsed, without its files.

    `body` stands in storage where it is to become a document, and is called `name`.
    """

    mail: Inbound
    parsed: ParsedMail
    body: StoredObject | None = None
    name: str = ""


@dataclass(frozen=True, slots=True)
class Batch:
    """The next mails of a folder, none where it has no more, and how far it is read with them."""

    folder: Folder
    uidvalidity: int
    last_uid: int
    arrived: list[Arrived] = field(default_factory=list)

    @property
    def is_news(self) -> bool:
        """Whether there is anything to write."""
        return (self.uidvalidity, self.last_uid) != (self.folder.uidvalidity, self.folder.last_uid)

    @property
    def files(self) -> list[StoredObject]:
        """What stands in storage for it, each once and in the order in which all lock it."""
        found = {
            file.file_path: StoredObject(file.file_path, file.file_size, file.checksum.hex())
            for each in self.arrived
            for file in each.mail.attachments
        }
        found |= {each.body.key: each.body for each in self.arrived if each.body}
        return [found[key] for key in sorted(found)]


@dataclass(frozen=True, slots=True)
class Keeping:
    """Where files of a mailbox's mail go, whether bodies do, and what of a mail is kept.

    One by one, what comes before a mail that the server does not get over is had.
    """

    storage: Storage
    tenant_id: UUID
    limits: MailLimits
    with_bodies: bool
    one_by_one: bool = False


def next_batch(session: ImapSession, folder: Folder, keeping: Keeping) -> Batch:
    """Read the next mails of a folder, from the first on where its UIDs count anew.

    What a server gave before it broke off is a batch, too. Raises MailServerError where it gave nothing, and
    FolderMissingError.
    """
    examined = session.examine(folder.name)
    last = folder.last_uid if folder.uidvalidity == examined.uidvalidity else 0
    listed, reached = _listed(session, last, examined.next_uid)
    arrived: list[Arrived] = []
    with tempfile.TemporaryDirectory(prefix="greenroom-mail-") as scratch:
        try:
            for group in _groups(listed, keeping):
                arrived += _fetched(session, group, keeping, Path(scratch))
                if sum(len(each.mail.attachments) for each in arrived) >= _MOST_FILES:
                    reached = group[-1].uid
                    break
        except MailServerError:
            if not arrived:
                raise
            reached = arrived[-1].mail.uid
    return Batch(folder, examined.uidvalidity, reached, arrived)


def _listed(session: ImapSession, last: int, next_uid: int) -> tuple[list[Listed], int]:
    """Return the next mails behind a UID, and how far that is; wide gaps take a few questions."""
    found: list[Listed] = []
    reached, width = last, _MOST_MAILS
    while reached + 1 < next_uid and not found:
        upto = min(reached + width, next_uid - 1)
        found = session.list_mails(reached + 1, upto)
        reached, width = upto, width * _WIDER
    taken, size = 0, 0
    for mail in found[:_MOST_MAILS]:
        if taken and size + mail.size > _MOST_BYTES:
            break
        taken, size = taken + 1, size + mail.size
    return found[:taken], found[taken - 1].uid if taken < len(found) else reached


def _groups(listed: Sequence[Listed], keeping: Keeping) -> Iterator[list[Listed]]:
    """Yield mails that are asked for together; one that is too large stands alone."""
    group: list[Listed] = []
    most, max_bytes = 1 if keeping.one_by_one else _GROUP_MAILS, keeping.limits.max_bytes
    for mail in listed:
        size = sum(each.size for each in group) + mail.size
        is_alone = mail.size > max_bytes or (group and group[0].size > max_bytes)
        if group and (len(group) == most or size > _GROUP_BYTES or is_alone):
            yield group
            group = []
        group.append(mail)
    if group:
        yield group


def _fetched(session: ImapSession, group: Sequence[Listed], keeping: Keeping, scratch: Path) -> Iterator[Arrived]:
    [first, *_] = group
    if first.size <= keeping.limits.max_bytes:
        return (_arrived(raw, keeping, scratch) for raw in session.fetch(group))
    return (_headers_of(raw, first, keeping) for raw in session.fetch_headers(first))


def _arrived(raw: Raw, keeping: Keeping, scratch: Path) -> Arrived:
    """Parse a mail and store its files."""
    parsed = parse(raw.content, keeping.limits)
    files = []
    for part in parsed.attachments:
        stored = _store(keeping, scratch, part.content)
        files.append(
            InboundFile(
                name=part.name,
                file_path=stored.key,
                file_size=stored.size,
                mime_type=part.mime_type,
                checksum=part.checksum,
                content_id=part.content_id,
                is_inline=part.is_inline,
            )
        )
    problems = parsed.problems if raw.content else ("The server gave the mail without its contents.",)
    mail = _inbound(raw, parsed, problems=problems, attachments=tuple(files))
    parsed = replace(parsed, attachments=())
    if not keeping.with_bodies or not (content := _body_of(mail)):
        return Arrived(mail, parsed)
    name = f"{_file_name(mail.subject)}.{'txt' if mail.body_text else 'html'}"
    return Arrived(mail, parsed, _store(keeping, scratch, content), name)


def _headers_of(raw: Raw, listed: Listed, keeping: Keeping) -> Arrived:
    """Return a mail of which only headers were fetched; it is known again by them and its size."""
    parsed = parse_headers(raw.content, keeping.limits, size_bytes=listed.size)
    digest = hashlib.sha256(raw.content + str(listed.size).encode()).digest()
    return Arrived(_inbound(raw, parsed, content_hash=digest), parsed)


def _inbound(raw: Raw, parsed: ParsedMail, **given: Any) -> Inbound:
    same: dict[str, Any] = {name: getattr(parsed, name) for name in _SAME} | given
    return Inbound(uid=raw.uid, received_at=raw.received_at, **same)


def _store(keeping: Keeping, scratch: Path, content: bytes) -> StoredObject:
    path = scratch / "file"
    path.write_bytes(content)
    return keeping.storage.put(keeping.tenant_id, path)


def _body_of(mail: Inbound) -> bytes:
    """Return what becomes of a body: text with what the mail is about above it, or the HTML as it came."""
    if not mail.body_text:
        return (mail.body_html or "").encode("utf-8", "replace")
    heads = (("Subject", mail.subject), ("From", mail.from_email))
    head = "\n".join(f"{name}: {value}" for name, value in heads if value)
    return f"{head}\n\n{mail.body_text}".encode("utf-8", "replace")


def _file_name(subject: str | None) -> str:
    """Return a subject as the name of a file: nothing in it leads elsewhere."""
    kept = "".join(each if each.isalnum() or each in " -_.()" else " " for each in subject or "")
    return " ".join(kept.split())[:200].strip(". ") or "mail"


def documents_of(mail: Inbound) -> Iterator[tuple[int, InboundFile]]:
    """Yield the files of a mail that can be documents, with their places: what is shown inside its body is none."""
    return ((at, file) for at, file in enumerate(mail.attachments) if not file.is_inline and is_read(file.name))
