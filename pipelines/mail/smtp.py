"""Giving a server a mail over SMTP (RFC 5321), step by step: log in, name sender and recipients, hand the message over.

Certificates are always checked, and a login goes over TLS unless the server is this machine. What the server answers is
bounded in length and in time. A wait for it is cut into slices, so that an interruption of the attempt arrives.
"""

import base64
import re
import smtplib
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, Any, Final

from db.outbound import Refused
from pipelines.mail.compose import Envelope
from pipelines.mail.errors import MailServerError

_SLICE: Final = 0.5
_PIECE: Final = 1 << 16
_LONGEST_LINE: Final = 8192
_MOST_LINES: Final = 200
_WORDS: Final = 1000
_OK: Final = 250
_GO_ON: Final = 354
_TRY_AUTH: Final = 235


@dataclass(frozen=True, slots=True)
class SmtpLogin:
    """Where mail is given away, and as whom; the secret is a password or an access token."""

    host: str
    port: int
    security: str
    kind: str
    username: str
    secret: str


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a server may take, in seconds, for an answer, and for the one that says that it has a mail."""

    answer: float
    data: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said: its code, and its words in one line. They may quote addresses: they are for the row alone."""

    code: int
    words: str

    @property
    def is_final(self) -> bool:
        """Whether it says no for good."""
        return self.code >= 500


class RefusedError(Exception):
    """The server did not take sender, recipients or message, and said so: it has nothing of the mail."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        super().__init__(f"the server refused the mail ({answer.code})")


class NotNowError(MailServerError):
    """The server does not let us in, and says so: it has nothing of the mail. Its words are the answer's alone."""

    def __init__(self, told: str, answer: Answer) -> None:
        self.answer = answer
        super().__init__(f"{told} ({answer.code})")


class UnansweredError(Exception):
    """The server was given the whole mail and did not say that it has it: nobody knows."""


class TooLargeError(Exception):
    """The server says beforehand that it takes no mail of that size."""


class Utf8UnknownError(Exception):
    """An address needs SMTPUTF8 (RFC 6531), which the server does not offer."""


class _Bounded(smtplib.SMTP):
    """A connection whose answers are bounded; `answer_seconds` is how long the next one may take as a whole."""

    def __init__(self, login: SmtpLogin, seconds: float, **options: Any) -> None:
        self.answer_seconds = seconds
        self._unread = b""
        # an address, as of a program that submits: a host's own name is nobody's business, and may be none
        try:
            super().__init__(login.host, login.port, local_hostname="[127.0.0.1]", timeout=seconds, **options)
        except BaseException:
            self.close()
            raise

    def getreply(self) -> tuple[int, bytes]:
        """Read an answer. Raises TimeoutError, SMTPServerDisconnected, and SMTPResponseException for what is none."""
        deadline = time.monotonic() + self.answer_seconds
        lines: list[bytes] = []
        while len(lines) < _MOST_LINES:
            line = self._line(deadline)
            if not re.match(rb"[2-5][0-9][0-9](?![^ \r\n-])", line):
                break
            lines.append(line[4:].strip())
            if line[3:4] != b"-":
                return int(line[:3]), b"\n".join(lines)
        self.close()
        raise smtplib.SMTPResponseException(500, b"an answer that is not SMTP")

    def begin_tls(self, context: ssl.SSLContext) -> None:
        """Go on encrypted; what came in clear behind the answer is nobody's (CVE-2011-0411)."""
        self.starttls(context=context)
        if self._unread:
            self.close()
            raise smtplib.SMTPServerDisconnected("clear text behind STARTTLS")

    def send_all(self, data: bytes) -> None:
        """Send bytes; raises what a socket does."""
        if self.sock is None:
            raise smtplib.SMTPServerDisconnected("not connected")
        self.sock.settimeout(self.answer_seconds)
        self.sock.sendall(data)

    def _line(self, deadline: float) -> bytes:
        while b"\n" not in self._unread:
            if self.sock is None:
                raise smtplib.SMTPServerDisconnected("not connected")
            if len(self._unread) > _LONGEST_LINE:
                self.close()
                raise smtplib.SMTPResponseException(500, b"an answer that is not SMTP")
            self._unread += self._piece(self.sock, deadline)
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _piece(self, sock: socket.socket, deadline: float) -> bytes:
        """Wait in slices: between two of them an interruption of this thread arrives."""
        while (left := deadline - time.monotonic()) > 0:
            sock.settimeout(min(_SLICE, left))
            try:
                piece = sock.recv(4096)
            except TimeoutError:
                continue
            if not piece:
                self.close()
                raise smtplib.SMTPServerDisconnected("the connection was closed")
            sock.settimeout(self.answer_seconds)
            return piece
        raise TimeoutError


