"""How mailboxes are read by this process: what connections have in common, and the session of one."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from core.groups import MailSettings
from db.mail import Reading
from pipelines.mail.errors import LoginRefusedError
from pipelines.mail.imap import ImapLogin, ImapSession, Limits, open_mailbox
from pipelines.mail.tls import tls_context
from pipelines.mail.tokens import AccessTokens


@dataclass(frozen=True, slots=True)
class MailAccess:
    """What all connections of a process have in common."""

    tls: ssl.SSLContext
    limits: Limits
    tokens: AccessTokens


def mail_access(settings: MailSettings) -> MailAccess:
    """Return how the settings say that servers are believed. Raises SettingsError for authorities that are none."""
    limits = Limits(settings.silence_seconds, settings.answer_seconds)
    return MailAccess(tls_context(settings.ca_file), limits, AccessTokens())


@contextmanager
def mailbox_session(access: MailAccess, mailbox: Reading, credential: str) -> Iterator[ImapSession]:
    """Log in to a mailbox for the block. Raises MailServerError and LoginRefusedError."""
    login = ImapLogin(mailbox.host, mailbox.port, mailbox.security, mailbox.login, mailbox.username)
    try:
        with open_mailbox(login, credential, access.tls, access.limits) as session:
            yield session
    except LoginRefusedError:
        access.tokens.forget(credential)
        raise
