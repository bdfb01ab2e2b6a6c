"""Where documents' files live on a local disk: below a folder for each tenant, named by a key.

`put` makes keys of the content, `<tenant id>/<first two hex digits>/<sha256>`: the same bytes twice are one file, which
never changes. Producers may also put files of their own there and name them by path; the key is then
`<tenant id>/<path>`. Such a file can change at any time, and from its ingest on it is the document's: `document.delete`
removes it like any other. No key, however it is made, reaches a file outside its tenant's folder.
"""

import contextlib
import hashlib
import os
import stat
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from uuid import UUID

from pipelines.documents.errors import DocumentRefusedError, FileVanishedError, StoragePathError, WrongTypeError

_PIECE = 1 << 20
_INCOMING = ".incoming-"
# A copy that goes on has been written to more recently.
_LEFTOVER_SECONDS = 3600.0


@dataclass(frozen=True)
class StoredObject:
    """What `put` made: the key to keep, and the facts of the content behind it."""

    key: str
    size: int
    sha256: str


class LocalStorage:
    """Files below one root folder. Safe to use from many threads and processes at once."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()

    def put(self, tenant_id: UUID, source: Path) -> StoredObject:
        """Copy `source` into the storage and return its key; the same bytes give the same key.

        Streams, so the size of the file does not matter to memory. The copy is complete and flushed to disk before it
        has its name. Raises what `open_regular` does.
        """
        folder = self._root / str(tenant_id)
        folder.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(folder)
        with open_regular(source) as reading:
            handle, name = tempfile.mkstemp(dir=folder, prefix=_INCOMING)
            try:
                with os.fdopen(handle, "wb") as writing:
                    size, digest = _copy(reading, writing)
                key = self.key_of(tenant_id, f"{digest[:2]}/{digest}")
                self._place(Path(name), key)
            finally:
                Path(name).unlink(missing_ok=True)
        return StoredObject(key=key, size=size, sha256=digest)

    @staticmethod
    def key_of(tenant_id: UUID, path: str) -> str:
        """Return the key of the file at `path` in a tenant's folder; raises StoragePathError for one that leaves it."""
        inside = PurePosixPath(path)
        if "\0" in path or inside.is_absolute() or ".." in inside.parts or not inside.parts:
            raise StoragePathError("The path must be relative to the tenant's folder of the storage and stay below it.")
        return f"{tenant_id}/{inside}"

    def path_of(self, tenant_id: UUID, key: str) -> Path:
        """Return the path behind a tenant's key; raises StoragePathError for a key of any other, FileVanishedError."""
        owner, _, inside = key.partition("/")
        if owner != str(tenant_id):
            raise StoragePathError("The storage key is not one of the tenant; ingest the file again.")
        path = self._root / self.key_of(tenant_id, inside)
        # Resolved on both sides: the folder itself may be reached through a link, a link inside may leave it.
        if not path.resolve().is_relative_to((self._root / owner).resolve()):
            raise StoragePathError("The storage key leads through a link outside the storage; ingest the file again.")
        if not path.is_file():
            raise FileVanishedError("The stored file is gone; ingest the document again.")
        return path

    def delete(self, tenant_id: UUID, key: str) -> None:
        """Remove the file behind a tenant's key; one that is gone already is fine. Refuses keys as `path_of` does."""
        try:
            self.path_of(tenant_id, key).unlink(missing_ok=True)
        except FileVanishedError:
            return

    def _place(self, complete: Path, key: str) -> None:
        target = self._root / key
        target.parent.mkdir(exist_ok=True)
        complete.replace(target)  # atomic, and over the same content it changes nothing that a reader could see
        folder = os.open(target.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(folder)  # the name has to outlive a power cut as the row that refers to it does
        finally:
            os.close(folder)


def open_regular(source: Path) -> BinaryIO:
    """Open a regular file for reading; a pipe or a device would block for ever or never end.

    Raises FileVanishedError, WrongTypeError, DocumentRefusedError where reading is not permitted.
    """
    try:
        # Non-blocking, or the open of a pipe that nobody writes to would wait; regular files do not care.
        handle = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise FileVanishedError("The file does not exist; check its path and ingest it again.") from None
    except PermissionError:
        raise DocumentRefusedError("The file may not be read by this process; change its permissions.") from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise WrongTypeError("The path is not that of a regular file; give the path of a document.")
    return os.fdopen(handle, "rb")


def _remove_leftovers(folder: Path) -> None:
    """Remove the copies that a `put` began and was killed before it could name."""
    for path in folder.glob(f"{_INCOMING}*"):
        with contextlib.suppress(OSError):  # somebody else removed it, or has to
            if path.stat().st_mtime < time.time() - _LEFTOVER_SECONDS:
                path.unlink()


def _copy(reading: BinaryIO, writing: BinaryIO) -> tuple[int, str]:
    digest = hashlib.sha256()
    size = 0
    while piece := reading.read(_PIECE):
        digest.update(piece)
        size += len(piece)
        writing.write(piece)
    writing.flush()
    os.fsync(writing.fileno())
    return size, digest.hexdigest()
