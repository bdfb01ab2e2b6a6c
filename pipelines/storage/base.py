"""What every storage does, and the keys that all of them share."""

import hashlib
import os
import re
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final
from uuid import UUID, uuid4

from pipelines.storage.errors import FileRefusedError, FileVanishedError, StoragePathError

MARK: Final = "greenroom-installation"
"""The file at the root of a store that says whose it is (`owning`)."""
TEMPORARY: Final = "temporary"
"""The folder of a tenant's whose files go by their age."""
_PIECE: Final = 1 << 20
_SUFFIX: Final = re.compile(r"(\.[A-Za-z0-9]{1,16})?")


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What `put` made: the key to keep, and the facts of the content behind it."""

    key: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Content:
    """A stored file as one on the local disk, to be read and not written to.

    `stamp` is another as soon as the stored file has other bytes.
    """

    path: Path
    size: int
    sha256: bytes
    stamp: str


@dataclass(frozen=True, slots=True)
class Found:
    """A stored file as a walk meets it: its size in bytes, and when it was written; None where a store is silent."""

    key: str
    size: int
    modified: datetime | None


class Storage(ABC):
    """Files by key, a folder for each tenant. Safe to use from many threads and processes at once.

    Operations with a key raise StoragePathError for one that is not the tenant's, FileVanishedError where nothing is
    behind it, and UnavailableError where the store does not answer.
    """

    @property
    @abstractmethod
    def place(self) -> str:
        """Where it is, for people; nothing secret."""

    @abstractmethod
    def check(self) -> None:
        """Find out whether it can be written to; raises UnavailableError."""

    def put(self, tenant_id: UUID, source: Path) -> StoredObject:
        """Copy a local file into the storage and return its key; the same bytes give the same key.

        Streams, so the size of the file does not matter to memory. The copy has its name only when it is complete, and
        outlives a power cut then. Raises what `open_regular` does.
        """
        return self._keep(tenant_id, source, lambda sha256: content_key(tenant_id, sha256))

    def put_temporary(self, tenant_id: UUID, source: Path, suffix: str = "") -> StoredObject:
        """Copy a local file to where files go by their age (`files.expire`); each copy has a key of its own.

        `suffix` is what its name ends with, such as `.mp3`; raises StoragePathError for one that is more than that.
        """
        if not _SUFFIX.fullmatch(suffix):
            raise StoragePathError("The suffix of a temporary file is a dot and up to 16 letters and digits.")
        return self._keep(tenant_id, source, lambda _: self.key_of(tenant_id, f"{TEMPORARY}/{uuid4()}{suffix}"))

    @abstractmethod
    def _keep(self, tenant_id: UUID, source: Path, key_of: Callable[[str], str]) -> StoredObject:
        """Copy a local file to the key that is made of its checksum's hex digits."""

    @abstractmethod
    def open(self, tenant_id: UUID, key: str) -> AbstractContextManager[Content]:
        """Return what stands behind a key, for the block."""

    @abstractmethod
    def stamp(self, tenant_id: UUID, key: str) -> str:
        """Return the stamp of what stands behind a key now."""

    @abstractmethod
    def size(self, tenant_id: UUID, key: str) -> int:
        """Return the size of what stands behind a key, in bytes."""

    @abstractmethod
    def delete(self, tenant_id: UUID, key: str) -> None:
        """Remove the file behind a key; one that is gone already is fine."""

    @abstractmethod
    def erase(self, tenant_id: UUID, most: int) -> int:
        """Remove up to `most` of a tenant's files, whoever put them there; return how many went: 0 when none is left.

        Raises UnavailableError for one that cannot be removed.
        """

    @abstractmethod
    def mark(self) -> str | None:
        """Return what the storage as a whole is marked with (`owning`)."""

    @abstractmethod
    def set_mark(self, text: str) -> None:
        """Mark the storage as a whole."""

    def is_empty(self) -> bool:
        """Return whether no tenant has a folder in it."""
        return not any(tenant_of(f"{folder}/x") for folder in self.folders())

    @abstractmethod
    def folders(self) -> list[str]:
        """Return the names of the folders directly below the root, sorted: those of tenants, and what else is there."""

    @abstractmethod
    def walk(self, folder: str = "", after: str = "") -> Iterator[Found]:
        """Yield the files below a folder, or all, from behind the key `after` on, in the order of their keys' bytes.

        Some stores of S3's protocol have another order, the same each time. Lists as it goes, so what comes or goes
        meanwhile may be there or not. Links are left out. A key that is no UTF-8 has surrogates in it. Raises
        UnavailableError.
        """

    @staticmethod
    def key_of(tenant_id: UUID, path: str) -> str:
        """Return the key of the file at `path` in a tenant's folder; raises StoragePathError for one that leaves it."""
        inside = PurePosixPath(path)
        if "\0" in path or inside.is_absolute() or ".." in inside.parts or not inside.parts:
            raise StoragePathError("The path must be relative to the tenant's folder of the storage and stay below it.")
        return f"{tenant_id}/{inside}"

    def checked(self, tenant_id: UUID, key: str) -> str:
        """Return a tenant's key as `key_of` makes it; raises StoragePathError for a key of any other."""
        owner, _, inside = key.partition("/")
        if owner != str(tenant_id):
            raise StoragePathError("The storage key is not one of the tenant; ingest the file again.")
        return self.key_of(tenant_id, inside)


def tenant_of(key: str) -> UUID | None:
    """Return whose folder a key is in, None where it is in no tenant's."""
    owner, _, inside = key.partition("/")
    try:
        tenant_id = UUID(owner)
    except ValueError:
        return None
    return tenant_id if inside and str(tenant_id) == owner else None


def in_bytes(key: str) -> bytes:
    """Return a key as the bytes that keys are ordered by."""
    return key.encode("utf-8", "surrogateescape")


def content_key(tenant_id: UUID, sha256: str) -> str:
    """Return the key of a content, by the hex digits of its checksum."""
    return Storage.key_of(tenant_id, f"{sha256[:2]}/{sha256}")


def open_regular(source: Path) -> BinaryIO:
    """Open a regular file for reading; a pipe or a device would block for ever or never end.

    Raises FileVanishedError, and FileRefusedError for one that is not regular or may not be read.
    """
    try:
        # Non-blocking, or the open of a pipe that nobody writes to would wait; regular files do not care.
        handle = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise FileVanishedError("The file does not exist; check its path and ingest it again.") from None
    except PermissionError:
        raise FileRefusedError("The file may not be read by this process; change its permissions.") from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise FileRefusedError("The path is not that of a regular file; give the path of a document.")
    return os.fdopen(handle, "rb")


def copy(reading: BinaryIO, writing: BinaryIO) -> tuple[int, bytes]:
    """Copy a stream; return how many bytes it was, and their SHA-256."""
    digest, size = hashlib.sha256(), 0
    while piece := reading.read(_PIECE):
        digest.update(piece)
        size += len(piece)
        writing.write(piece)
    return size, digest.digest()


def hash_of(path: Path) -> tuple[int, bytes]:
    """Return how many bytes a file has, and their SHA-256."""
    with path.open("rb") as reading:
        digest = hashlib.file_digest(reading, "sha256").digest()
        return reading.tell(), digest
