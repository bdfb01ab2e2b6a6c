"""Mail in: mailboxes, how far their folders were read, and the mails that came. Over `sql/mail.sql`.

Invariant: a mail, its attachments and the cursor of its folder are one transaction, which holds the mailbox's lock.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb

from db.connection import Connection
from db.queries import Queries, is_unavailable

QUERIES = Queries("mail")


@dataclass(frozen=True, slots=True)
class Reading:
    """How a mailbox is read, and what becomes of its mail."""

    id: UUID
    tenant_id: UUID
    persona_id: UUID
    host: str
    port: int
    security: Any
    login: Any
    username: str
    secret_id: UUID
    is_paused: bool
    bodies_to_documents: bool
    attachments_to_documents: bool
    collection_id: UUID | None
    failed_polls: int


@dataclass(frozen=True, slots=True)
class Watched:
    """A mailbox that is watched, by one folder; `secret_at` is when its secret was written last."""

    mailbox: Reading
    folder: str
    secret_at: datetime


@dataclass(frozen=True, slots=True)
class Folder:
    """How far a folder was read; `uidvalidity` is None where it never was, and `last_uid` counts within it."""

    id: UUID
    name: str
    uidvalidity: int | None
    last_uid: int


@dataclass(frozen=True, slots=True)
class InboundFile:
    """A file of a mail, which stands in storage already."""

    name: str
    file_path: str
    file_size: int
    mime_type: str | None
    checksum: bytes
    content_id: str | None = None
    is_inline: bool = False


@dataclass(frozen=True, slots=True)
class Inbound:
    """A mail that came, as it is kept; the names are the columns'. `uid` is its place in the folder."""

    uid: int
    received_at: datetime | None
    size_bytes: int
    content_hash: bytes
    message_id: str | None = None
    in_reply_to: str | None = None
    reference_ids: tuple[str, ...] = ()
    thread_id: str | None = None
    from_email: str = ""
    to_email: str = ""
    to_emails: tuple[str, ...] = ()
    cc: str | None = None
    bcc: str | None = None
    subject: str | None = None
    body_text: str | None = None
    body_html: str | None = None
    headers: Mapping[str, Any] | None = None
    is_bounce: bool = False
    is_auto_reply: bool = False
    dated_at: datetime | None = None
    problems: tuple[str, ...] = ()
    attachments: tuple[InboundFile, ...] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """Where mails stand: a folder of a mailbox, and the UIDVALIDITY that their UIDs count within."""

    mailbox_id: UUID
    folder: str
    uidvalidity: int


@dataclass(frozen=True, slots=True)
class Kept:
    """A mail as it was kept, with the ids of its rows; `is_new` is false where the mailbox had it already."""

    mail: Inbound
    id: UUID
    attachment_ids: tuple[UUID, ...]
    is_new: bool


def due(connection: Connection, after: UUID, most: int) -> list[tuple[UUID, UUID]]:
    """Return the next mailboxes that are to be polled, with their tenants. As the system role, for all tenants."""
    rows = QUERIES.run(connection, "due", {"after": after, "most": most})
    return [(mailbox_id, tenant_id) for mailbox_id, tenant_id in rows]


def enqueue(connection: Connection, task_type: str, mailboxes: Sequence[tuple[UUID, UUID]]) -> None:
    """Enqueue a task of that type for each mailbox, unless one is live. Expects a transaction."""
    ids, tenants = [each[0] for each in mailboxes], [each[1] for each in mailboxes]
    QUERIES.run(connection, "enqueue", {"task_type": task_type, "mailbox_ids": ids, "tenants": tenants})


def ring(connection: Connection, task_type: str, mailboxes: Sequence[tuple[UUID, UUID]]) -> set[UUID]:
    """Enqueue a task for each mailbox, unless one waits; return those whose task runs: they have to be rung again."""
    ids, tenants = [each[0] for each in mailboxes], [each[1] for each in mailboxes]
    rows = QUERIES.run(connection, "ring", {"task_type": task_type, "mailbox_ids": ids, "tenants": tenants})
    return {mailbox_id for mailbox_id, is_running in rows if is_running}


