"""A real server of SMTP on the loopback (aiosmtpd) that does as a test wants: refuses, hangs, closes, is slow."""

import asyncio
import ssl
import threading
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from ipaddress import ip_address
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

USER, PASSWORD, TOKEN = "ada", "hunter2-of-smtp", "token-of-ada"
OK = "250 OK"
HANG, CLOSE = "hang", "close"


@dataclass(frozen=True)
class Taken:
    """A mail that the server has, with its envelope."""

    sender: str
    recipients: list[str]
    content: bytes
    options: list[str]

    @property
    def message(self) -> EmailMessage:
        """The mail, read."""
        found = message_from_bytes(self.content, policy=policy.default)
        assert isinstance(found, EmailMessage)
        return found


@dataclass
class MailServer:
    """Where it is, what it took, and what it answers: `rcpt` by address, `data` after a message it was given whole.

    `data` may say HANG (no answer until `release`) or CLOSE; what it takes then, it keeps nevertheless.
    """

    port: int = 0
    taken: list[Taken] = field(default_factory=list)
    sender: str = OK
    rcpt: dict[str, str] = field(default_factory=dict)
    data: Callable[[], str] = lambda: OK
    given: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)
    logins: list[str] = field(default_factory=list)

    async def take_sender(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Take a sender, or refuse it."""
        if not session.authenticated:
            return "530 5.7.0 log in first"
        if self.sender == OK:
            envelope.mail_from = address
            envelope.mail_options.extend(options)
        return self.sender

    async def take_recipient(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Take a recipient, or refuse it."""
        answer = self.rcpt.get(address, OK)
        if answer == OK:
            envelope.rcpt_tos.append(address)
        return answer

    async def take_message(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Answer a message that came whole."""
        answer = self.data()
        if answer in (OK, HANG, CLOSE):
            content = envelope.original_content
            assert content is not None
            self.taken.append(Taken(str(envelope.mail_from), envelope.rcpt_tos, content, envelope.mail_options))
        self.given.set()
        while answer == HANG and not self.release.is_set():
            await asyncio.sleep(0.01)
        if answer in (HANG, CLOSE):
            assert isinstance(server.transport, asyncio.WriteTransport)
            server.transport.abort()
        return answer

    def authenticate(self, server: SMTP, session: Session, envelope: Envelope, kind: str, data: Any) -> AuthResult:
        """Take the one user's password."""
        self.logins.append(kind)
        is_known = isinstance(data, LoginPassword) and (data.login, data.password) == (USER.encode(), PASSWORD.encode())
        return AuthResult(success=is_known, handled=False)

    async def take_token(self, server: SMTP, args: list[str]) -> AuthResult:
        """Take the one user's token; a wrong one is answered as Google does, and then refused."""
        self.logins.append("XOAUTH2")
        if b64decode(args[1]) == f"user={USER}\1auth=Bearer {TOKEN}\1\1".encode():
            return AuthResult(success=True)
        await server.push("334 eyJzdGF0dXMiOiI0MDEifQ==")
        assert server._reader is not None
        await server._reader.readline()
        return AuthResult(success=False, handled=False)


@dataclass(frozen=True)
class Certificate:
    """A certificate of localhost with its key, and the authority that it is of itself."""

    certificate: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        """Return what a server shows it by."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context


def make_certificate(folder: Path, name: str = "localhost") -> Certificate:
    """Make a certificate of a name and of 127.0.0.1, or of the name alone where it is another."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    names: list[x509.GeneralName] = [x509.DNSName(name)]
    if name == "localhost":
        names.append(x509.IPAddress(ip_address("127.0.0.1")))
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    found = Certificate(folder / f"{name}.pem", folder / f"{name}.key")
    found.certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    found.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return found


@contextmanager
def mail_server(security: str = "none", certificate: Certificate | None = None, **options: Any) -> Iterator[MailServer]:
    """Run a server for the block; `options` are aiosmtpd's."""
    found = MailServer()
    tls = certificate.context() if certificate is not None else None
    given: dict[str, Any] = {
        "authenticator": found.authenticate,
        "auth_require_tls": security == "starttls",
        "enable_SMTPUTF8": True,
        "data_size_limit": 60_000_000,
        "hostname": "127.0.0.1",
        "port": 0,
    } | options
    if security == "starttls":
        given |= {"tls_context": tls, "require_starttls": True}
    elif security == "tls":
        given |= {"ssl_context": tls, "auth_require_tls": False}
    hooks = SimpleNamespace(
        handle_MAIL=found.take_sender,
        handle_RCPT=found.take_recipient,
        handle_DATA=found.take_message,
        auth_XOAUTH2=found.take_token,
    )
    controller = _AnyPort(hooks, **given)
    controller.start()
    found.port = controller.port
    try:
        yield found
    finally:
        found.release.set()
        controller.stop()


class _AnyPort(Controller):
    """A controller whose port the system chooses: it is told after the start."""

    def _trigger_server(self) -> None:
        assert isinstance(self.server, asyncio.base_events.Server)
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()  # type: ignore[no-untyped-call]  # the library's
