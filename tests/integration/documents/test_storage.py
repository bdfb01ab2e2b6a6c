"""The storage keeps content by its hash and lets no key out of its root."""

import os
import time
from pathlib import Path
from uuid import UUID

import pytest

from pipelines.documents.errors import FileVanishedError, StoragePathError, WrongTypeError
from pipelines.documents.storage import LocalStorage

TENANT = UUID("00000000-0000-7000-8000-000000000001")
OTHER = UUID("00000000-0000-7000-8000-000000000002")


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "root")


def _file(tmp_path: Path, content: bytes = b"hello") -> Path:
    path = tmp_path / "source.txt"
    path.write_bytes(content)
    return path


def test_the_same_bytes_are_one_object_for_each_tenant(storage: LocalStorage, tmp_path: Path) -> None:
    first = storage.put(TENANT, _file(tmp_path))
    again = storage.put(TENANT, _file(tmp_path))
    other = storage.put(OTHER, _file(tmp_path))
    assert first == again
    assert first.size == 5
    assert first.key.startswith(f"{TENANT}/")
    assert other.key != first.key
    assert other.sha256 == first.sha256
    assert storage.path_of(TENANT, first.key).read_bytes() == b"hello"
    leftovers = [path for path in (tmp_path / "root").rglob("*") if path.name.startswith(".incoming")]
    assert leftovers == []


def test_what_a_killed_put_left_behind_is_removed_by_a_later_one(storage: LocalStorage, tmp_path: Path) -> None:
    storage.put(TENANT, _file(tmp_path))
    folder = tmp_path / "root" / str(TENANT)
    old, young, named = (folder / name for name in (".incoming-old", ".incoming-young", "incoming-named-by-a-producer"))
    for path in (old, young, named):
        path.write_text("half a copy")
    two_hours_ago = time.time() - 7200
    for path in (old, named):
        os.utime(path, (two_hours_ago, two_hours_ago))

    storage.put(TENANT, _file(tmp_path))

    assert [path.exists() for path in (old, young, named)] == [False, True, True]


def test_deleting_twice_is_fine_and_reading_then_says_so(storage: LocalStorage, tmp_path: Path) -> None:
    key = storage.put(TENANT, _file(tmp_path)).key
    storage.delete(TENANT, key)
    storage.delete(TENANT, key)
    with pytest.raises(FileVanishedError):
        storage.path_of(TENANT, key)


_ESCAPES = ["", ".", "/etc/passwd", "../outside", "a/../../outside", "a\0b"]


@pytest.mark.parametrize("key", [*_ESCAPES, *(f"{TENANT}/{path}" for path in _ESCAPES), f"{OTHER}/theirs", str(TENANT)])
def test_a_key_cannot_leave_its_tenants_folder(storage: LocalStorage, tmp_path: Path, key: str) -> None:
    (tmp_path / "outside").write_text("secret")
    theirs = tmp_path / "root" / str(OTHER) / "theirs"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("secret")
    for operation in (storage.path_of, storage.delete):
        with pytest.raises(StoragePathError):
            operation(TENANT, key)
    assert (tmp_path / "outside").exists()
    assert theirs.exists()


@pytest.mark.parametrize("path", _ESCAPES)
def test_no_key_is_made_of_a_path_that_leaves_the_folder(storage: LocalStorage, path: str) -> None:
    with pytest.raises(StoragePathError):
        storage.key_of(TENANT, path)


def test_a_link_cannot_leave_the_folder(storage: LocalStorage, tmp_path: Path) -> None:
    storage.put(TENANT, _file(tmp_path))
    (tmp_path / "outside").write_text("secret")
    folder = tmp_path / "root" / str(TENANT)
    (folder / "link").symlink_to(tmp_path / "outside")
    (folder / "folder").symlink_to(tmp_path)
    for path in ("link", "folder/outside"):
        with pytest.raises(StoragePathError):
            storage.path_of(TENANT, storage.key_of(TENANT, path))


def test_only_regular_files_are_stored(storage: LocalStorage, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(WrongTypeError):
            storage.put(TENANT, path)
    with pytest.raises(FileVanishedError):
        storage.put(TENANT, tmp_path / "gone")