def watched(connection: Connection, most: int) -> list[Watched]:
    """Return the mailboxes that are to be watched, of all tenants, as the system role."""
    rows = QUERIES.run(connection, "watched", {"most": most})
    return [Watched(Reading(*row[:-2]), row[-2] or "INBOX", row[-1]) for row in rows]


def become_watcher(connection: Connection) -> bool:
    """Return whether this session is the one that watches; it stays it until it ends."""
    return QUERIES.run(connection, "become_watcher") == [(True,)]


def reading(connection: Connection, mailbox_id: UUID) -> Reading | None:
    """Return how a mailbox is read; None where it is gone, or only sends."""
    rows = QUERIES.run(connection, "reading", {"id": mailbox_id})
    return Reading(*rows[0]) if rows else None


def folders(connection: Connection, mailbox_id: UUID) -> list[Folder]:
    """Return the folders of a mailbox, the inbox first."""
    return [Folder(*row) for row in QUERIES.run(connection, "folders", {"id": mailbox_id})]


def lock(connection: Connection, mailbox_id: UUID) -> bool:
    """Keep others from writing to a mailbox until the end of the transaction; False where it is gone."""
    return bool(QUERIES.run(connection, "lock", {"id": mailbox_id}))


def is_where_it_was(connection: Connection, folder: Folder) -> bool:
    """Return whether a folder's cursor is what it was. Hold `lock` before."""
    return QUERIES.run(connection, "cursor", {"id": folder.id}) == [(folder.uidvalidity, folder.last_uid)]


def move_cursor(connection: Connection, folder_id: UUID, uidvalidity: int, last_uid: int) -> None:
    """Say how far a folder was read. Expects the transaction that keeps what was read, and `lock` before."""
    QUERIES.run(connection, "move_cursor", {"id": folder_id, "uidvalidity": uidvalidity, "last_uid": last_uid})


def threads(connection: Connection, persona_id: UUID, message_ids: Collection[str]) -> dict[str, str]:
    """Return the threads of a persona's mails by their message ids; of one id several mails may be."""
    values = {"persona_id": persona_id, "message_ids": list(message_ids)}
    return dict(QUERIES.run(connection, "threads", values)) if message_ids else {}


def like_subject(
    connection: Connection, persona_id: UUID, subject: str, people: Sequence[str], span: tuple[datetime, datetime]
) -> list[tuple[str, str]]:
    """Return threads and subjects of a persona's mails that end with a subject, of any of some addresses, in a span.

    The newest come first, at most 20: what the subjects begin with, the caller judges.
    """
    values = {
        "persona_id": persona_id,
        "subject": subject,
        "people": list(people),
        "since": span[0],
        "until": span[1],
    }
    return [(thread_id, of) for thread_id, of in QUERIES.run(connection, "like_subject", values)]


def join_threads(connection: Connection, tenant_id: UUID, persona_id: UUID, message_id: str, thread_id: str) -> None:
    """Bring mails that began a thread of their own by naming a mail that was not there into the thread of it."""
    values = {
        "tenant_id": tenant_id,
        "persona_id": persona_id,
        "message_id": message_id,
        "thread_id": thread_id,
    }
    QUERIES.run(connection, "join_threads", values)


def keep(connection: Connection, place: Place, mails: Sequence[Inbound]) -> list[Kept]:
    """Write mails that came, in their order; one that the mailbox has from elsewhere only changes its place.

    One that Postgres does not take is kept without what it may have been that was refused, and says so. Expects a
    transaction, and `lock` before. A mail of a place that is taken is left out.
    """
    hashes = [mail.content_hash for mail in mails]
    known = {row[0] for row in QUERIES.run(connection, "known", {"mailbox_id": place.mailbox_id, "hashes": hashes})}
    return _keep(connection, place, list(mails), known)


