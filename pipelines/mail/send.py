"""`email.send` gives a queued mail to its mailbox's server, never twice; `emails.settle` ends what no task works for.

A marker is committed before the server is given the message (`TaskContext.mark`). Who finds one that an attempt before
has left, or hears nothing after the message's last byte, ends the mail as unknown: an operator decides. Whatever goes
wrong before the marker, or is answered, leaves nothing with the server: the mail waits again, or has failed.
"""

import ssl
import tempfile
import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import IO, Literal
from uuid import UUID

from core import events
from core.backoff import Backoff
from core.errors import PermanentError, UsageError
from core.settings import Settings
from db import outbound, standings, vault
from db.outbound import Outgoing, Sender
from pipelines.mail.compose import Envelope, compose, envelope_of
from pipelines.mail.credentials import credential
from pipelines.mail.errors import LoginRefusedError, MailServerError
from pipelines.mail.outbound import SendEmail, SettleEmails
from pipelines.mail.payloads import MAIL_QUEUE
from pipelines.mail.smtp import (
    Answer,
    NotNowError,
    Patience,
    RefusedError,
    SmtpLogin,
    SmtpSession,
    TooLargeError,
    UnansweredError,
    Utf8UnknownError,
    open_server,
)
from pipelines.mail.tls import tls_context
from pipelines.mail.tokens import AccessTokens
from pipelines.outcomes import Done, Fail, Outcome, Retry, Snooze
from pipelines.registry import AnyTask
from pipelines.resources import Resources
from pipelines.schedule import Schedule
from pipelines.storage import Storage
from pipelines.task import UNCOUNTED, RetryPolicy, Task, TaskContext
from pipelines.transaction import Transaction

Said = Literal["sent", "retry", "failed", "unknown"]
_PAUSED = timedelta(minutes=5)
# So many attempts wait for recipients that are refused for now, a quarter of an hour; then the others get their mail.
_PATIENT_ATTEMPTS = 5
# What is smaller stays in memory.
_SPOOL_BYTES = 1_000_000
_PAGE = 1000
_SILENT = "the server was given the mail and did not answer"
_LEFT = "an attempt ended after it gave the mail to the server, and before it had the answer"


@dataclass(frozen=True, slots=True)
class MailSending:
    """What all attempts of a process have in common."""

    tls: ssl.SSLContext
    patience: Patience
    tokens: AccessTokens = field(default_factory=AccessTokens)


def send(context: TaskContext, payload: SendEmail) -> Outcome:
    """Give the mail to its server, unless it has it already or may have it."""
    with context.read() as transaction:
        mail = outbound.outgoing(transaction.connection, payload.email_id)
    if mail is None or mail.status in ("sent", "unknown"):
        return Done({"status": "gone" if mail is None else mail.status})
    sending = _Sending(context, mail)
    if mail.status == "sending":
        return sending.unknown(_LEFT)
    try:
        return sending.deliver()
    except RefusedError as refused:
        return sending.refused(refused.answer)
    except UnansweredError:
        return sending.unknown(_SILENT)
    except NotNowError as refused:
        return sending.waits(refused.answer.code, refused.answer.words, str(refused))
    except (MailServerError, LoginRefusedError) as error:
        return sending.waits(None, str(error), str(error))
    except (PermanentError, TooLargeError) as error:
        return sending.failed(None, str(error))


