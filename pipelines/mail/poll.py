"""`mailboxes.poll` enqueues a poll of each mailbox that is due; `mailbox.poll` reads one, a batch of mails at a time.

Each batch is kept in one transaction with the cursor of its folder, and the task comes back at once for the next: a
worker that dies costs at most the batch that it was at. A mailbox that cannot be read says so in `last_error`, and is
polled at growing intervals; its task is done all the same, as there is nothing that repeating it would mend sooner.
"""

from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from core.errors import PermanentError, SettingsError, UnavailableError
from core.settings import Settings
from db import mail, standings, vault
from db.mail import Folder, Reading
from db.vault import Stored
from pipelines.mail.access import MailAccess, mail_access, mailbox_session
from pipelines.mail.credentials import credential
from pipelines.mail.errors import FolderMissingError, MailServerError
from pipelines.mail.filing import file
from pipelines.mail.imap import ImapSession
from pipelines.mail.parsing import MailLimits
from pipelines.mail.payloads import MAIL_QUEUE, PollMailbox, PollMailboxes
from pipelines.mail.reading import Batch, Keeping, next_batch
from pipelines.outcomes import Cancel, Done, Outcome, Snooze
from pipelines.registry import AnyTask
from pipelines.resources import Resources
from pipelines.schedule import Schedule
from pipelines.storage import Storage
from pipelines.task import UNCOUNTED, Task, TaskContext
from pipelines.transaction import Transaction

_PAGE = 1000
_STANDING: standings.Of = "polling"
# The storage does not answer.
_AGAIN = timedelta(seconds=10)
_MOST_TOLD = 1000


def poll_all(context: TaskContext, payload: PollMailboxes) -> Outcome:
    """Enqueue the polls of the next mailboxes that are due; done behind the last one."""
    with context.read() as transaction:
        standing = standings.read(transaction.connection, context.task_id, _STANDING)
        after, count = UUID(standing.get("after", standings.FIRST)), standing.get("mailboxes", 0)
        found = mail.due(transaction.connection, after, _PAGE)

    def apply(transaction: Transaction) -> None:
        mail.enqueue(transaction.connection, PollMailbox.task_type, found)
        if len(found) == _PAGE:
            reached = {"after": str(found[-1][0]), "mailboxes": count + len(found)}
            standings.note(transaction.connection, context.task_id, _STANDING, reached)

    if len(found) == _PAGE:
        return Snooze(timedelta(0), apply)
    return Done({"mailboxes": count + len(found)}, apply)


def poll(context: TaskContext, payload: PollMailbox) -> Outcome:
    """Read the next mails of the mailbox; done when no folder has more."""
    with context.read() as transaction:
        connection = transaction.connection
        mailbox = mail.reading(connection, payload.mailbox_id)
        folders = mail.folders(connection, payload.mailbox_id)
        stored = vault.secret_of_id(connection, mailbox.tenant_id, mailbox.secret_id) if mailbox else None
        standing = standings.read(connection, context.task_id, _STANDING)
    if mailbox is None or stored is None:
        return Cancel("the mailbox was removed")
    if mailbox.is_paused:
        return Cancel("the mailbox is paused")
    polling = _Poll(context, mailbox, folders, standing.get("mails", 0))
    try:
        return polling.read(stored)
    except UnavailableError as away:  # the storage: the mailbox is not to blame
        return Snooze(away.retry_after or _AGAIN, reason=str(away))
    except (MailServerError, PermanentError, SettingsError) as error:
        return polling.end([str(error)])


class _Poll:
    """One look at a mailbox, for a batch of its mails."""

    def __init__(self, context: TaskContext, mailbox: Reading, folders: Sequence[Folder], count: int) -> None:
        self._context = context
        self._mailbox = mailbox
        self._folders = folders
        self._count = count
        self._storage = context.resources.get(Storage)
        self._limits = context.resources.get(MailLimits)

    def read(self, stored: Stored) -> Outcome:
        """Log in, and read the first folder that has more."""
        access = self._context.resources.get(MailAccess)
        secret = credential(self._context, stored, self._mailbox.login, access.tokens)
        with mailbox_session(access, self._mailbox, secret) as session:
            return self._read(session)

    def end(self, errors: Sequence[str], idle: Sequence[Batch] = ()) -> Outcome:
        """Say that the mailbox was polled, and what went wrong; folders without mail may still have moved."""
        error = "; ".join(errors)[:_MOST_TOLD] or None
        result: dict[str, Any] = {"mails": self._count} | ({"error": error} if error else {})

        def apply(transaction: Transaction) -> None:
            for batch in idle:
                file(transaction, self._mailbox, batch, self._storage)
            mail.polled(transaction.connection, self._mailbox.id, error)

        return Done(result, apply)

    def _read(self, session: ImapSession) -> Outcome:
        mailbox, errors, idle = self._mailbox, list[str](), list[Batch]()
        keeping = Keeping(
            self._storage,
            mailbox.tenant_id,
            self._limits,
            mailbox.bodies_to_documents,
            one_by_one=mailbox.failed_polls > 0,
        )
        for folder in self._folders:
            try:
                batch = next_batch(session, folder, keeping)
            except FolderMissingError as error:
                errors.append(str(error))
                continue
            if batch.arrived:
                return Snooze(timedelta(0), partial(self._keep, batch))
            if batch.is_news:
                idle.append(batch)
        return self.end(errors, idle)

    def _keep(self, batch: Batch, transaction: Transaction) -> None:
        new = file(transaction, self._mailbox, batch, self._storage)
        reached = {"mails": self._count + (new or 0)}
        standings.note(transaction.connection, self._context.task_id, _STANDING, reached)


def provide(resources: Resources, settings: Settings) -> None:
    """Say how connections are checked, and what of a mail is kept."""
    given = settings.mail
    limits = MailLimits(
        max_bytes=given.max_bytes,
        max_parts=given.max_parts,
        max_depth=given.max_depth,
        max_attachment_bytes=given.max_attachment_bytes,
        max_text_characters=given.max_text_characters,
    )
    resources.provide(MailAccess, lambda: mail_access(given))
    resources.provide(MailLimits, lambda: limits)


TASKS: tuple[AnyTask, ...] = (
    Task(payload=PollMailboxes, run=poll_all, scope="system", batch_size=1, max_snoozes=UNCOUNTED),
    Task(
        payload=PollMailbox,
        run=poll,
        queue=MAIL_QUEUE,
        batch_size=1,
        time_limit=timedelta(minutes=15),
        max_snoozes=UNCOUNTED,
    ),
)
SCHEDULES = (
    Schedule(
        name="mailboxes-poll",
        payload=PollMailboxes(),
        cron="* * * * *",
        missed="skip",
        overlap="skip",
        design="000",
        description="Polls the mailboxes that are due.",
    ),
)