class _BoundedTls(_Bounded, smtplib.SMTP_SSL):
    """The same, encrypted from the first byte on."""


class SmtpSession:
    """A server that takes our mail. Use `open_server`."""

    def __init__(self, client: _Bounded, where: str, patience: Patience) -> None:
        self._client = client
        self._where = where
        self._patience = patience

    def name(self, envelope: Envelope, size: int) -> list[Refused]:
        """Name sender and recipients; return those that are refused while others are not.

        Raises RefusedError where the sender or all recipients are refused, TooLargeError, Utf8UnknownError and
        MailServerError. Nothing is given to the server yet.
        """
        if envelope.needs_utf8 and not self._client.has_extn("smtputf8"):
            raise Utf8UnknownError
        most = self._client.esmtp_features.get("size", "")
        if most.isdigit() and 0 < int(most) < size:
            raise TooLargeError(f"the mail has {size} bytes, and {self._where} takes {most} at most")
        with _told(self._where):
            self._require(_OK, self._answer(self._client.mail(envelope.sender, self._options(envelope, size))))
            answers = [(each, self._answer(self._client.rcpt(each))) for each in envelope.recipients]
        refused = [Refused(each, found.code, found.words) for each, found in answers if found.code not in (250, 251)]
        if len(refused) == len(answers):
            # one that may be taken later is reason enough to come again
            raise RefusedError(min((found for _, found in answers), key=lambda found: found.code))
        return refused

    def hand_over(self, message: IO[bytes]) -> Answer:
        """Give the server the message; return its answer that it has it.

        Raises RefusedError where it says that it does not, MailServerError where the connection went before the last
        byte of it was sent, so that the server cannot have it whole, and UnansweredError where it went, or the time was
        over, after that. Expects that the marker is committed.
        """
        with _told(self._where):
            self._require(_GO_ON, self._answer(self._client.docmd("DATA")))
            for piece in _stuffed(message):
                self._client.send_all(piece)
        self._client.answer_seconds = self._patience.data
        try:
            self._client.send_all(b".\r\n")
            answer = self._answer(self._client.getreply())
        except (smtplib.SMTPException, OSError, ValueError):
            raise UnansweredError from None
        self._require(_OK, answer)
        return answer

    def _options(self, envelope: Envelope, size: int) -> list[str]:
        sized = [f"SIZE={size}"] if self._client.has_extn("size") else []
        return [*sized, *(["SMTPUTF8", "BODY=8BITMIME"] if envelope.needs_utf8 else [])]

    def _answer(self, reply: tuple[int, bytes]) -> Answer:
        return Answer(reply[0], words_of(reply[1]))

    def _require(self, code: int, answer: Answer) -> None:
        if answer.code != code:
            raise RefusedError(answer)


@contextmanager
def open_server(login: SmtpLogin, tls: ssl.SSLContext, patience: Patience) -> Iterator[SmtpSession]:
    """Connect and log in for the block. Raises MailServerError where that does not succeed, whatever the reason."""
    where = f"{login.host}:{login.port}"
    with _told(where):
        client = _connect(login, tls, patience)
    try:
        with _told(where):
            _log_in(client, login, tls)
        yield SmtpSession(client, where, patience)
    finally:
        _close(client)


def words_of(said: bytes) -> str:
    """Return a server's words in one printable line."""
    text = said.decode("utf-8", "replace")
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())[:_WORDS]


def _connect(login: SmtpLogin, tls: ssl.SSLContext, patience: Patience) -> _Bounded:
    if login.security == "tls":
        return _BoundedTls(login, patience.answer, context=tls)
    return _Bounded(login, patience.answer)