def _keep(connection: Connection, place: Place, mails: list[Inbound], known: set[bytes]) -> list[Kept]:
    """Write mails together, or, where one of them is refused, in halves: a savepoint each is too many."""
    if not mails:
        return []
    try:
        with connection.transaction():
            return [kept for mail in mails if (kept := _keep_one(connection, place, mail, known)) is not None]
    except psycopg.Error as error:
        if is_unavailable(error) or not _is_of_the_row(error):
            raise
        if len(mails) == 1:
            return _keep_bare(connection, place, mails[0], error)
    middle = len(mails) // 2
    return _keep(connection, place, mails[:middle], known) + _keep(connection, place, mails[middle:], known)


def _keep_bare(connection: Connection, place: Place, mail: Inbound, refused: psycopg.Error) -> list[Kept]:
    """Keep a mail that was refused with its files alone, or, where it is them that are refused, without."""
    bare = _bare(mail, refused)
    try:
        with connection.transaction():
            kept = _keep_one(connection, place, replace(bare, attachments=mail.attachments), set())
    except psycopg.Error as error:
        if not _is_of_the_row(error):
            raise
        kept = _keep_one(connection, place, bare, set())
    return [kept] if kept is not None else []


def _is_of_the_row(error: psycopg.Error) -> bool:
    """Whether it is the row's contents that were refused: data exceptions, broken rules, limits of the program."""
    return (error.sqlstate or "")[:2] in {"22", "23", "54"} or isinstance(error, psycopg.DataError)


def _bare(mail: Inbound, error: psycopg.Error) -> Inbound:
    """Return what is kept of a mail that was refused: what cannot have been the reason."""
    reason = error.diag.constraint_name or error.sqlstate or type(error).__name__
    return Inbound(
        uid=mail.uid,
        received_at=mail.received_at,
        size_bytes=mail.size_bytes,
        content_hash=mail.content_hash,
        problems=(f"the database refused the mail ({reason}): its text is not kept",),
    )


def _keep_one(connection: Connection, place: Place, mail: Inbound, known: set[bytes]) -> Kept | None:
    where = {
        "mailbox_id": place.mailbox_id,
        "folder": place.folder,
        "uidvalidity": place.uidvalidity,
        "uid": mail.uid,
    }
    if mail.content_hash in known:
        moved = QUERIES.run(connection, "place", {**where, "content_hash": mail.content_hash})
        if moved:
            return Kept(mail, moved[0][0], (), is_new=False)
    rows = QUERIES.run(connection, "insert", where | _values(mail))
    if not rows:
        return None
    email_id: UUID = rows[0][0]
    attachment_ids = [
        QUERIES.run(connection, "insert_attachment", {"email_id": email_id, **_columns(file)})[0][0]
        for file in mail.attachments
    ]
    return Kept(mail, email_id, tuple(attachment_ids), is_new=True)


def _values(mail: Inbound) -> dict[str, Any]:
    values = _columns(replace(mail, attachments=()))
    return values | {
        "headers": Jsonb(dict(mail.headers or {})),
        "reference_ids": list(mail.reference_ids),
        "to_emails": list(mail.to_emails),
        "problems": list(mail.problems),
    }


def _columns(row: Inbound | InboundFile) -> dict[str, Any]:
    return {name: getattr(row, name) for name in type(row).__slots__ if name != "attachments"}


def own_document(
    connection: Connection, document_id: UUID, *, email_id: UUID | None = None, attachment_id: UUID | None = None
) -> None:
    """Say which mail, or which file of one, a document is made of: it goes with it."""
    values = {"id": document_id, "email_id": email_id, "attachment_id": attachment_id}
    QUERIES.run(connection, "own_document", values)


def polled(connection: Connection, mailbox_id: UUID, error: str | None = None) -> None:
    """Say that a poll came to its end, and why it failed."""
    QUERIES.run(connection, "polled", {"id": mailbox_id, "error": error})
