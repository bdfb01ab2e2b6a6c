"""Files in a store that fsspec opens by its URL: a bucket, and whatever else has an implementation of fsspec."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from core.errors import UnavailableError
from pipelines.storage.base import (
    Content,
    Found,
    Storage,
    StoredObject,
    copy,
    hash_of,
    in_bytes,
    open_regular,
)
from pipelines.storage.below import RemoteFiles
from pipelines.storage.errors import FileRefusedError, FileVanishedError


class RemoteStorage(Storage):
    """Files below a URL such as s3://bucket/folder; `options` go to fsspec as they are.

    What is read is copied to the local disk first; a file of more than `most_bytes` is refused before. The stamp of a
    file is what its store tells contents by (an ETag).
    """

    def __init__(self, url: str, options: Mapping[str, Any], *, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._remote = RemoteFiles(url, options, setting="storage")

    @property
    def place(self) -> str:
        """The URL without what may be secret in it."""
        return self._remote.place

    def check(self) -> None:
        """Write a file, look at it and remove it."""
        path = self._remote.path(f".greenroom-{uuid4()}")
        with self._remote.answers(_gone):
            self._remote.files.pipe_file(path, b"ok")
            self._info(path)
            self._remote.files.rm_file(path)

    def _keep(self, tenant_id: UUID, source: Path, key_of: Callable[[str], str]) -> StoredObject:
        """Send a file to where its content belongs, if it is not there; twice over the network it never goes."""
        with tempfile.TemporaryDirectory(prefix="greenroom-storage-") as folder:
            copied = Path(folder) / "file"  # as it was when it was hashed, whoever writes to it meanwhile
            with open_regular(source) as reading, copied.open("wb") as writing:
                size, digest = copy(reading, writing)
            key = key_of(digest.hex())
            with self._remote.answers(_gone):
                if not self._has(key, size):
                    self._remote.files.put_file(str(copied), self._remote.path(key))
                    if not self._has(key, size):
                        raise UnavailableError("the storage took a file and does not have it whole")
        return StoredObject(key=key, size=size, sha256=digest.hex())

    @contextlib.contextmanager
    def open(self, tenant_id: UUID, key: str) -> Iterator[Content]:
        """Yield a copy of the file on the local disk."""
        path = self._remote.path(self.checked(tenant_id, key))
        with tempfile.TemporaryDirectory(prefix="greenroom-storage-") as folder:
            copied = Path(folder) / "file"
            with self._remote.answers(_gone):
                # Before the bytes: should they change on the way, the stamp is one of those before.
                found = self._info(path)
                if found["size"] > self._most_bytes:
                    raise FileRefusedError(
                        f"The file has more than {self._most_bytes:,} bytes; split it and ingest the parts."
                    )
                self._remote.files.get_file(path, str(copied))
            size, digest = hash_of(copied)
            _check(key, digest.hex())
            yield Content(copied, size, digest, _stamp_of(found))

    def stamp(self, tenant_id: UUID, key: str) -> str:
        """Return what the store tells the content behind a key by."""
        path = self._remote.path(self.checked(tenant_id, key))
        with self._remote.answers(_gone):
            return _stamp_of(self._info(path))

    def size(self, tenant_id: UUID, key: str) -> int:
        """Return the size that the store says."""
        path = self._remote.path(self.checked(tenant_id, key))
        with self._remote.answers(_gone):
            return int(self._info(path)["size"])

    def delete(self, tenant_id: UUID, key: str) -> None:
        """Remove the file behind a key."""
        path = self._remote.path(self.checked(tenant_id, key))
        with contextlib.suppress(FileVanishedError), self._remote.answers(_gone):
            self._info(path)  # a bucket removes what it does not have without a word, other stores complain
            self._remote.files.rm_file(path)

    def erase(self, tenant_id: UUID, most: int) -> int:
        """Remove files one by one: what removes many reads their names as patterns."""
        folder = self._remote.path(str(tenant_id))
        found: list[str] = []
        with contextlib.suppress(FileVanishedError), self._remote.answers(_gone):
            listed = self._remote.files.find(folder, detail=True)
            found = [path for path, facts in listed.items() if facts["type"] == "file" and f"{folder}/" in path][:most]
            for path in found:
                self._remote.files.rm_file(path)
            if not found:
                self._remote.require_root()  # a bucket that is not there has no files to find, either
        return len(found)

    def mark(self) -> str | None:
        """Return the mark's text."""
        return self._remote.mark()

    def set_mark(self, text: str) -> None:
        """Write the mark."""
        self._remote.set_mark(text)

    def folders(self) -> list[str]:
        """Return the folders below the root; a bucket lists them without what they hold."""
        found: list[str] = []
        with contextlib.suppress(FileVanishedError), self._remote.answers(_gone):
            listed = self._remote.files.ls(self._remote.root, detail=True)
            found = [each["name"].rstrip("/").rpartition("/")[2] for each in listed if each["type"] == "directory"]
            if not listed:
                self._remote.require_root()
        return sorted(found, key=in_bytes)

    def walk(self, folder: str = "", after: str = "") -> Iterator[Found]:
        """Yield what the store lists: S3 page by page, any other all of the folder at once."""
        return self._remote.walk(folder, after)

    def _info(self, path: str) -> dict[str, Any]:
        found: dict[str, Any] = self._remote.files.info(path)
        if found["type"] != "file":
            raise FileNotFoundError(path)
        return found

    def _has(self, key: str, size: int) -> bool:
        try:
            return bool(self._info(self._remote.path(key))["size"] == size)
        except FileNotFoundError:
            return False


def _gone() -> FileVanishedError:
    return FileVanishedError("The stored file is gone; ingest the document again.")


def _stamp_of(found: Mapping[str, Any]) -> str:
    told = (found.get(name) for name in ("ETag", "etag", "md5Hash", "mtime", "LastModified", "created"))
    return f"{found['size']} {next((each for each in told if each is not None), '')}"


def _check(key: str, sha256: str) -> None:
    """Raise FileRefusedError where a key that was made of a content has another one behind it."""
    name = key.rpartition("/")[2]
    if len(name) == len(sha256) and key.endswith(f"/{name[:2]}/{name}") and name != sha256:
        raise FileRefusedError(
            "The stored file is not what was stored: remove it from the storage and ingest it again."
        )
