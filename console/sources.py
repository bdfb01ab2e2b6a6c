"""What `greenroom ingest` is given: files, folders, patterns, archives and URLs."""

import lzma
import os
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO
from zipfile import BadZipFile, ZipFile

from core.errors import UsageError
from pipelines.documents.parsing import is_read

_WEB = ("http://", "https://")
_ZIP, _TAR = (".zip",), (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
# ValueError: a name that is no text
_DAMAGED = (BadZipFile, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, NotImplementedError, ValueError)
_MOST_MEMBERS, _MOST_BYTES = 100_000, 4_000_000_000
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class File:
    """A file to ingest; `source` is what its document is known by: its path, or its place in an archive."""

    path: Path
    source: str
    name: str


Source = File | str
"""A file, or a URL."""


def find_files(paths: Sequence[str]) -> list[Path | str]:
    """Return the files that paths, folders and patterns name, each once, and URLs as they stand.

    Of a folder, those whose ending is one that is read, hidden ones left out. Raises UsageError for what names nothing.
    """
    found: dict[Path | str, None] = {}
    for given in paths:
        if given.startswith(_WEB):
            found[given] = None
            continue
        members = _named(given)
        if not members:
            raise UsageError(
                f"{given} names no file that can be ingested: give a file, a folder of documents or a pattern"
            )
        found |= dict.fromkeys(member.absolute() for member in members)
    return list(found)


def sources_of(found: Sequence[Path | str], folder: Path) -> tuple[list[Source], dict[Path, str]]:
    """Return what there is to ingest, of archives what is in them, and why an archive cannot be unpacked.

    They are unpacked into a folder, 4 GB and 100,000 members in all.
    """
    sources: list[Source] = []
    refused: dict[Path, str] = {}
    room = _Room(folder, _MOST_BYTES, _MOST_MEMBERS)
    for each in found:
        if isinstance(each, str):
            sources.append(each)
        elif each.name.lower().endswith(_ZIP + _TAR):
            try:
                sources += _unpack(each, room)
            except UsageError as error:
                refused[each] = str(error)
        else:
            sources.append(File(each, text_of(each), text_of(each.name)))
    return sources, refused


class Watch:
    """Tells which files of paths are new or changed, each once it stands still for two looks, until it is `done`."""

    def __init__(self, paths: Sequence[str]) -> None:
        if any(path.startswith(_WEB) for path in paths):
            raise UsageError("--follow looks at files and folders: a URL is ingested without it")
        if missing := [
            path for path in paths if not path or (not os.path.lexists(path) and not set(path) & set("*?["))
        ]:
            raise UsageError(f"there is nothing to follow at {missing[0]}")
        self._paths = paths
        self._seen: dict[Path, tuple[int, int]] = {}
        self._done: dict[Path, tuple[int, int]] = {}

    def look(self) -> list[Path | str]:
        """Return what has changed and is not done; what is gone is not told, and forgotten."""
        try:
            members = dict.fromkeys(member.absolute() for path in self._paths for member in _named(path))
        except OSError:  # a folder that goes, or closes, while it is walked through: the next look sees what is left
            return []
        now = {path: stamp for path in members if (stamp := _stamp(path)) is not None}
        before, self._seen = self._seen, now
        self._done = {path: stamp for path, stamp in self._done.items() if path in now}
        return [path for path, stamp in now.items() if before.get(path) == stamp != self._done.get(path)]

    def done(self, files: Sequence[Path | str]) -> None:
        """Learn that files were ingested, or refused, as they were seen: they are told again when they change."""
        self._done |= {file: self._seen[file] for file in files if isinstance(file, Path)}


def text_of(name: Path | str) -> str:
    """Return a name as text that Postgres holds: bytes of it that are no UTF-8 become visible escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace").replace("\0", "")


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:  # gone since it was listed
        return None
    return found.st_mtime_ns, found.st_size


def _named(given: str) -> list[Path]:
    path = Path(given)
    if given and path.is_dir():
        return list(_files_below(path))
    return [path] if given and os.path.lexists(path) else _matching(given)


def _files_below(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if _is_wanted(path.relative_to(folder)) and path.is_file():
            yield path


def _is_wanted(path: Path | PurePosixPath) -> bool:
    return is_read(path.name) and not any(part.startswith(".") for part in path.parts)


def _matching(pattern: str) -> list[Path]:
    """Return the files that a shell's pattern names; `**` is any folder below."""
    path = Path(pattern)
    if not pattern:
        return []
    try:
        found = Path(path.anchor or ".").glob(str(path.relative_to(path.anchor)))
        hidden_too = path.name.startswith(".")
        return sorted(match for match in found if match.is_file() and (hidden_too or not match.name.startswith(".")))
    except ValueError:  # not a pattern that can be
        return []


# ---------------------------------------------------------------------------------------------------- archives


@dataclass
class _Room:
    """Where archives are unpacked to, and what may still come."""

    folder: Path
    bytes: int
    members: int


def _unpack(archive: Path, room: _Room) -> list[File]:
    """Write what can be ingested of an archive, under numbers: what members are called leads nowhere."""
    found: dict[str, File] = {}
    try:
        for name, content in _members(archive, room):
            place = PurePosixPath(name.replace("\\", "/"))
            if content is None or not _is_wanted(place):
                continue
            path = room.folder / str(room.members)
            with content:
                room.bytes = _copy(content, path, room.bytes)
            if room.bytes < 0:
                raise UsageError(
                    f"{archive} unpacks to more than {_MOST_BYTES:,} bytes: unpack it and ingest the folder"
                )
            source = text_of(f"{archive}!/{name}")
            found[source] = File(path, source, text_of(place.name))
    except _DAMAGED as error:
        raise UsageError(f"{archive} cannot be unpacked, it is damaged or no archive: {error}") from error
    except OSError as error:
        raise UsageError(f"{archive} cannot be unpacked: {error.strerror or error}") from error
    if not found:
        raise UsageError(f"{archive} holds no file that can be ingested")
    return list(found.values())


def _members(archive: Path, room: _Room) -> Iterator[tuple[str, IO[bytes] | None]]:
    """Yield names and contents, None for what is no file; each counts, whatever it is."""
    if archive.name.lower().endswith(_ZIP):
        with ZipFile(archive) as opened:
            for info in opened.infolist():
                _count(archive, room)
                if info.flag_bits & 0x1:
                    raise UsageError(f"{archive} needs a password: unpack it and ingest the folder")
                yield info.filename, None if info.is_dir() else opened.open(info)
        return
    with tarfile.open(archive) as packed:
        for member in packed:
            _count(archive, room)
            packed.members = []  # type: ignore[attr-defined]  # it would keep them all
            # To come to the next one, this one is unpacked, whether it is wanted or not.
            room.bytes -= 0 if member.isreg() and _is_wanted(PurePosixPath(member.name)) else max(member.size, 0)
            if room.bytes < 0:
                raise UsageError(
                    f"{archive} unpacks to more than {_MOST_BYTES:,} bytes: unpack it and ingest the folder"
                )
            yield member.name, packed.extractfile(member) if member.isreg() else None  # links lead elsewhere


def _count(archive: Path, room: _Room) -> None:
    room.members -= 1
    if room.members < 0:
        raise UsageError(f"{archive} has more than {_MOST_MEMBERS:,} members: unpack it and ingest the folder")


def _copy(content: IO[bytes], path: Path, left: int) -> int:
    """Write a member; return how many bytes may still come, below zero where it was too many."""
    with path.open("wb") as file:
        while left >= 0 and (piece := content.read(_PIECE)):
            left -= len(piece)
            file.write(piece)
    return left
