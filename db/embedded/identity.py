"""The user that the server runs as: oneself, or for root, whom PostgreSQL refuses, a number that nobody else has.

Why a number without an account: `nobody` is shared with other daemons, which could then read the data and signal the
server; the distribution's `postgres` may be missing, and its superusers would read ours; creating an account changes
/etc/passwd behind the operator's back and fails in a read-only image. The range is one that systemd's allocation
(UIDS-GIDS.md) leaves unused, and it lies below 65,536, so that it is mapped in a container's user namespace too.
"""

import grp
import os
import pwd
from dataclasses import dataclass
from pathlib import Path

from core.errors import EmbeddedServerError

_UNUSED_NUMBERS = range(61_000, 61_184)
_INITDB_ACCOUNT = "nobody"


@dataclass(frozen=True)
class Identity:
    """What `subprocess` takes as user, group and extra_groups; None leaves a process what its parent is."""

    uid: int | None = None
    gid: int | None = None

    @property
    def switches(self) -> bool:
        return self.uid is not None

    @property
    def extra_groups(self) -> list[int] | None:
        return [] if self.switches else None


def server_identity(data: Path) -> Identity:
    """Who runs the server of this data folder: its owner, or if it does not exist yet a free number."""
    if os.geteuid() != 0:
        return Identity()
    if data.exists() and (owner := data.stat()).st_uid != 0:
        return Identity(owner.st_uid, owner.st_gid)
    return _free_number()


def initdb_identity(server: Identity) -> Identity:
    """Who runs initdb for that server.

    initdb (unlike postgres) insists on an account's name, so it borrows nobody's uid for its second, but with the
    server's group: the kernel's ptrace check wants uid and gid to match, so that other processes of nobody can
    neither trace it nor enter its folder through /proc. The files are handed over before they get their final name.
    """
    if not server.switches:
        return server
    try:
        return Identity(pwd.getpwnam(_INITDB_ACCOUNT).pw_uid, server.gid)
    except KeyError:
        raise EmbeddedServerError(
            f"as root the embedded server's initdb needs the account {_INITDB_ACCOUNT!r}, which this machine lacks: "
            "create it, run greenroom as an ordinary user, or set GREENROOM_DATABASE_URL"
        ) from None


def account_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _free_number() -> Identity:
    for number in _UNUSED_NUMBERS:
        if not _is_taken(number):
            return Identity(number, number)
    raise EmbeddedServerError(
        f"every user number from {_UNUSED_NUMBERS[0]} to {_UNUSED_NUMBERS[-1]} belongs to an account: run greenroom as "
        "an ordinary user, or set GREENROOM_DATABASE_URL"
    )


def _is_taken(number: int) -> bool:
    for lookup in (pwd.getpwuid, grp.getgrgid):
        try:
            lookup(number)
        except KeyError:
            continue
        return True
    return False
