"""Reading a mailbox over IMAP (RFC 9051, RFC 3501): folders are examined, never selected, and mails only peeked at.

Certificates are always checked. What the server answers is bounded (`pipelines.mail.bounded`), and what goes wrong is
told in a sentence that quotes neither mail nor secret.
"""

import logging
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

from imapclient import IMAPClient, SocketTimeout
from imapclient.exceptions import IMAPClientAbortError, IMAPClientError, LoginError, ProtocolError

from pipelines.mail.bounded import BoundedReader
from pipelines.mail.errors import FolderMissingError, LoginRefusedError, MailServerError

Security = Literal["tls", "starttls", "none"]
LoginKind = Literal["password", "xoauth2"]
logging.getLogger("imapclient").setLevel(logging.WARNING)  # at debug it writes whole commands
_HEADERS = b"BODY[HEADER]"
_WHOLE = b"BODY[]"
_DATE = b"INTERNALDATE"
_SIZE = b"RFC822.SIZE"
# A server's own size of a mail may be an estimate.
_SIZE_FACTOR = 2
_MOST_HEADERS = 2_000_000
_WORDS = 200
_BROKEN = "{where} broke the connection off, or answered what is not IMAP"
# In this order: the first that fits.
_SENTENCES: Final = (
    (
        ssl.SSLCertVerificationError,
        "the certificate of {where} is refused ({reason}): GREENROOM_MAIL_CA_FILE names a private authority",
    ),
    (ssl.SSLError, "{where} does not speak TLS as it should: is its security starttls?"),
    (TimeoutError, "{where} did not answer in time"),
    (IMAPClientAbortError, _BROKEN),
    (OSError, "{where} cannot be reached ({reason})"),
    # which the library raises where it cannot make sense of an answer
    ((ValueError, LookupError, TypeError, AttributeError, AssertionError, ProtocolError), _BROKEN),
)


@dataclass(frozen=True, slots=True)
class ImapLogin:
    """Where a mailbox is, and as whom it is read; the secret is a password or an access token."""

    host: str
    port: int
    security: Security
    kind: LoginKind
    username: str


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a server may be silent and how long an answer may take, in seconds."""

    silence: float
    answer: float


@dataclass(frozen=True, slots=True)
class Examined:
    """A folder as it is: `next_uid` is greater than that of any mail in it."""

    uidvalidity: int
    next_uid: int


@dataclass(frozen=True, slots=True)
class Listed:
    """A mail in the folder; the size is what the server says, in bytes."""

    uid: int
    size: int


@dataclass(frozen=True, slots=True)
class Raw:
    """A mail as the server has it; `received_at` is None where the server does not say when it came."""

    uid: int
    received_at: datetime | None
    content: bytes


class ImapSession:
    """A mailbox that is open, to be read. Use `open_mailbox`."""

    def __init__(self, client: Any, reader: BoundedReader, where: str) -> None:
        self._client = client
        self._reader = reader
        self._where = where

    def folders(self) -> list[str]:
        """Return the names of the folders that can be read."""
        with self._asking():
            listed = self._client.list_folders()
        return sorted(str(name) for flags, _, name in listed if b"\\noselect" not in {flag.lower() for flag in flags})

    def examine(self, folder: str) -> Examined:
        """Open a folder to read it. Raises FolderMissingError."""
        try:
            with self._asking():
                found = self._client.select_folder(folder, readonly=True)
        except _RefusedError as error:
            raise FolderMissingError(f"the folder {folder!r} cannot be opened: {error}") from None
        try:
            return Examined(int(found[b"UIDVALIDITY"]), int(found.get(b"UIDNEXT", 2**32)))
        except (KeyError, TypeError, ValueError):
            raise MailServerError(f"{self._where} does not say the UIDVALIDITY of the folder {folder!r}") from None

    def list_mails(self, first: int, last: int) -> list[Listed]:
        """Return the mails of the open folder that have a UID from `first` to `last`, in order."""
        with self._asking():
            uids = sorted(uid for uid in self._client.search(["UID", f"{first}:{last}"]) if first <= uid <= last)
            found = self._client.fetch(uids, [_SIZE]) if uids else {}
        return [Listed(uid, max(0, int(found[uid].get(_SIZE, 0)))) for uid in uids if uid in found]

    def fetch(self, mails: Sequence[Listed]) -> list[Raw]:
        """Return mails of the open folder in the order of their UIDs, without those that went since.

        They stay unread. A server that refuses to give them together is asked for one by one; one that it does not
        give even then comes empty.
        """
        try:
            with self._asking(_SIZE_FACTOR * sum(mail.size for mail in mails)):
                found = self._client.fetch([mail.uid for mail in mails], [_DATE, "BODY.PEEK[]"])
        except _RefusedError as error:
            if len(mails) > 1:
                return [raw for mail in mails for raw in self.fetch([mail])]
            raise MailServerError(f"a mail is not given: {error}") from None
        return [_raw(mail.uid, found[mail.uid], _WHOLE) for mail in mails if mail.uid in found]

    def fetch_headers(self, mail: Listed) -> list[Raw]:
        """Return a mail's headers, at most 2 MB of them; nothing where it went since."""
        try:
            with self._asking(_MOST_HEADERS):
                found = self._client.fetch([mail.uid], [_DATE, f"BODY.PEEK[HEADER]<0.{_MOST_HEADERS}>"])
        except _RefusedError as error:
            raise MailServerError(f"a mail's headers are not given: {error}") from None
        return [_raw(mail.uid, found[mail.uid], _HEADERS)] if mail.uid in found else []

    def offers_idle(self) -> bool:
        """Whether the server tells of news by itself (RFC 2177)."""
        with self._asking():
            return bool(self._client.has_capability("IDLE"))

    def socket(self) -> socket.socket:
        """Return the connection, for IDLE: the session is asked nothing more then."""
        found: socket.socket = self._client.socket()
        return found

    @contextmanager
    def _asking(self, size: int = 0) -> Iterator[None]:
        self._reader.begin(size)
        with _told(self._where):
            yield


