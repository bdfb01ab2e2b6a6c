"""Where archives stand: a folder, or whatever store fsspec opens by a URL, beside documents' files or of its own.

Keys are made by `manifest.folder_of`: `<schema>.<table>/<YYYY-MM>/<part>-<id>/<file>`, never twice the same, so that
what is there is never written over. What goes in is only trusted once it was fetched and its checksum compared.
"""

import contextlib
import errno
import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

from core.errors import SettingsError, UnavailableError
from pipelines.retention.archive.errors import ChangedArchiveError
from pipelines.storage.base import MARK, Found, copy, hash_of
from pipelines.storage.local import LocalStorage

if TYPE_CHECKING:
    from core.settings import Settings

_AGAIN: Final = timedelta(seconds=30)
_FOLDER: Final = "archives"


class ArchiveStore(ABC):
    """Files by key. Operations raise UnavailableError where the store does not answer, is full or refuses."""

    @property
    @abstractmethod
    def place(self) -> str:
        """Where it is, for people; nothing secret."""

    @abstractmethod
    def put(self, key: str, source: Path) -> None:
        """Copy a local file into the store. It has its name only when it is complete, and outlives a power cut then."""

    @abstractmethod
    def get(self, key: str, target: Path) -> None:
        """Copy what stands behind a key to a local file; raises ChangedArchiveError where nothing does."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove the file behind a key; one that is gone already is fine."""

    @abstractmethod
    def keys(self, folder: str) -> list[str]:
        """Return the keys of all files below a folder but the mark, sorted; none where there is no such folder."""

    @abstractmethod
    def walk(self) -> Iterator[Found]:
        """Yield all files, as `Storage.walk` does."""

    @abstractmethod
    def mark(self) -> str | None:
        """Return what the store is marked with (`pipelines.storage.owning`)."""

    @abstractmethod
    def set_mark(self, text: str) -> None:
        """Mark the store."""

    def is_empty(self) -> bool:
        """Return whether nothing stands in it."""
        return next(self.walk(), None) is None

    def fetch(self, key: str, target: Path, sha256: str) -> Path:
        """Do as `get`, and raise ChangedArchiveError where the bytes are not those of the checksum; return `target`."""
        self.get(key, target)
        if hash_of(target)[1].hex() != sha256:
            raise ChangedArchiveError(key, "has other bytes than were written")
        return target

    def read(self, key: str) -> bytes:
        """Return the bytes of a small file."""
        with tempfile.TemporaryDirectory(prefix="greenroom-archive-") as folder:
            self.get(key, Path(folder) / "file")
            return (Path(folder) / "file").read_bytes()

    def write(self, key: str, content: bytes) -> None:
        """Put a small file."""
        with tempfile.TemporaryDirectory(prefix="greenroom-archive-") as folder:
            (Path(folder) / "file").write_bytes(content)
            self.put(key, Path(folder) / "file")

    def clear(self, folder: str) -> None:
        """Remove all files below a folder: of a part that is forgotten. Raises ValueError for the store as a whole."""
        if not folder.strip("/"):
            raise ValueError("a folder of the archives' store is cleared, not all of it")
        for key in self.keys(folder):
            self.delete(key)


