"""Files on a local disk, below one root folder."""

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from core.errors import UnavailableError
from pipelines.storage.base import MARK, Content, Found, Storage, StoredObject, copy, hash_of, in_bytes, open_regular
from pipelines.storage.errors import FileVanishedError, StoragePathError

_INCOMING = ".incoming-"
# A copy that goes on has been written to more recently.
_LEFTOVER_SECONDS = 3600.0


class LocalStorage(Storage):
    """Files below one root folder; the stamp of a file is its checksum."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()

    @property
    def place(self) -> str:
        """The folder."""
        return str(self._root)

    def check(self) -> None:
        """Make a file in the folder, or in that which it would be made in."""
        folder = next(path for path in (self._root, *self._root.parents) if path.is_dir())
        try:
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise UnavailableError(
                f"{folder} cannot be written to ({error.strerror}): set GREENROOM_STORAGE_ROOT"
            ) from error

    def _keep(self, tenant_id: UUID, source: Path, key_of: Callable[[str], str]) -> StoredObject:
        """Copy a file to where it belongs, and flush it to disk before it has its name."""
        folder = self._root / str(tenant_id)
        folder.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(folder)
        with open_regular(source) as reading:
            handle, name = tempfile.mkstemp(dir=folder, prefix=_INCOMING)
            try:
                with os.fdopen(handle, "wb") as writing:
                    size, digest = copy(reading, writing)
                    writing.flush()
                    os.fsync(writing.fileno())
                key = key_of(digest.hex())
                self._place(Path(name), key)
            finally:
                Path(name).unlink(missing_ok=True)
        return StoredObject(key=key, size=size, sha256=digest.hex())

    @contextlib.contextmanager
    def open(self, tenant_id: UUID, key: str) -> Iterator[Content]:
        """Yield the file itself: whoever writes to it while it is read makes its stamp another."""
        path = self._path_of(tenant_id, key)
        size, digest = hash_of(path)
        yield Content(path, size, digest, digest.hex())

    def stamp(self, tenant_id: UUID, key: str) -> str:
        """Return the checksum of what stands behind a key now."""
        return hash_of(self._path_of(tenant_id, key))[1].hex()

    def size(self, tenant_id: UUID, key: str) -> int:
        """Return the size of the file behind a key."""
        return self._path_of(tenant_id, key).stat().st_size

    def delete(self, tenant_id: UUID, key: str) -> None:
        """Remove the file behind a key."""
        with contextlib.suppress(FileVanishedError):
            self._path_of(tenant_id, key).unlink(missing_ok=True)

    def erase(self, tenant_id: UUID, most: int) -> int:
        """Remove files, and folders that have become empty; links go, and nothing behind them."""
        folder, count = self._root / str(tenant_id), 0
        try:
            for place, folders, names in os.walk(folder, topdown=False, onerror=_raise):
                links = [name for name in folders if Path(place, name).is_symlink()]
                for name in (names + links)[: most - count]:
                    Path(place, name).unlink(missing_ok=True)
                    count += 1
                with contextlib.suppress(OSError):  # not empty yet, or a link
                    Path(place).rmdir()
                if count >= most:
                    break
        except OSError as error:
            raise UnavailableError(f"{folder} cannot be removed ({error.strerror}): mend its permissions") from error
        return count

    def mark(self) -> str | None:
        """Return the mark's text."""
        try:
            return (self._root / MARK).read_text().strip()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UnavailableError(f"{self._root} cannot be read ({error.strerror}): mend its permissions") from error

    def set_mark(self, text: str) -> None:
        """Write the mark, and flush it to disk."""
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=self._root, prefix=_INCOMING, delete=False) as writing:
                writing.write(f"{text}\n")
                writing.flush()
                os.fsync(writing.fileno())
            Path(writing.name).replace(self._root / MARK)
        except OSError as error:
            raise UnavailableError(
                f"{self._root} cannot be written to ({error.strerror}): set GREENROOM_STORAGE_ROOT"
            ) from error

    def folders(self) -> list[str]:
        """Return the folders below the root; a link is none."""
        return [name for name, is_folder, _ in _listed(self._root) if is_folder]

    def walk(self, folder: str = "", after: str = "") -> Iterator[Found]:
        """Yield what stands below a folder, unless a link leads to it."""
        place = self._root
        for part in Path(folder).parts:
            place /= part
            if place.is_symlink():
                return
        yield from _below(place, f"{folder}/" if folder else "", in_bytes(after))

    def _path_of(self, tenant_id: UUID, key: str) -> Path:
        path = self._root / self.checked(tenant_id, key)
        # Resolved on both sides: the folder itself may be reached through a link, a link inside may leave it.
        if not path.resolve().is_relative_to((self._root / str(tenant_id)).resolve()):
            raise StoragePathError("The storage key leads through a link outside the storage; ingest the file again.")
        if not path.is_file():
            raise FileVanishedError("The stored file is gone; ingest the document again.")
        return path

    def _place(self, complete: Path, key: str) -> None:
        target = self._root / key
        target.parent.mkdir(exist_ok=True)
        complete.replace(target)  # atomic, and over the same content it changes nothing that a reader could see
        folder = os.open(target.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(folder)  # the name has to outlive a power cut as the row that refers to it does
        finally:
            os.close(folder)


def _listed(folder: Path) -> list[tuple[str, bool, os.DirEntry[str]]]:
    """Return what a folder has in the order of keys, in which a folder's name ends with a slash; links are left out."""
    try:
        with os.scandir(folder) as entries:
            there = [(entry.name, entry.is_dir(follow_symlinks=False), entry) for entry in entries]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UnavailableError(f"{folder} cannot be read ({error.strerror}): mend its permissions") from error
    kept = [each for each in there if each[1] or each[2].is_file(follow_symlinks=False)]
    return sorted(kept, key=lambda each: in_bytes(f"{each[0]}/" if each[1] else each[0]))


def _below(place: Path, prefix: str, after: bytes) -> Iterator[Found]:
    for name, is_folder, entry in _listed(place):
        key = f"{prefix}{name}"
        if is_folder:
            inside = in_bytes(f"{key}/")
            if inside > after or after.startswith(inside):
                yield from _below(place / name, f"{key}/", after)
        elif in_bytes(key) > after:
            with contextlib.suppress(FileNotFoundError):  # it went meanwhile
                facts = entry.stat(follow_symlinks=False)
                yield Found(key, facts.st_size, datetime.fromtimestamp(facts.st_mtime, UTC))


def _raise(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _remove_leftovers(folder: Path) -> None:
    """Remove the copies that a `put` began and was killed before it could name."""
    for path in folder.glob(f"{_INCOMING}*"):
        with contextlib.suppress(OSError):  # somebody else removed it, or has to
            if path.stat().st_mtime < time.time() - _LEFTOVER_SECONDS:
                path.unlink()