class _RefusedError(MailServerError):
    """The server said no; the text has its words, short and of one line."""


@contextmanager
def open_mailbox(login: ImapLogin, secret: str, tls: ssl.SSLContext, limits: Limits) -> Iterator[ImapSession]:
    """Log in for the block. Raises MailServerError, and LoginRefusedError where the server does not take the login."""
    where = f"{login.host}:{login.port}"
    with _told(where):
        client = IMAPClient(
            login.host,
            login.port,
            ssl=login.security == "tls",
            ssl_context=tls,
            timeout=SocketTimeout(limits.silence, limits.silence),
        )
    try:
        client.normalise_times = False
        client._imap.debug = 0  # it would write mails out for a log that is not to have them
        session = ImapSession(client, BoundedReader(client._imap, limits.answer), where)
        with _told(where):
            _log_in(client, login, secret, tls)
        yield session
    finally:
        _close(client)


def _log_in(client: Any, login: ImapLogin, secret: str, tls: ssl.SSLContext) -> None:
    if login.security == "starttls":
        try:
            client.starttls(tls)
        except IMAPClientAbortError:
            raise
        except IMAPClientError:
            raise MailServerError(f"{login.host}:{login.port} does not offer STARTTLS: say --security tls") from None
    try:
        if login.kind == "xoauth2":
            client.oauth2_login(login.username, secret)
        else:
            client.login(login.username, secret)
    except LoginError as error:
        raise LoginRefusedError(f"{login.host}:{login.port} refuses the login: {_words(error, secret)}") from None


def _close(client: Any) -> None:
    """Say goodbye, where the connection still stands, and close it."""
    try:
        client.socket().settimeout(1.0)
        client.logout()
    except (IMAPClientError, OSError, ValueError, AttributeError):
        try:
            client.shutdown()
        except (IMAPClientError, OSError, ValueError, AttributeError):
            client._imap.file.close()


@contextmanager
def _told(where: str) -> Iterator[None]:
    """Turn what the library and the socket raise into sentences."""
    try:
        yield
    except (MailServerError, LoginRefusedError):
        raise
    except Exception as error:
        for kind, sentence in _SENTENCES:
            if isinstance(error, kind):
                reason = getattr(error, "verify_message", None) or getattr(error, "strerror", None)
                told = sentence.format(where=where, reason=reason or type(error).__name__)
                raise MailServerError(told) from None
        if isinstance(error, IMAPClientError):
            raise _RefusedError(f"{where} refuses: {_words(error)}") from None
        raise


def _words(error: Exception, secret: str = "") -> str:
    """Return what a server said, short and printable; nothing of it where it quotes the secret."""
    said = " ".join("".join(each if each.isprintable() else " " for each in str(error)).split())
    said = said.removeprefix("b'").removesuffix("'")
    return "it gives no reason" if not said or (secret and secret in said) else said[:_WORDS]


def _raw(uid: int, found: Any, part: bytes) -> Raw:
    at = found.get(_DATE)
    content = next((value for key, value in found.items() if key.startswith(part)), None)
    received = at.astimezone(UTC) if isinstance(at, datetime) and at.tzinfo is not None else None
    return Raw(uid, received, content if isinstance(content, bytes) else b"")