class LocalArchives(ArchiveStore):
    """Archives below one root folder."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()

    @property
    def place(self) -> str:
        """The folder."""
        return str(self._root)

    def put(self, key: str, source: Path) -> None:
        """Copy a file and flush it to disk before it has its name."""
        target = self._root / key
        with self._answers(key):
            target.parent.mkdir(parents=True, exist_ok=True)
            coming = target.with_name(f".{target.name}.coming")
            try:
                with source.open("rb") as reading, coming.open("wb") as writing:
                    copy(reading, writing)
                    writing.flush()
                    os.fsync(writing.fileno())
                coming.replace(target)
            finally:
                coming.unlink(missing_ok=True)
            for folder in (target.parent, *target.parent.parents[: len(Path(key).parents)]):
                _flush(folder)  # the names on the way have to outlive a power cut, too

    def get(self, key: str, target: Path) -> None:
        """Copy the file."""
        with self._answers(key), (self._root / key).open("rb") as reading, target.open("wb") as writing:
            copy(reading, writing)

    def delete(self, key: str) -> None:
        """Remove the file, and the folders that have become empty."""
        path = self._root / key
        with self._answers(key):
            path.unlink(missing_ok=True)
        for folder in path.parents[: len(Path(key).parents) - 1]:
            with contextlib.suppress(OSError):  # not empty, or gone
                folder.rmdir()

    def keys(self, folder: str) -> list[str]:
        """Return what stands below the folder."""
        found = (self._root / folder).rglob("*")
        return sorted(
            str(path.relative_to(self._root)) for path in found if path.is_file() and path != self._root / MARK
        )

    def mark(self) -> str | None:
        """Return the mark's text."""
        return LocalStorage(self._root).mark()

    def set_mark(self, text: str) -> None:
        """Write the mark."""
        LocalStorage(self._root).set_mark(text)

    def walk(self) -> Iterator[Found]:
        """Yield what stands below the root; links are left out."""
        return LocalStorage(self._root).walk()

    @contextlib.contextmanager
    def _answers(self, key: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise ChangedArchiveError(key, "is gone") from None
        except OSError as error:
            is_full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            said = "is full: make room" if is_full else f"cannot be used ({error.strerror}): see to it"
            raise UnavailableError(f"the archives' folder {self._root} {said}", retry_after=_AGAIN) from error


class RemoteArchives(ArchiveStore):
    """Archives below a URL such as s3://bucket/folder; `options` go to fsspec as they are."""

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        from pipelines.storage.below import RemoteFiles  # few need it, and it takes a while to import

        self._remote = RemoteFiles(url, options, setting="archive")

    @property
    def place(self) -> str:
        """The URL without what may be secret in it."""
        return self._remote.place

    def put(self, key: str, source: Path) -> None:
        """Send the file, in pieces where it is large."""
        with self._answers(key):
            self._remote.files.put_file(str(source), self._remote.path(key))

    def get(self, key: str, target: Path) -> None:
        """Copy the file to the local disk."""
        with self._answers(key):
            self._remote.files.get_file(self._remote.path(key), str(target))

    def delete(self, key: str) -> None:
        """Remove the file."""
        with contextlib.suppress(ChangedArchiveError), self._answers(key):
            # a bucket removes what it does not have without a word, others complain
            self._remote.files.info(self._remote.path(key))
            self._remote.files.rm_file(self._remote.path(key))

    def keys(self, folder: str) -> list[str]:
        """Return what stands below the folder."""
        found: list[str] = []
        with contextlib.suppress(ChangedArchiveError), self._answers(folder):
            listed = self._remote.files.find(self._remote.path(folder), detail=True)
            found = [path for path, facts in listed.items() if facts["type"] == "file"]
        root, below = self._remote.path(""), self._remote.path(f"{folder}/" if folder else "")
        return sorted({path.removeprefix(root) for path in found if path.startswith(below)} - {MARK})

    def mark(self) -> str | None:
        """Return the mark's text."""
        return self._remote.mark()

    def set_mark(self, text: str) -> None:
        """Write the mark."""
        self._remote.set_mark(text)

    def walk(self) -> Iterator[Found]:
        """Yield what the store lists."""
        return self._remote.walk()

    def _answers(self, key: str) -> AbstractContextManager[None]:
        return self._remote.answers(lambda: ChangedArchiveError(key, "is gone"))


def archive_store(settings: "Settings") -> ArchiveStore:
    """Return where the settings have archives stand; raises SettingsError for a URL that cannot be opened."""
    if settings.archive.url is not None:
        url, options = settings.archive.url.get_secret_value(), settings.archive.parsed_options()
    elif settings.storage.url is not None:
        url = f"{settings.storage.url.get_secret_value().rstrip('/')}/{_FOLDER}"
        options = settings.storage.parsed_options()
    else:
        return LocalArchives(settings.storage_root / _FOLDER)
    parts = urlsplit(url)
    if parts.scheme not in ("", "file", "local"):
        return RemoteArchives(url, options)
    if parts.netloc or not unquote(parts.path).startswith("/"):
        raise SettingsError("archive.url names a folder by its whole path: file:///srv/archives")
    return LocalArchives(Path(unquote(parts.path)))


def _flush(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
