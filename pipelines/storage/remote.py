"""Files in a store that fsspec opens by its URL: a bucket, and whatever else has an implementation of fsspec."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import fsspec

from core.errors import GreenroomError, SettingsError, UnavailableError
from pipelines.documents.errors import BrokenFileError, FileVanishedError, TooLargeError
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

# What we ask about is what was written a moment ago, by another process perhaps.
_NOTHING_KEPT: Final = {"use_listings_cache": False, "skip_instance_cache": True}
# A store that hangs costs a minute, not the quarter of an hour that its library would try for.
_S3_TIMES: Final = {"connect_timeout": 5, "read_timeout": 20, "retries": {"max_attempts": 2}}
# These would follow links out of a tenant's folder: a local folder is the setting `root`.
_LOCAL: Final = ("file", "local")
_AGAIN: Final = timedelta(seconds=30)


class RemoteStorage(Storage):
    """Files below a URL such as s3://bucket/folder; `options` go to fsspec as they are.

    What is read is copied to the local disk first; a file of more than `most_bytes` is refused before. The stamp of a
    file is what its store tells contents by (an ETag).
    """

    def __init__(self, url: str, options: Mapping[str, Any], *, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._files, self._root = opened(url, options, setting="storage")

    @property
    def place(self) -> str:
        """The URL without what may be secret in it."""
        protocol = self._files.protocol
        return f"{protocol if isinstance(protocol, str) else protocol[0]}://{self._root.rpartition('@')[2]}"

    def check(self) -> None:
        """Write a file, look at it and remove it."""
        path = self._path(f".greenroom-{uuid4()}")
        with self._answers():
            self._files.pipe_file(path, b"ok")
            self._info(path)
            self._files.rm_file(path)

    def _keep(self, tenant_id: UUID, source: Path, key_of: Callable[[str], str]) -> StoredObject:
        """Send a file to where its content belongs, if it is not there; twice over the network it never goes."""
        with tempfile.TemporaryDirectory(prefix="greenroom-storage-") as folder:
            copied = Path(folder) / "file"  # as it was when it was hashed, whoever writes to it meanwhile
            with open_regular(source) as reading, copied.open("wb") as writing:
                size, digest = copy(reading, writing)
            key = key_of(digest.hex())
            with self._answers():
                if not self._has(key, size):
                    self._files.put_file(str(copied), self._path(key))
                    if not self._has(key, size):
                        raise UnavailableError("the storage took a file and does not have it whole")
        return StoredObject(key=key, size=size, sha256=digest.hex())

    @contextlib.contextmanager
    def open(self, tenant_id: UUID, key: str) -> Iterator[Content]:
        """Yield a copy of the file on the local disk."""
        path = self._path(self.checked(tenant_id, key))
        with tempfile.TemporaryDirectory(prefix="greenroom-storage-") as folder:
            copied = Path(folder) / "file"
            with self._answers():
                # Before the bytes: should they change on the way, the stamp is one of those before.
                found = self._info(path)
                if found["size"] > self._most_bytes:
                    raise TooLargeError(
                        f"The file has more than {self._most_bytes:,} bytes; split it and ingest the parts."
                    )
                self._files.get_file(path, str(copied))
            size, digest = hash_of(copied)
            _check(key, digest.hex())
            yield Content(copied, size, digest, _stamp_of(found))

    def stamp(self, tenant_id: UUID, key: str) -> str:
        """Return what the store tells the content behind a key by."""
        path = self._path(self.checked(tenant_id, key))
        with self._answers():
            return _stamp_of(self._info(path))

    def size(self, tenant_id: UUID, key: str) -> int:
        """Return the size that the store says."""
        path = self._path(self.checked(tenant_id, key))
        with self._answers():
            return int(self._info(path)["size"])

    def delete(self, tenant_id: UUID, key: str) -> None:
        """Remove the file behind a key."""
        path = self._path(self.checked(tenant_id, key))
        with contextlib.suppress(FileVanishedError), self._answers():
            self._info(path)  # a bucket removes what it does not have without a word, other stores complain
            self._files.rm_file(path)

    def erase(self, tenant_id: UUID, most: int) -> int:
        """Remove files one by one: what removes many reads their names as patterns."""
        folder = self._path(str(tenant_id))
        found: list[str] = []
        with contextlib.suppress(FileVanishedError), self._answers():
            listed = self._files.find(folder, detail=True)
            found = [path for path, facts in listed.items() if facts["type"] == "file" and f"{folder}/" in path][:most]
            for path in found:
                self._files.rm_file(path)
            if not found:
                self._require_root()  # a bucket that is not there has no files to find, either
        return len(found)

    def folders(self) -> list[str]:
        """Return the folders below the root; a bucket lists them without what they hold."""
        found: list[str] = []
        with contextlib.suppress(FileVanishedError), self._answers():
            listed = self._files.ls(self._root, detail=True)
            found = [each["name"].rstrip("/").rpartition("/")[2] for each in listed if each["type"] == "directory"]
            if not listed:
                self._require_root()
        return sorted(found, key=in_bytes)

    def walk(self, folder: str = "", after: str = "") -> Iterator[Found]:
        """Yield what the store lists: S3 page by page, any other all of the folder at once."""
        prefix = f"{folder}/" if folder else ""
        pages = self._pages_of_s3 if hasattr(self._files, "call_s3") else self._one_page
        for page in pages(prefix, after):
            yield from page

    def _pages_of_s3(self, prefix: str, after: str) -> Iterator[list[Found]]:
        bucket, _, inside = self._root.rstrip("/").partition("/")
        root = f"{inside}/" if inside else ""
        start = root + (after or prefix)
        while True:
            where = {"Bucket": bucket, "Prefix": root + prefix, "StartAfter": start}
            with self._answers():
                listed = self._files.call_s3("list_objects_v2", **where).get("Contents", [])
            if not listed:
                return
            found = [Found(each["Key"].removeprefix(root), each["Size"], each["LastModified"]) for each in listed]
            # a folder that was made by hand is an object whose key ends with a slash
            yield [each for each in found if not each.key.endswith("/")]
            start = listed[-1]["Key"]

    def _one_page(self, prefix: str, after: str) -> Iterator[list[Found]]:
        root, listed = self._path("").lstrip("/"), dict[str, Any]()
        with contextlib.suppress(FileVanishedError), self._answers():
            listed = self._files.find(self._path(prefix), detail=True)
        files = {path.lstrip("/").removeprefix(root): facts for path, facts in listed.items()}
        yield [
            Found(key, facts["size"], _modified(facts))
            for key, facts in sorted(files.items(), key=lambda item: in_bytes(item[0]))
            if facts["type"] == "file" and key.startswith(prefix) and in_bytes(key) > in_bytes(after)
        ]

    def _path(self, key: str) -> str:
        return f"{self._root.rstrip('/')}/{key}"

    def _info(self, path: str) -> dict[str, Any]:
        found: dict[str, Any] = self._files.info(path)
        if found["type"] != "file":
            raise FileNotFoundError(path)
        return found

    def _has(self, key: str, size: int) -> bool:
        try:
            return bool(self._info(self._path(key))["size"] == size)
        except FileNotFoundError:
            return False

    @contextlib.contextmanager
    def _answers(self) -> Iterator[None]:
        """Raise the errors of Storage for those of whatever library talks to the store.

        Of those no text goes on: it may hold addresses, names and keys.
        """
        try:
            yield
        except GreenroomError:
            raise
        except FileNotFoundError:
            self._require_root()
            raise FileVanishedError("The stored file is gone; ingest the document again.") from None
        except PermissionError:
            raise UnavailableError(
                "the storage refuses: check its credentials and its policy", retry_after=_AGAIN
            ) from None
        except Exception as error:  # each store has a library, each library its own
            raise _away(error) from None

    def _require_root(self) -> None:
        """Raise UnavailableError where not a file is missing but all that it could be in: a bucket, or its name."""
        try:
            is_there = self._files.exists(self._root.partition("/")[0])
        except Exception as error:
            raise _away(error) from None
        if not is_there:
            raise UnavailableError("the storage's bucket does not exist: check storage.url", retry_after=_AGAIN)


def opened(url: str, options: Mapping[str, Any], *, setting: str) -> tuple[Any, str]:
    """Return what fsspec opens by a URL, and the path in it; `setting` is the group that names it.

    Raises SettingsError for a URL that cannot be opened, and for a local folder.
    """
    try:
        protocol = fsspec.core.split_protocol(url)[0]
        if protocol is None or protocol in _LOCAL:
            raise SettingsError(f"{setting}.url names a local folder: set storage.root to that instead")
        times = {"config_kwargs": _S3_TIMES} if protocol in ("s3", "s3a") else {}
        files, root = fsspec.url_to_fs(url, **{**_NOTHING_KEPT, **times, **options})
    except ImportError as error:
        hint = "For S3 install `greenroom[s3]`, for others the package that is named."
        raise SettingsError(f"{setting}.url: {error}. {hint}") from error
    except (ValueError, TypeError, OSError) as error:
        # some libraries look for programs of others, and tell each place
        told = str(error).partition("\n")[0]
        raise SettingsError(f"{setting}.url or {setting}.options cannot be used: {told}") from error
    return files, str(root)


def _away(error: Exception) -> UnavailableError:
    return UnavailableError(f"the storage does not answer: {type(error).__name__}", retry_after=_AGAIN)


def _stamp_of(found: Mapping[str, Any]) -> str:
    told = (found.get(name) for name in ("ETag", "etag", "md5Hash", "mtime", "LastModified", "created"))
    return f"{found['size']} {next((each for each in told if each is not None), '')}"


def _modified(found: Mapping[str, Any]) -> datetime | None:
    """Return when a file was written, as whatever library tells it."""
    told = next(
        (found[name] for name in ("LastModified", "mtime", "updated", "last_modified", "created") if name in found),
        None,
    )
    if isinstance(told, int | float):
        return datetime.fromtimestamp(told, UTC)
    if not isinstance(told, datetime):
        return None
    return told if told.tzinfo else told.replace(tzinfo=UTC)


def _check(key: str, sha256: str) -> None:
    """Raise BrokenFileError where a key that was made of a content has another one behind it."""
    name = key.rpartition("/")[2]
    if len(name) == len(sha256) and key.endswith(f"/{name[:2]}/{name}") and name != sha256:
        raise BrokenFileError("The stored file is not what was stored: remove it from the storage and ingest it again.")
