"""Files in a store that fsspec opens by its URL: a bucket, and whatever else has an implementation of fsspec."""

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import fsspec

from core.errors import GreenroomError, RetryableError, SettingsError
from pipelines.documents.errors import BrokenFileError, FileVanishedError
from pipelines.documents.storage.base import Content, Storage, StoredObject, content_key, copy, open_regular

# What we ask about is what was written a moment ago, by another process perhaps.
_NOTHING_KEPT = {"use_listings_cache": False, "skip_instance_cache": True}


class RemoteStorage(Storage):
    """Files below a URL such as s3://bucket/folder; `options` go to fsspec as they are.

    What is read is copied to the local disk first, `most_bytes` of it and little more: a larger file is refused by who
    reads it. The stamp of a file is what its store tells contents by (an ETag).
    """

    def __init__(self, url: str, options: Mapping[str, Any], *, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        try:
            self._files, self._root = fsspec.url_to_fs(url, **{**_NOTHING_KEPT, **options})
        except ImportError as error:
            hint = "For S3 install `greenroom[s3]`, for others the package that is named."
            raise SettingsError(f"storage.url: {error}. {hint}") from error
        except (ValueError, TypeError) as error:
            raise SettingsError(f"storage.url or storage.options cannot be used: {error}") from error

    def put(self, tenant_id: UUID, source: Path) -> StoredObject:
        """Send a file to where its content belongs, if it is not there; twice over the network it never goes."""
        with tempfile.TemporaryDirectory(prefix="greenroom-storage-") as folder:
            copied = Path(folder) / "file"  # as it was when it was hashed, whoever writes to it meanwhile
            with open_regular(source) as reading, copied.open("wb") as writing:
                size, digest = copy(reading, writing)
            key = content_key(tenant_id, digest.hex())
            with _translated():
                if not self._has(key, size):
                    self._files.put_file(str(copied), self._path(key))
                    if not self._has(key, size):
                        raise RetryableError("The storage took a file and does not have it whole.")
        return StoredObject(key=key, size=size, sha256=digest.hex())

    @contextlib.contextmanager
    def open(self, tenant_id: UUID, key: str) -> Iterator[Content]:
        """Yield a copy of the file on the local disk."""
        path = self._path(self.checked(tenant_id, key))
        with tempfile.TemporaryDirectory(prefix="greenroom-storage-") as folder:
            copied = Path(folder) / "file"
            with _translated(), copied.open("wb") as writing:
                # Before the bytes: should they change on the way, the stamp is one of those before.
                stamp = self._stamp_of(path)
                with self._files.open(path, "rb") as reading:
                    size, digest = copy(reading, writing, most=self._most_bytes)
            if size <= self._most_bytes:
                _check(key, digest.hex())
            yield Content(copied, size, digest, stamp)

    def stamp(self, tenant_id: UUID, key: str) -> str:
        """Return what the store tells the content behind a key by."""
        path = self._path(self.checked(tenant_id, key))
        with _translated():
            return self._stamp_of(path)

    def size(self, tenant_id: UUID, key: str) -> int:
        """Return the size that the store says."""
        path = self._path(self.checked(tenant_id, key))
        with _translated():
            return int(self._info(path)["size"])

    def delete(self, tenant_id: UUID, key: str) -> None:
        """Remove the file behind a key."""
        path = self._path(self.checked(tenant_id, key))
        with contextlib.suppress(FileVanishedError), _translated():
            self._info(path)  # a bucket removes what it does not have without a word, other stores complain
            self._files.rm_file(path)

    def _path(self, key: str) -> str:
        return f"{self._root.rstrip('/')}/{key}"

    def _info(self, path: str) -> dict[str, Any]:
        found: dict[str, Any] = self._files.info(path)
        if found["type"] != "file":
            raise FileNotFoundError(path)
        return found

    def _stamp_of(self, path: str) -> str:
        found = self._info(path)
        told = (found.get(name) for name in ("ETag", "etag", "md5Hash", "mtime", "LastModified", "created"))
        return f"{found['size']} {next((each for each in told if each is not None), '')}"

    def _has(self, key: str, size: int) -> bool:
        try:
            return bool(self._info(self._path(key))["size"] == size)
        except FileNotFoundError:
            return False


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Raise the errors of Storage for those of whatever library talks to the store."""
    try:
        yield
    except GreenroomError:
        raise
    except FileNotFoundError:
        raise FileVanishedError("The stored file is gone; ingest the document again.") from None
    except PermissionError as error:
        raise RetryableError(f"The storage refuses: check its credentials and its policy ({error}).") from error
    except Exception as error:  # each store has a library, each library its own
        raise RetryableError(f"The storage does not answer: {type(error).__name__}: {error}") from error


def _check(key: str, sha256: str) -> None:
    """Raise BrokenFileError where a key that was made of a content has another one behind it."""
    name = key.rpartition("/")[2]
    if len(name) == len(sha256) and key.endswith(f"/{name[:2]}/{name}") and name != sha256:
        raise BrokenFileError("The stored file is not what was stored: remove it from the storage and ingest it again.")
