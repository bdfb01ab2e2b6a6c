"""The files of one home's server, and the address of its socket."""

import os
import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from core.errors import EmbeddedServerError
from db.embedded.identity import account_name

PORT = 5432  # names the socket's file; nothing listens on a network
_SOCKET_PATH_LIMIT = 103  # bytes without the final NUL: macOS; Linux has 107


@dataclass(frozen=True)
class Layout:
    """The paths below HOME/postgres. That folder is 0700 and its owner's, so nothing in it needs further guarding."""

    home: Path

    @property
    def root(self) -> Path:
        return self.home / "postgres"

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def unfinished(self) -> Path:
        """What initdb writes to; it becomes `data` in one rename."""
        return self.root / "data.unfinished"

    @property
    def log(self) -> Path:
        return self.root / "postgres.log"

    @property
    def owner(self) -> Path:
        return self.root / "owner.json"

    def create(self) -> None:
        """Make home and root where they are missing; a home that exists keeps its mode."""
        try:
            self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.root.mkdir(mode=0o700, exist_ok=True)
            owner = self.root.stat().st_uid
        except OSError as error:
            raise EmbeddedServerError(
                f"cannot use {self.root} ({error.strerror}): set GREENROOM_HOME to a folder that "
                f"{account_name(os.geteuid())} can write to"
            ) from error
        if owner != os.geteuid():
            raise EmbeddedServerError(
                f"{self.root} belongs to {account_name(owner)}: run greenroom as that user, or set GREENROOM_HOME"
            )


def reachable_folder(data: Path) -> Path:
    """A path of the data folder, where the socket is, that fits into a socket's address.

    The server binds in its working directory and has no limit; a client's path has. A long one gets a symlink from the
    temporary folder: its name cannot be guessed, it guards nothing (the 0700 folder does), and sticky bit and
    protected_symlinks keep others from redirecting it.
    """
    if _fits(data):
        return data
    for _ in range(10):
        link = Path(tempfile.gettempdir()) / f"greenroom-{secrets.token_hex(8)}"
        if not _fits(link):
            break
        try:
            link.symlink_to(data)
        except FileExistsError:
            continue
        return link
    raise EmbeddedServerError(
        f"the socket's path below {data} is longer than {_SOCKET_PATH_LIMIT} bytes, and so it is below "
        f"{tempfile.gettempdir()}: set GREENROOM_HOME or TMPDIR to a shorter path"
    )


def remove_link(folder: Path, data: Path) -> None:
    """Remove what `reachable_folder` of a run that was killed has left."""
    if folder != data and folder.is_symlink() and folder.readlink() == data:
        folder.unlink(missing_ok=True)


def server_url(folder: Path, user: str, database: str) -> str:
    who, what, where = (quote(part, safe="") for part in (user, database, str(folder)))
    return f"postgresql://{who}@/{what}?host={where}&port={PORT}"


def _fits(folder: Path) -> bool:
    return len(os.fsencode(folder / f".s.PGSQL.{PORT}")) <= _SOCKET_PATH_LIMIT