def _log_in(client: _Bounded, login: SmtpLogin, tls: ssl.SSLContext) -> None:
    client.ehlo_or_helo_if_needed()
    where = f"{login.host}:{login.port}"
    if login.security == "starttls":
        if not client.has_extn("starttls"):
            raise MailServerError(f"{where} does not offer STARTTLS: say --security tls")
        client.begin_tls(tls)
        client.ehlo_or_helo_if_needed()
    kinds = client.esmtp_features.get("auth", "").upper().split()
    wanted = "XOAUTH2" if login.kind == "xoauth2" else "PLAIN" if "PLAIN" in kinds else "LOGIN"
    if wanted not in kinds:
        raise MailServerError(f"{where} does not offer a login by {wanted}")
    code, said = _AUTHS[wanted](client, login)
    if code != _TRY_AUTH:
        answer = Answer(code, _without(words_of(said), login.secret))
        raise NotNowError(f"{where} refuses the login", answer)


def _auth_plain(client: _Bounded, login: SmtpLogin) -> tuple[int, bytes]:
    given = f"\0{login.username}\0{login.secret}"
    return client.docmd("AUTH", f"PLAIN {_base64(given)}")


def _auth_login(client: _Bounded, login: SmtpLogin) -> tuple[int, bytes]:
    code, said = client.docmd("AUTH", "LOGIN")
    for text in (login.username, login.secret):
        if code != 334:
            break
        code, said = client.docmd(_base64(text))
    return code, said


def _auth_xoauth2(client: _Bounded, login: SmtpLogin) -> tuple[int, bytes]:
    given = f"user={login.username}\1auth=Bearer {login.secret}\1\1"
    code, said = client.docmd("AUTH", f"XOAUTH2 {_base64(given)}")
    return client.docmd("") if code == 334 else (code, said)  # it waits for an answer before it says why not


_AUTHS = {"PLAIN": _auth_plain, "LOGIN": _auth_login, "XOAUTH2": _auth_xoauth2}


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _without(words: str, secret: str) -> str:
    return "it gives no reason" if not words or secret in words or _base64(secret) in words else words


def _stuffed(message: IO[bytes]) -> Iterator[bytes]:
    """Yield a message whose lines end with CRLF, a dot doubled that begins a line, piece by piece."""
    message.seek(0)
    before = b"\r\n"
    while piece := message.read(_PIECE):
        # what stands before a piece decides on its first dot; it may begin between CR and LF
        yield re.sub(rb"(?<=\r\n)\.", b"..", before + piece)[len(before) :]
        before = (before + piece)[-2:]
    if before != b"\r\n":
        yield b"\r\n"


def _close(client: _Bounded) -> None:
    """Say goodbye, where the connection still stands, without waiting for long."""
    client.answer_seconds = 1.0
    with suppress(smtplib.SMTPException, OSError, ValueError):
        client.quit()
    client.close()


@contextmanager
def _told(where: str) -> Iterator[None]:
    """Turn what the library and the socket raise into a sentence that quotes neither mail nor secret."""
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        raise MailServerError(
            f"the certificate of {where} is refused ({error.verify_message}): a private authority is named by "
            "GREENROOM_MAIL_CA_FILE"
        ) from None
    except ssl.SSLError:
        raise MailServerError(f"{where} does not speak TLS as it should: is it --security starttls?") from None
    except TimeoutError:
        raise MailServerError(f"{where} did not answer in time") from None
    except smtplib.SMTPServerDisconnected:
        raise MailServerError(f"{where} broke the connection off") from None
    except smtplib.SMTPResponseException as error:
        said = error.smtp_error if isinstance(error.smtp_error, bytes) else str(error.smtp_error).encode()
        raise NotNowError(f"{where} does not take mail now", Answer(error.smtp_code, words_of(said))) from None
    except (smtplib.SMTPException, UnicodeError, ValueError):
        raise MailServerError(f"{where} answered what is not SMTP") from None
    except OSError as error:
        raise MailServerError(f"{where} cannot be reached ({error.strerror or type(error).__name__})") from None
