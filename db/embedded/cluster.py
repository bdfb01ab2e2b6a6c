"""The data folder before the server runs: initdb and the configuration."""

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from core.errors import EmbeddedServerError
from db.embedded.identity import Identity, initdb_identity
from db.embedded.layout import PORT, Layout
from db.embedded.programs import MAJOR_VERSION

SUPERUSER = "postgres"
# Sorts the same on every machine and after every upgrade of libc.
LOCALE = ("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}  # PG… variables of the caller stay out

# For a machine of 2 cores and 4 GB that does other work too. Durable by default.
_DEFAULTS = {
    "max_connections": "100",
    "shared_buffers": "128MB",
    "effective_cache_size": "1GB",
    "work_mem": "8MB",
    "maintenance_work_mem": "256MB",  # HNSW builds: below the size of the graph they slow down threefold
    "random_page_cost": "1.1",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "wal_compression": "on",
    "checkpoint_timeout": "10min",
    "max_wal_size": "1GB",
    "min_wal_size": "160MB",
    "jit": "off",  # short statements: compiling costs more than it saves
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %u@%d ",
    "log_checkpoints": "off",  # every ten minutes for ever, in a log that is only cut at a start
    # A statement or a DETAIL line can hold a payload, and payloads never stand in a log.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}

# What makes the socket private, and what we find the server by: not the caller's to change.
_FIXED = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_directories": ".",
    "unix_socket_permissions": "0700",
    "unix_socket_group": "",
    "logging_collector": "off",
    "log_destination": "stderr",
    "cluster_name": "greenroom",
}
_SETTING_NAME = re.compile(r"[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)?")


def data_argument(data: Path, server: Identity) -> str:
    """What -D gets, of a process whose working directory is that data folder.

    PostgreSQL makes any other path absolute and enters it from the root, which a user of its own cannot do below a 0700
    home. /proc/self/cwd leads into the folder that root has opened for it, in every child that postgres forks too.
    """
    return "/proc/self/cwd" if server.switches else str(data)


def initialise(layout: Layout, programs: Path, server: Identity) -> None:
    """Create the data folder if there is none; a kill at any point leaves either none or a whole one."""
    if not layout.data.exists():
        _initdb(layout.unfinished, programs, server)
        _hand_over(layout.unfinished, server)
        layout.unfinished.rename(layout.data)
        _sync(layout.root)
    elif server.switches and layout.data.stat().st_uid == 0:
        _hand_over(layout.data, server)  # restored by a copy that kept no owners
    _check_version(layout.data)


def configure(data: Path, server: Identity, settings: Mapping[str, str]) -> None:
    """Write postgresql.conf anew: our defaults, the caller's settings over them, then what is fixed."""
    for name in settings:
        if name in _FIXED or not _SETTING_NAME.fullmatch(name):
            raise EmbeddedServerError(f"{name!r} is not a setting that the embedded server takes")
    lines = ["# Written at every start. ALTER SYSTEM is kept in postgresql.auto.conf and wins.\n"]
    lines += [f"{name} = {_quoted(value)}\n" for name, value in {**_DEFAULTS, **settings, **_FIXED}.items()]
    _replace_file(data / "postgresql.conf", "".join(lines), server)


def _initdb(folder: Path, programs: Path, server: Identity) -> None:
    identity = initdb_identity(server)
    folder.mkdir(mode=0o700)
    _change_owner(folder, identity)
    command = [
        str(programs / "initdb"),
        f"--pgdata={data_argument(folder, server)}",
        f"--username={SUPERUSER}",
        "--encoding=UTF8",
        *LOCALE,
        "--data-checksums",
        "--auth-local=trust",  # the folder of the socket is the guard
        "--auth-host=reject",
        "--no-instructions",
    ]
    try:
        result = subprocess.run(
            command,
            cwd=folder,
            env=ENVIRONMENT,
            user=identity.uid,
            group=identity.gid,
            extra_groups=identity.extra_groups,
            umask=0o077,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EmbeddedServerError(f"cannot run PostgreSQL's initdb: {error}") from error
    if result.returncode != 0:
        raise EmbeddedServerError(f"PostgreSQL's initdb failed below {folder.parent}: {result.stderr.strip()}")


def _check_version(data: Path) -> None:
    found = (data / "PG_VERSION").read_text().strip()
    if found != str(MAJOR_VERSION):
        raise EmbeddedServerError(
            f"{data} was written by PostgreSQL {found}, and this is {MAJOR_VERSION}: dump it with the greenroom "
            "that wrote it and load it into a new GREENROOM_HOME"
        )


def _hand_over(tree: Path, server: Identity) -> None:
    for folder, _, files in os.walk(tree):
        for path in (Path(folder), *(Path(folder) / name for name in files)):
            _change_owner(path, server)


def _change_owner(path: Path, identity: Identity) -> None:
    if identity.uid is not None and identity.gid is not None:
        os.chown(path, identity.uid, identity.gid, follow_symlinks=False)


def _replace_file(path: Path, text: str, server: Identity) -> None:
    """Write a file of the data folder, as root too, without following what the server's user may have put there."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    _change_owner(new, server)
    new.replace(path)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _quoted(value: str) -> str:
    if "\n" in value:
        raise EmbeddedServerError("a setting of the embedded server is one line")
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"
