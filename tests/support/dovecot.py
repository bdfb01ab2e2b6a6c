"""A real IMAP server of the suite's own (Dovecot): any user name is a fresh mailbox, over TLS, STARTTLS and in clear.

Its certificate is made when it starts, for `localhost` and 127.0.0.1, by an authority of its own that `ca_file` holds.
"""

import base64
import grp
import hmac
import ipaddress
import json
import os
import pwd
import shutil
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from imapclient import IMAPClient

from tests.support.waiting import eventually

PASSWORD = "password-of-the-suite"
_TOKEN_KEY = b"a key of the suite, as long as SHA-256 wants it"
_CONFIG = """
base_dir = {home}/run
state_dir = {home}/state
log_path = {home}/log
protocols = imap
listen = 127.0.0.1
default_login_user = {login_user}
default_internal_user = {user}
default_internal_group = {group}
disable_plaintext_auth = no
auth_failure_delay = 0
auth_mechanisms = plain login xoauth2 oauthbearer
mail_location = maildir:{home}/mail/%u
mail_uid = {uid}
mail_gid = {gid}
first_valid_uid = 1
mail_max_userip_connections = 1000
mailbox_list_index = no
ssl = yes
ssl_cert = <{home}/server.pem
ssl_key = <{home}/server.key
passdb {{
  driver = static
  mechanisms = plain login
  args = password={password}
}}
passdb {{
  driver = oauth2
  mechanisms = xoauth2 oauthbearer
  args = {home}/oauth2.conf
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={home}/mail/%u allow_all_users=yes
}}
service anvil {{
  chroot =
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = {tls_port}
    ssl = yes
  }}
}}
service imap {{
  process_limit = 200
}}
service stats {{
  unix_listener stats-writer {{
    mode = 0666
  }}
}}
"""


@dataclass
class Dovecot:
    """Where the server listens, and what it is known by."""

    home: Path
    port: int
    tls_port: int

    @property
    def ca_file(self) -> Path:
        """The authority that its certificate is signed by."""
        return self.home / "authority.pem"

    @contextmanager
    def client(self, user: str) -> Iterator[IMAPClient]:
        """A client of the suite's own, which may write."""
        context = ssl.create_default_context(cafile=self.ca_file)
        with IMAPClient("localhost", self.tls_port, ssl_context=context) as client:
            client.login(user, PASSWORD)
            yield client

    def deliver(self, user: str, mails: list[bytes], folder: str = "INBOX") -> None:
        """Put mails into a folder, which is made if it is missing."""
        with self.client(user) as client:
            if folder != "INBOX" and not client.folder_exists(folder):
                client.create_folder(folder)
            for mail in mails:
                client.append(folder, mail)

    def renumber(self, user: str, folder: str = "INBOX") -> None:
        """Give a folder another UIDVALIDITY: its mails have other UIDs from then on, too."""
        other = str(int(datetime.now(UTC).timestamp()) + 1000)
        self.admin("mailbox", "update", "-u", user, "--uid-validity", other, folder)

    def admin(self, *arguments: str) -> str:
        """Run a command of its administration."""
        command = ["doveadm", "-c", str(self.home / "dovecot.conf"), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@contextmanager
def dovecot_server() -> Iterator[Dovecot]:
    """Run the server for the block, ended by its process id."""
    program = shutil.which("dovecot", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        say = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        say("dovecot is missing: apt-get install dovecot-imapd")
    with tempfile.TemporaryDirectory(prefix="gr-imap-", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        server = Dovecot(home, *_free_ports(2))
        _configure(server)
        with subprocess.Popen([program, "-F", "-c", str(home / "dovecot.conf")], stderr=subprocess.DEVNULL) as process:
            try:
                eventually(lambda: _listens(server.tls_port) or process.poll() is not None, 30)
                assert process.poll() is None, (home / "log").read_text()
                yield server
            finally:
                process.terminate()
                process.wait(10)


def access_token(user: str, *, lives: timedelta = timedelta(hours=1)) -> str:
    """Return a token that the server takes for a user: a JWT signed with the key that it was started with."""
    now = datetime.now(UTC)
    claims = {"sub": user, "email": user, "iat": int(now.timestamp()), "exp": int((now + lives).timestamp())}
    signed = ".".join(_base64(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
    return f"{signed}.{_base64(hmac.digest(_TOKEN_KEY, signed.encode(), 'sha256'))}"


def _base64(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def _configure(server: Dovecot) -> None:
    home = server.home
    is_root = os.geteuid() == 0
    mail_user = pwd.getpwnam("nobody") if is_root else pwd.getpwuid(os.geteuid())
    own = grp.getgrgid(os.getegid()).gr_name
    home.chmod(0o755)  # which the user of the mail has to pass
    (home / "mail").mkdir()
    os.chown(home / "mail", mail_user.pw_uid, mail_user.pw_gid)
    keys = home / "keys" / "default" / "HS256"
    keys.mkdir(parents=True)
    (keys / "default").write_bytes(base64.b64encode(_TOKEN_KEY))
    (home / "oauth2.conf").write_text(
        "introspection_mode = local\nusername_attribute = sub\n"
        f"local_validation_key_dict = fs:posix:prefix={home}/keys/\n"
    )
    for path in (home / "keys", home / "keys" / "default", keys, keys / "default"):
        path.chmod(0o755)
    _certify(home)
    values = {
        "home": home, "port": server.port, "tls_port": server.tls_port, "password": PASSWORD,
        "uid": mail_user.pw_uid, "gid": mail_user.pw_gid,
        "user": "dovecot" if is_root else mail_user.pw_name, "group": "dovecot" if is_root else own,
        "login_user": "dovenull" if is_root else mail_user.pw_name,
    }  # fmt: skip
    (home / "dovecot.conf").write_text(_CONFIG.format(**values))


def _certify(home: Path) -> None:
    """Write an authority's certificate, and one that it signed for this machine, with its key."""
    authority, authority_key = certificate("Authority of the suite")
    (home / "authority.pem").write_bytes(pem(authority))
    signed, key = certificate("localhost", signer=(authority, authority_key))
    (home / "server.pem").write_bytes(pem(signed))
    (home / "server.key").write_bytes(pem(key))


Signer = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


def certificate(name: str, *, signer: Signer | None = None, days: int = 2) -> Signer:
    """Return a certificate and its key: an authority's, or one that is signed for `name` and the loopback address."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signer[0].subject if signer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=3))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=signer is None, path_length=None), critical=True)
    )
    if signer:
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        names = x509.SubjectAlternativeName([x509.DNSName(name), address])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(signer[1] if signer else key, hashes.SHA256()), key


def pem(what: x509.Certificate | ec.EllipticCurvePrivateKey) -> bytes:
    """Return a certificate or a key as servers read it."""
    if isinstance(what, x509.Certificate):
        return what.public_bytes(serialization.Encoding.PEM)
    return what.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def _free_ports(count: int) -> list[int]:
    opened = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [int(each.getsockname()[1]) for each in opened]
    finally:
        for each in opened:
            each.close()