class _Sending:
    """One attempt at one mail."""

    def __init__(self, context: TaskContext, mail: Outgoing) -> None:
        self._context = context
        self._mail = mail
        self._size = 0
        self._recipients = 0
        self._began = time.monotonic()

    def deliver(self) -> Outcome:
        """Send it, or say when to come again. Raises what `compose` and a server's session do."""
        mail, shared = self._mail, self._context.resources.get(MailSending)
        if mail.sender is None or mail.sender.host is None:
            raise PermanentError("the mail's mailbox is gone, or sends nothing: give it a server (SMTP)")
        if wait := self._wait(mail.sender):
            return wait
        envelope = envelope_of(mail)
        with tempfile.SpooledTemporaryFile(_SPOOL_BYTES) as message:
            with self._context.read() as transaction:
                files = outbound.attachments(transaction.connection, mail.id)
            self._size = compose(mail, envelope, files, self._context.resources.get(Storage), message)
            with open_server(self._login(mail.sender, shared), shared.tls, shared.patience) as server:
                return self._give(server, envelope, message)

    def refused(self, answer: Answer) -> Outcome:
        """Take the marker back, if there is one: the server has nothing of the mail."""
        if answer.is_final:
            return self.failed(answer.code, answer.words)
        return self.waits(answer.code, answer.words, f"the server does not take the mail now ({answer.code})")

    def failed(self, code: int | None, words: str) -> Outcome:
        """End the mail. The task's error is ours alone: a server's words may quote addresses."""
        self._end_unsent("failed", code, words)
        self._tell("failed", code)
        return Fail(words if code is None else f"the server refused the mail ({code}): its row has the server's words")

    def waits(self, code: int | None, words: str, reason: str) -> Outcome:
        """Let it wait for the next attempt; after the last one it has failed."""
        is_last = self._context.is_last_attempt
        self._end_unsent("failed" if is_last else "queued", code, words)
        self._tell("failed" if is_last else "retry", code)
        return Retry(reason)

    def unknown(self, why: str) -> Outcome:
        """Hold it for an operator: the server may have it."""
        self._tell("unknown", None)
        mail_id = self._mail.id
        return Done(
            {"status": "unknown"}, lambda transaction: outbound.end_unknown(transaction.connection, mail_id, why)
        )

    def _give(self, server: SmtpSession, envelope: Envelope, message: IO[bytes]) -> Outcome:
        try:
            refused = server.name(envelope, self._size)
        except Utf8UnknownError:
            raise PermanentError("an address is not ASCII, and the server does not take such (SMTPUTF8)") from None
        later = [each for each in refused if each.code < 500]
        if later and self._context.attempt < _PATIENT_ATTEMPTS and not self._context.is_last_attempt:
            reason = f"the server refuses {len(later)} recipients for now ({later[0].code})"
            return self.waits(later[0].code, later[0].message, reason)
        self._recipients = len(envelope.recipients) - len(refused)
        if wait := self._mark():
            return wait
        server.hand_over(message)
        self._tell("sent", None, refused=len(refused))
        mail_id, size = self._mail.id, self._size

        def apply(transaction: Transaction) -> None:
            outbound.end_sent(transaction.connection, mail_id, size, refused)

        return Done({"status": "sent", "recipients": self._recipients, "refused": len(refused)}, apply)

    def _mark(self) -> Outcome | None:
        """Commit the marker; return an outcome where the mailbox may not send now, or the mail is not to be sent."""
        sender = self._mail.sender
        if sender is None:
            raise RuntimeError("a mail without a mailbox")
        try:
            with self._context.mark() as transaction:
                wait = outbound.begin(transaction.connection, self._mail.id, sender.id)
        except UsageError:
            return Done({"status": "changed"})
        return None if wait is None else _limited(wait)

    def _wait(self, sender: Sender) -> Outcome | None:
        """Return an outcome where the mailbox does not send now, before a connection is made."""
        if sender.is_paused:
            return Snooze(_PAUSED, reason="the mailbox is paused")
        with self._context.read() as transaction:
            wait = outbound.seconds_until_free(transaction.connection, sender.id)
        return _limited(wait) if wait else None

    def _login(self, sender: Sender, shared: MailSending) -> SmtpLogin:
        """Return how to log in, the secret read now. What is missing of it, the table's checks do not let be."""
        host, port, security, kind = sender.host, sender.port, sender.security, sender.login
        if not (host and port and security and kind and sender.username and sender.secret_id):
            raise RuntimeError("a mailbox with half a server")
        with self._context.read() as transaction:
            stored = vault.secret_of_id(transaction.connection, self._mail.tenant_id, sender.secret_id)
        if stored is None:
            raise PermanentError("the mailbox's secret is gone: give it one")
        secret = credential(self._context, stored, kind, shared.tokens)
        return SmtpLogin(host, port, security, kind, sender.username, secret)

    def _end_unsent(self, status: Literal["queued", "failed"], code: int | None, words: str) -> None:
        with self._context.mark() as transaction:
            outbound.end_unsent(transaction.connection, self._mail.id, status, code, words)

    def _tell(self, said: Said, code: int | None, refused: int = 0) -> None:
        seconds = time.monotonic() - self._began
        events.emit(events.MailGiven(self._mail.id, said, code, seconds, self._size, self._recipients, refused))


def _limited(seconds: float) -> Outcome:
    return Snooze(timedelta(seconds=seconds), reason="the mailbox has sent as many as its limit lets it")


def settle(context: TaskContext, payload: SettleEmails) -> Outcome:
    """End the next mails whose task ended without them: cancelled, failed for good, or lost with its worker."""
    with context.read() as transaction:
        standing = standings.read(transaction.connection, context.task_id, "settling")
        of: Literal["queued", "sending"] = "queued" if standing.get("of", "sending") == "queued" else "sending"
        after = UUID(standing.get("after", standings.FIRST))
        found = outbound.on_the_way(transaction.connection, of, after, _PAGE)
    is_page = len(found) == _PAGE
    following = {"of": of if is_page else "queued", "after": str(found[-1]) if is_page else standings.FIRST}

    def apply(transaction: Transaction) -> None:
        for mail_id, status in outbound.settle(transaction.connection, found):
            events.emit(events.MailGiven(mail_id, status, None, 0.0, 0, 0, 0))
        standings.note(transaction.connection, context.task_id, "settling", following)

    if is_page or of == "sending":
        return Snooze(timedelta(0), apply)
    return Done(apply=apply)


def provide(resources: Resources, settings: Settings) -> None:
    """Say how servers are checked, and how long they are waited for."""
    given = settings.mail
    patience = Patience(given.silence_seconds, given.data_seconds)
    resources.provide(MailSending, lambda: MailSending(tls_context(given.ca_file), patience))


TASKS: tuple[AnyTask, ...] = (
    Task(
        payload=SendEmail,
        run=send,
        queue=MAIL_QUEUE,
        # Alone: a server that hangs holds up nobody's mail but its own.
        batch_size=1,
        time_limit=timedelta(minutes=30),
        # Two days: a server that is away, or a password that lapsed, is mended by then.
        max_attempts=20,
        max_snoozes=UNCOUNTED,
        retry=RetryPolicy(Backoff(base=60.0, factor=2.0, maximum=4 * 3600.0, jitter=0.2)),
    ),
    Task(payload=SettleEmails, run=settle, scope="system", batch_size=1, max_snoozes=UNCOUNTED),
)
SCHEDULES = (
    Schedule(
        name="emails-settle",
        payload=SettleEmails(),
        cron="* * * * *",
        missed="skip",
        overlap="skip",
        design="000",
        description="Ends outgoing mails whose task ended without them.",
    ),
)
