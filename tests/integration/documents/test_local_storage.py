"""What the storage in a local folder does beside what every storage does."""

import os
import time
from pathlib import Path
from uuid import UUID

import pytest

from core.errors import UnavailableError
from pipelines.storage import LocalStorage
from pipelines.storage.errors import StoragePathError

TENANT = UUID("00000000-0000-7000-8000-000000000001")


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "root")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.txt"
    path.write_bytes(b"hello")
    return path


def test_what_a_killed_put_left_behind_is_removed_by_a_later_one(
    storage: LocalStorage, tmp_path: Path, source: Path
) -> None:
    storage.put(TENANT, source)
    folder = tmp_path / "root" / str(TENANT)
    old, young, named = (folder / name for name in (".incoming-old", ".incoming-young", "incoming-named-by-a-producer"))
    for path in (old, young, named):
        path.write_text("half a copy")
    two_hours_ago = time.time() - 7200
    for path in (old, named):
        os.utime(path, (two_hours_ago, two_hours_ago))

    storage.put(TENANT, source)

    assert [path.exists() for path in (old, young, named)] == [False, True, True]


def test_a_link_cannot_leave_the_folder(storage: LocalStorage, tmp_path: Path, source: Path) -> None:
    storage.put(TENANT, source)
    (tmp_path / "outside").write_text("secret")
    folder = tmp_path / "root" / str(TENANT)
    (folder / "link").symlink_to(tmp_path / "outside")
    (folder / "folder").symlink_to(tmp_path)
    for path in ("link", "folder/outside"):
        with pytest.raises(StoragePathError):
            storage.size(TENANT, storage.key_of(TENANT, path))


def test_an_erasure_removes_links_and_nothing_behind_them(storage: LocalStorage, tmp_path: Path, source: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "kept").write_text("kept")
    storage.put(TENANT, source)
    folder = tmp_path / "root" / str(TENANT)
    (folder / "link").symlink_to(tmp_path / "elsewhere" / "kept")
    (folder / "folder").symlink_to(tmp_path / "elsewhere")
    assert [storage.erase(TENANT, 10), storage.erase(TENANT, 10)] == [3, 0]
    assert not folder.exists()
    assert (tmp_path / "elsewhere" / "kept").exists()


def test_a_folder_that_cannot_be_read_is_no_empty_one(
    storage: LocalStorage, tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.put(TENANT, source)

    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UnavailableError, match="cannot be removed"):
        storage.erase(TENANT, 10)
