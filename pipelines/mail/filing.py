"""A batch of mails becomes rows: in the transaction that moves the cursor of their folder, all of it or nothing."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from core.errors import RetryableError
from db import collections, documents, mail
from db.connection import Connection
from db.mail import Inbound, Kept, Reading
from pipelines.documents.registering import enqueue_ingest, is_held
from pipelines.mail.reading import Arrived, Batch, documents_of
from pipelines.mail.threads import SUBJECT_SPAN, candidates, is_reply_subject, normalise_subject, thread_of
from pipelines.storage import Storage, StoredObject
from pipelines.transaction import Transaction

_SOURCE = "mail"
_DEFAULT = "default"


def file(transaction: Transaction, mailbox: Reading, batch: Batch, storage: Storage) -> int | None:
    """Keep a batch's mails and move the cursor; return how many are new.

    None where somebody else read the folder meanwhile, or the mailbox is gone: nothing is written then. Raises
    RetryableError where a file was removed from storage before its row was there.
    """
    connection = transaction.connection
    if not mail.lock(connection, mailbox.id) or not mail.is_where_it_was(connection, batch.folder):
        return None
    for stored in batch.files:
        if not is_held(transaction, storage, mailbox.tenant_id, stored):
            raise RetryableError("a file of a mail was removed before its row was made")
    place = mail.Place(mailbox.id, batch.folder.name, batch.uidvalidity)
    threaded = _threaded(connection, mailbox, batch.arrived)
    kept = mail.keep(connection, place, threaded)
    arrived = {each.mail.uid: each for each in batch.arrived}
    new = [each for each in kept if each.is_new]
    for each in new:
        _join(connection, mailbox, each.mail)
        _make_documents(transaction, mailbox, each, arrived[each.mail.uid])
    mail.move_cursor(connection, batch.folder.id, batch.uidvalidity, batch.last_uid)
    return len(new)


def _threaded(connection: Connection, mailbox: Reading, arrived: Sequence[Arrived]) -> list[Inbound]:
    """Return mails with their threads: that of a mail that they answer, or what they say began it."""
    named = {message_id for each in arrived for message_id in candidates(each.parsed)}
    known = mail.threads(connection, mailbox.persona_id, named)
    found: list[Inbound] = []
    for each in arrived:
        thread_id = thread_of(each.parsed, known)
        if not candidates(each.parsed):
            thread_id = _thread_by_subject(connection, mailbox, each.mail, found) or thread_id
        if each.mail.message_id and thread_id:
            known[each.mail.message_id] = thread_id
        found.append(replace(each.mail, thread_id=thread_id))
    return found


def _thread_by_subject(
    connection: Connection, mailbox: Reading, answer: Inbound, before: Sequence[Inbound]
) -> str | None:
    """Return the thread that a mail seems to answer that names none: of its subject, its people and its time.

    Those that came before it in the batch have no rows yet.
    """
    subject, at = normalise_subject(answer.subject or ""), _date(answer)
    if not subject or at is None or not is_reply_subject(answer.subject or ""):
        return None
    people = [address for address in (answer.from_email, *answer.to_emails) if address]
    span = (at - SUBJECT_SPAN, at)
    near = [(each.thread_id, each.subject or "") for each in reversed(before) if _is_near(each, people, span)]
    near += mail.like_subject(connection, mailbox.persona_id, subject, people, span)
    return next((thread_id for thread_id, of in near if thread_id and normalise_subject(of) == subject), None)


def _is_near(mail: Inbound, people: Sequence[str], span: tuple[datetime, datetime]) -> bool:
    at = _date(mail)
    return at is not None and span[0] <= at <= span[1] and not {mail.from_email, *mail.to_emails}.isdisjoint(people)


def _date(mail: Inbound) -> datetime | None:
    return mail.dated_at or mail.received_at


def _join(connection: Connection, mailbox: Reading, new: Inbound) -> None:
    """Bring answers that came before the mail they answer into its thread."""
    if new.message_id and new.thread_id and new.thread_id != new.message_id:
        mail.join_threads(connection, mailbox.tenant_id, mailbox.persona_id, new.message_id, new.thread_id)


def _make_documents(transaction: Transaction, mailbox: Reading, kept: Kept, arrived: Arrived) -> None:
    """Register what of a mail is to be found by search, as the mailbox says."""
    if mailbox.bodies_to_documents and arrived.body is not None:
        external_id = f"mail/{kept.id}"
        document_id = _register(transaction, mailbox, kept, arrived.name, arrived.body, external_id)
        mail.own_document(transaction.connection, document_id, email_id=kept.id)
    if not mailbox.attachments_to_documents or not kept.attachment_ids:
        return
    for at, found in documents_of(kept.mail):
        attachment_id = kept.attachment_ids[at]
        external_id = f"mail/{kept.id}/{attachment_id}"
        stored = StoredObject(found.file_path, found.file_size, found.checksum.hex())
        document_id = _register(transaction, mailbox, kept, found.name, stored, external_id)
        mail.own_document(transaction.connection, document_id, attachment_id=attachment_id)


def _register(
    transaction: Transaction, mailbox: Reading, kept: Kept, name: str, stored: StoredObject, external_id: str
) -> UUID:
    connection, date = transaction.connection, _date(kept.mail)
    collection_id = mailbox.collection_id or collections.ensure_collection(connection, mailbox.tenant_id, _DEFAULT)[0]
    registered = documents.register(
        connection,
        tenant_id=mailbox.tenant_id,
        collection_id=collection_id,
        persona_id=mailbox.persona_id,
        external_id=external_id,
        name=name,
        source=_SOURCE,
        file_path=stored.key,
        file_size=stored.size,
        metadata={
            "email_id": str(kept.id),
            "from": kept.mail.from_email,
            "subject": kept.mail.subject,
            "date": date.isoformat() if date else None,
        },
    )
    enqueue_ingest(transaction, registered.id)
    return registered.id
