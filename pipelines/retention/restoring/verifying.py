"""Archives as they stand in storage, read back and compared with what the database says of them."""

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from db.restores import Archive, File
from pipelines.retention.archive.errors import ChangedArchiveError
from pipelines.retention.archive.manifest import Manifest
from pipelines.retention.archive.reading import FileReader
from pipelines.retention.archive.store import ArchiveStore


def problems_of(archive: Archive, store: ArchiveStore) -> list[str]:
    """Return what is wrong with a part, a sentence each: a file that is gone, has other bytes, or other rows.

    Raises UnavailableError where the store does not answer.
    """
    found = [_told(partial(_check, file, store)) for file in archive.files]
    if archive.manifest_key is not None:
        found.append(_told(partial(_check_manifest, archive, archive.manifest_key, store)))
    return [problem for problem in found if problem is not None]


def _check(file: File, store: ArchiveStore) -> None:
    with tempfile.TemporaryDirectory(prefix="greenroom-verify-") as folder:
        reader = FileReader(store.fetch(file.key, Path(folder) / "file", file.sha256), file.key)
        count = reader.rows
        reader.close()
    if count != file.rows:
        raise ChangedArchiveError(file.key, f"has {count} rows, not {file.rows}")


def _check_manifest(archive: Archive, key: str, store: ArchiveStore) -> None:
    require_named(store, key, archive.manifest_sha256, archive.files)


def require_named(store: ArchiveStore, key: str, sha256: str | None, files: Sequence[File]) -> None:
    """Raise ChangedArchiveError unless a part's manifest is whole, and speaks of these files as they are given."""
    manifest = Manifest.decode(store.read(key), key, sha256)
    said = [
        File(each.key, each.table, each.kind, each.rows, each.sha256, tuple((of.name, of.type) for of in each.columns))
        for each in manifest.files
    ]
    if said != list(files):
        raise ChangedArchiveError(key, "speaks of other files than the database")


def _told(check: Callable[[], None]) -> str | None:
    try:
        check()
    except ChangedArchiveError as error:
        return f"the archive's file {error.key} {error.why}"
    return None
