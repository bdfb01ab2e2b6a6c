"""PgBouncer in transaction mode, before a server of the suite."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from db.roles import ROLES, role_name
from tests.faults.proxy import postgres_proxy
from tests.support.waiting import eventually

_CONFIGURATION = """
[databases]
* = host=127.0.0.1 port={server}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users.txt
pool_mode = transaction
default_pool_size = 8
max_client_conn = 200
server_tls_sslmode = disable
ignore_startup_parameters = extra_float_digits
logfile = {folder}/pgbouncer.log
"""
_USERS = ("greenroom_owner", *(role_name(kind) for kind in ROLES))


def require_pgbouncer() -> str:
    """Return the program's path; skips the test where the machine has none, which CI must have."""
    found = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if found is None:
        say = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        say("pgbouncer is not installed: .ci/system-parts names it")
    return found


@contextmanager
def pgbouncer(program: str, url: str) -> Iterator[int]:
    """Run it before the server of an address for the block; yields its port."""
    # The server's socket is in a folder of its user's own; the proxy takes connections there.
    with postgres_proxy(url) as server, tempfile.TemporaryDirectory(prefix="gr-pgbouncer-") as name:
        folder = Path(name)
        port = _free_port()
        (folder / "users.txt").write_text("".join(f'"{user}" ""\n' for user in _USERS))
        (folder / "pgbouncer.ini").write_text(_CONFIGURATION.format(server=server.port, port=port, folder=folder))
        with subprocess.Popen(
            [*_as_another_user(folder), program, str(folder / "pgbouncer.ini")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            try:
                eventually(lambda: _answers(through(port, url)) or process.poll() is not None, 20)
                assert process.poll() is None, (folder / "pgbouncer.log").read_text()
                yield port
            finally:
                process.terminate()
                process.wait(10)


def through(port: int, url: str) -> str:
    """Return where an address of the server leads through PgBouncer."""
    parts = urlsplit(url)
    user, _, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user}@127.0.0.1:{port}", query=""))


def _as_another_user(folder: Path) -> list[str]:
    """Return what goes before the command: PgBouncer does not run as root."""
    if os.geteuid() != 0:
        return []
    folder.chmod(0o755)
    shutil.chown(folder, "nobody", "nogroup")
    return ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
