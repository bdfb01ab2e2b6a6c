"""The archives' store and their rows compared, both ways: files of no part, and parts whose files are missing."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from db import files
from db.connection import Connection
from db.files import ArchivePart
from pipelines.retention.archive.store import ArchiveStore
from pipelines.retention.files import is_older
from pipelines.storage import Found
from pipelines.storage.base import MARK
from pipelines.storage.owning import claim

# As `manifest.folder_of` makes them; what else is in the store is not the archives'.
_OURS: Final = re.compile(r"[a-z_][a-z0-9_]*\.[a-z_][a-z0-9_]*/\d{4,}-\d\d/\d{4,}-(?P<id>[0-9a-f-]{36})/[^/]+")


@dataclass(frozen=True, slots=True)
class Compared:
    """What a look at the archives found; `elsewhere` counts files that are no archive's."""

    objects: int
    bytes: int
    elsewhere: int
    orphans: list[Found]
    missing: list[str]


def compare(connection: Connection, store: ArchiveStore, young: datetime) -> Compared:
    """Compare all files with all parts; files written since `young` may be of a part that is about to name them."""
    stored, owners = dict[str, Found](), dict[str, str]()
    elsewhere = 0
    for found in store.walk():
        if shape := _OURS.fullmatch(found.key):
            stored[found.key], owners[found.key] = found, shape["id"]
        elif found.key != MARK:
            elsewhere += 1
    parts = list(files.archives(connection))  # after the files: each of these had its row before
    named = {key for part in parts for key in part.keys}
    writing = {str(part.id) for part in parts if part.is_writing}
    return Compared(
        objects=len(stored),
        bytes=sum(found.size for found in stored.values()),
        elsewhere=elsewhere,
        orphans=[
            found
            for key, found in stored.items()
            if key not in named and owners[key] not in writing and is_older(found, young)
        ],
        missing=[key for part in parts if not part.keys <= stored.keys() for key in _missing(connection, store, part)],
    )


def require_own(connection: Connection, store: ArchiveStore) -> None:
    """Raise ForeignStoreError for a store of another installation; mark it where parts in it are this one's."""
    claim(connection, store, lambda: _has_own(connection, store))


def _has_own(connection: Connection, store: ArchiveStore) -> bool:
    owners = {UUID(shape["id"]) for found in store.walk() if (shape := _OURS.fullmatch(found.key))}
    return not owners or bool(files.known_archives(connection, sorted(owners)))


def _missing(connection: Connection, store: ArchiveStore, part: ArchivePart) -> list[str]:
    """Return the keys that the part still names and the store does not have, at a second look."""
    if part.is_writing:
        return []
    there = {key for folder in {key.rpartition("/")[0] for key in part.keys} for key in store.keys(folder)}
    return sorted((part.keys - there) & files.archive_keys(connection, part.id))
