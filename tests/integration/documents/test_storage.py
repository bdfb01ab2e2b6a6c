"""The storage keeps content by its hash and lets no key out of its root."""

import os
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
    assert storage.path_of(first.key).read_bytes() == b"hello"
    leftovers = [path for path in (tmp_path / "root").rglob("*") if path.name.startswith(".incoming")]
    assert leftovers == []


def test_deleting_twice_is_fine_and_reading_then_says_so(storage: LocalStorage, tmp_path: Path) -> None:
    key = storage.put(TENANT, _file(tmp_path)).key
    storage.delete(key)
    storage.delete(key)
    with pytest.raises(FileVanishedError):
        storage.path_of(key)


@pytest.mark.parametrize("key", ["", ".", "/etc/passwd", "../outside", "a/../../outside", "a\0b"])
def test_a_key_cannot_leave_the_root(storage: LocalStorage, tmp_path: Path, key: str) -> None:
    (tmp_path / "outside").write_text("secret")
    for operation in (storage.path_of, storage.delete):
        with pytest.raises(StoragePathError):
            operation(key)
    assert (tmp_path / "outside").exists()


def test_a_link_cannot_leave_the_root(storage: LocalStorage, tmp_path: Path) -> None:
    storage.put(TENANT, _file(tmp_path))
    (tmp_path / "outside").write_text("secret")
    (tmp_path / "root" / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "root" / "folder").symlink_to(tmp_path)
    for key in ("link", "folder/outside"):
        with pytest.raises(StoragePathError):
            storage.path_of(key)


def test_only_regular_files_are_stored(storage: LocalStorage, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(WrongTypeError):
            storage.put(TENANT, path)
    with pytest.raises(FileVanishedError):
        storage.put(TENANT, tmp_path / "gone")
