"""One owner of a home's server at a time: a locked file that also says who it is and where the socket is.

The lock lives as long as the server, not as its owner: the supervisor inherits the open file and the owner closes its
own. So a next start after a SIGKILL waits for the shutdown that is under way, and a child forked by the owner does
not keep the lock. The file is never replaced, or two processes could lock two files of one name.
"""

import fcntl
import json
import os
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from core.errors import EmbeddedServerError

_POLL_SECONDS = 0.05  # flock has no timeout


@dataclass(frozen=True)
class Record:
    pid: int
    since: str
    folder: str

    @classmethod
    def of_this_process(cls, folder: Path) -> "Record":
        return cls(os.getpid(), datetime.now(UTC).isoformat(timespec="seconds"), str(folder))


def lock(path: Path, patience_seconds: float) -> int:
    """Lock the file and return its descriptor.

    Waits only for a server whose owner has died. Raises EmbeddedServerError when the owner lives or patience ends.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + patience_seconds
    while not _try_lock(descriptor):
        record = read_record(path)
        if (record is not None and _is_alive(record.pid)) or time.monotonic() > deadline:
            os.close(descriptor)
            raise EmbeddedServerError(_refusal(path, record))
        time.sleep(_POLL_SECONDS)
    return descriptor


def write_record(descriptor: int, record: Record) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(asdict(record)).encode(), 0)


def read_record(path: Path) -> Record | None:
    """The last owner that was written, living or not; None if there is none or it is being written."""
    try:
        return Record(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _refusal(path: Path, record: Record | None) -> str:
    who = f"pid {record.pid}, since {record.since}" if record else "just starting"
    return (
        f"another greenroom ({who}) runs the server of {path.parent.parent}: commands beside it connect to it by "
        "themselves; stop it, or set GREENROOM_HOME to another folder"
    )
