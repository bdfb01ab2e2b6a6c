"""How a mailbox is reached: its secret opened, an access token fetched where it takes one, and the session made."""

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from core.groups import MailSettings
from db.mail import Reading
from db.vault import Stored
from pipelines.mail.errors import LoginRefusedError
from pipelines.mail.imap import ImapLogin, ImapSession, Limits, open_mailbox, tls_context
from pipelines.mail.tokens import AccessTokens
from pipelines.vault.cipher import Cipher, Place, Sealed


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
def mailbox_session(
    access: MailAccess, mailbox: Reading, secret: str, renew: Callable[[str], None]
) -> Iterator[ImapSession]:
    """Log in to a mailbox for the block; `renew` keeps the secret that it is to have from now on, if it is another.

    Raises MailServerError and LoginRefusedError.
    """
    token = access.tokens.access(secret) if mailbox.login == "xoauth2" else None
    if token is not None and token.renewed is not None:
        renew(token.renewed)
        secret = token.renewed
    login = ImapLogin(mailbox.host, mailbox.port, mailbox.security, mailbox.login, mailbox.username)
    try:
        with open_mailbox(login, token.token if token else secret, access.tls, access.limits) as session:
            yield session
    except LoginRefusedError:
        access.tokens.forget(secret)
        raise


def open_secret(cipher: Cipher, stored: Stored) -> str:
    """Return a secret clear. Raises PermanentError."""
    return cipher.open(Sealed(stored.text, stored.key_id), Place(stored.table, stored.tenant_id, stored.id))


def seal_again(cipher: Cipher, stored: Stored, value: str) -> Sealed:
    """Encrypt a value for the row of a secret. Raises UsageError for one that is not Unicode."""
    return cipher.seal(value, Place(stored.table, stored.tenant_id, stored.id))
