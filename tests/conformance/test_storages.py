"""One behaviour, two storages: what holds in a local folder holds in a bucket of a real S3 server."""

import errno
import os
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial, partialmethod
from pathlib import Path
from uuid import UUID, uuid4

import fsspec
import pytest
import s3fs

from core.errors import SettingsError, UnavailableError
from core.settings import load_settings
from pipelines.documents.errors import (
    BrokenFileError,
    FileVanishedError,
    StoragePathError,
    TooLargeError,
    WrongTypeError,
)
from pipelines.storage import LocalStorage, Storage, storage_of
from pipelines.storage.remote import RemoteStorage
from tests.support.s3_server import BUCKET, S3Server, s3_server

TENANT = UUID("00000000-0000-7000-8000-000000000001")
OTHER = UUID("00000000-0000-7000-8000-000000000002")
MOST_BYTES = 3_000_000
_ESCAPES = ["", ".", "/etc/passwd", "../outside", "a/../../outside", "a\0b"]


class Place(ABC):
    """A storage, and a way past it to what it keeps."""

    storage: Storage

    @abstractmethod
    def write(self, path: str, content: bytes) -> None:
        """Put a file where a producer would, below the storage's root."""

    @abstractmethod
    def names(self) -> list[str]:
        """Return the paths of all files below the root."""


class Folder(Place):
    def __init__(self, root: Path) -> None:
        self.storage = LocalStorage(root)
        self._root = root

    def write(self, path: str, content: bytes) -> None:
        (self._root / path).parent.mkdir(parents=True, exist_ok=True)
        (self._root / path).write_bytes(content)

    def names(self) -> list[str]:
        return sorted(str(path.relative_to(self._root)) for path in self._root.rglob("*") if path.is_file())


class Bucket(Place):
    def __init__(self, server: S3Server) -> None:
        self._root = f"{BUCKET}/{uuid4()}"
        self._files = server.files()
        self.storage = RemoteStorage(f"s3://{self._root}", server.options, most_bytes=MOST_BYTES)

    def write(self, path: str, content: bytes) -> None:
        self._files.pipe_file(f"{self._root}/{path}", content)

    def names(self) -> list[str]:
        below = f"{self._root}/"
        # the server keeps a folder that has become empty, and finds it
        return sorted(path.removeprefix(below) for path in self._files.find(self._root) if path.startswith(below))


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return Folder(tmp_path / "root") if request.param == "folder" else Bucket(request.getfixturevalue("server"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.txt"
    path.write_bytes(b"hello")
    return path


def refuse(_path: Path) -> None:
    raise PermissionError(errno.EACCES, "Permission denied")


def content_of(storage: Storage, key: str) -> bytes:
    with storage.open(TENANT, key) as content:
        return content.path.read_bytes()


def test_the_same_bytes_are_one_object_for_each_tenant(place: Place, source: Path) -> None:
    first = place.storage.put(TENANT, source)
    again = place.storage.put(TENANT, source)
    other = place.storage.put(OTHER, source)
    assert first == again
    assert first.size == place.storage.size(TENANT, first.key) == 5
    assert other.sha256 == first.sha256
    assert place.names() == [first.key, other.key]
    with place.storage.open(TENANT, first.key) as content:
        assert content.path.read_bytes() == b"hello"
        assert (content.size, content.sha256.hex()) == (5, first.sha256)


def test_threads_that_store_the_same_bytes_leave_one_whole_object(place: Place, tmp_path: Path) -> None:
    source = tmp_path / "large"
    source.write_bytes(os.urandom(2_500_000))
    keys: list[str] = []
    threads = [threading.Thread(target=lambda: keys.append(place.storage.put(TENANT, source).key)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert place.names() == [keys[0]]
    assert keys == keys[:1] * 6
    assert content_of(place.storage, keys[0]) == source.read_bytes()


def test_a_producers_file_has_another_stamp_when_it_has_other_bytes(place: Place) -> None:
    place.write(f"{TENANT}/reports/one.txt", b"before")
    key = place.storage.key_of(TENANT, "reports/one.txt")
    before = place.storage.stamp(TENANT, key)
    with place.storage.open(TENANT, key) as content:
        assert content.stamp == before
    place.write(f"{TENANT}/reports/one.txt", b"before")
    assert place.storage.stamp(TENANT, key) == before, "the same bytes again are no change"
    place.write(f"{TENANT}/reports/one.txt", b"after.")
    assert place.storage.stamp(TENANT, key) != before
    assert content_of(place.storage, key) == b"after."


def test_names_of_any_letters_are_found(place: Place) -> None:
    name = "odd * name [1] ü 日本 ?&#%20+.txt"
    place.write(f"{TENANT}/{name}", b"odd")
    key = place.storage.key_of(TENANT, name)
    assert content_of(place.storage, key) == b"odd"
    place.storage.delete(TENANT, key)
    assert place.names() == []


def test_deleting_twice_is_fine_and_reading_then_says_so(place: Place, source: Path) -> None:
    key = place.storage.put(TENANT, source).key
    place.storage.delete(TENANT, key)
    place.storage.delete(TENANT, key)
    for operation in (place.storage.stamp, place.storage.size):
        with pytest.raises(FileVanishedError):
            operation(TENANT, key)
    with pytest.raises(FileVanishedError):
        content_of(place.storage, key)


def test_a_tenants_files_are_erased_a_page_at_a_time_and_no_others(place: Place, source: Path) -> None:
    assert place.storage.erase(TENANT, 2) == 0
    place.storage.put(TENANT, source)
    kept = [f"{OTHER}/theirs", f"{TENANT}-2/theirs", "outside"]
    for path in (*kept, f"{TENANT}/reports/2026/one.txt", f"{TENANT}/two.txt", f"{TENANT}/odd * [1] ?.txt"):
        place.write(path, b"x")
    assert [place.storage.erase(TENANT, 3) for _ in range(3)] == [3, 1, 0]
    assert place.names() == sorted(kept)
    assert place.storage.put(TENANT, source).size == 5, "a folder that went is made again"


def test_a_walk_meets_every_file_once_in_the_order_of_its_bytes(place: Place) -> None:
    began = datetime.now(UTC) - timedelta(minutes=2)
    paths = ["a/b", "a/ü", "b/c/d", "b/日本", f"{TENANT}/aa/1", f"{TENANT}/bb", f"{OTHER}/x"]
    for path in paths:
        place.write(f"{path}.txt", path.encode())
    found = list(place.storage.walk())
    assert [each.key for each in found] == sorted((f"{path}.txt" for path in paths), key=str.encode)
    assert [each.size for each in found] == [len(each.key.encode()) - 4 for each in found]
    assert all(each.modified is not None and began < each.modified < began + timedelta(hours=1) for each in found)
    for number, each in enumerate(found):
        assert list(place.storage.walk("", each.key)) == found[number + 1 :], "it goes on behind any key"
    assert place.storage.folders() == [str(TENANT), str(OTHER), "a", "b"]
    assert [each.key for each in place.storage.walk(str(TENANT))] == [f"{TENANT}/aa/1.txt", f"{TENANT}/bb.txt"]
    assert [each.key for each in place.storage.walk("b", "b/c/d.txt")] == ["b/日本.txt"]
    assert list(place.storage.walk("no-such")) == []


def test_a_walk_goes_on_over_many_pages(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    call_s3 = s3fs.S3FileSystem.call_s3
    monkeypatch.setattr(s3fs.S3FileSystem, "call_s3", partialmethod(call_s3, MaxKeys=2))
    paths = [f"{TENANT}/{number}" for number in range(7)]
    for path in paths:
        place.write(path, b"x")
    assert [each.key for each in place.storage.walk()] == paths


def test_nothing_is_walked_where_nothing_is(place: Place) -> None:
    assert (place.storage.folders(), list(place.storage.walk())) == ([], [])


def test_temporary_files_have_keys_of_their_own(place: Place, source: Path) -> None:
    first, second = (place.storage.put_temporary(TENANT, source, ".mp3") for _ in range(2))
    assert first.key != second.key
    assert first.sha256 == second.sha256
    assert re.fullmatch(rf"{TENANT}/temporary/[0-9a-f-]{{36}}\.mp3", first.key)
    assert content_of(place.storage, second.key) == b"hello"
    assert place.names() == sorted([first.key, second.key])
    for suffix in ("mp3", "/x", ".a/b", "...", "." + "x" * 17):
        with pytest.raises(StoragePathError, match="suffix"):
            place.storage.put_temporary(TENANT, source, suffix)


def test_a_folder_is_no_file(place: Place) -> None:
    place.write(f"{TENANT}/folder/file", b"x")
    key = place.storage.key_of(TENANT, "folder")
    with pytest.raises(FileVanishedError):
        place.storage.size(TENANT, key)
    place.storage.delete(TENANT, key)
    assert place.names() == [f"{TENANT}/folder/file"]


@pytest.mark.parametrize("key", [*_ESCAPES, *(f"{TENANT}/{path}" for path in _ESCAPES), f"{OTHER}/theirs", str(TENANT)])
def test_a_key_cannot_leave_its_tenants_folder(place: Place, key: str) -> None:
    place.write("outside", b"secret")
    place.write(f"{OTHER}/theirs", b"secret")
    for operation in (place.storage.stamp, place.storage.size, place.storage.delete):
        with pytest.raises(StoragePathError):
            operation(TENANT, key)
    with pytest.raises(StoragePathError):
        content_of(place.storage, key)
    assert place.names() == [f"{OTHER}/theirs", "outside"]


@pytest.mark.parametrize("path", _ESCAPES)
def test_no_key_is_made_of_a_path_that_leaves_the_folder(path: str) -> None:
    with pytest.raises(StoragePathError):
        Storage.key_of(TENANT, path)


def test_only_regular_files_are_stored(place: Place, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(WrongTypeError):
            place.storage.put(TENANT, path)
    with pytest.raises(FileVanishedError):
        place.storage.put(TENANT, tmp_path / "gone")


# ------------------------------------------------------------------------------------------------- one of them alone


def test_a_store_that_is_no_bucket_is_walked_too() -> None:
    storage = RemoteStorage(f"memory://{uuid4()}", {}, most_bytes=MOST_BYTES)
    files = fsspec.filesystem("memory")
    for path in ("b/2", "a-b", "a/1"):
        files.pipe_file(f"{storage.place.removeprefix('memory://')}/{path}", b"abc")
    assert [(each.key, each.size) for each in storage.walk()] == [("a-b", 3), ("a/1", 3), ("b/2", 3)]
    assert [each.key for each in storage.walk("", "a-b")] == ["a/1", "b/2"]
    assert [each.key for each in storage.walk("b")] == ["b/2"]
    assert storage.folders() == ["a", "b"]


def test_a_walk_follows_no_link(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "root")
    folder.write("a/file", b"x")
    folder.write("a-file", b"x")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "theirs").write_bytes(b"x")
    (tmp_path / "root" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root" / "a" / "link").symlink_to(tmp_path / "elsewhere" / "theirs")
    assert [each.key for each in folder.storage.walk()] == ["a-file", "a/file"]
    assert [each.key for each in folder.storage.walk("", "a-file")] == ["a/file"]
    assert list(folder.storage.walk("linked")) == []
    assert folder.storage.folders() == ["a"]


def test_a_folder_that_cannot_be_read_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Folder(tmp_path)
    folder.write("a/file", b"x")
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UnavailableError, match="cannot be read"):
        list(folder.storage.walk())


def test_an_object_that_is_too_large_is_refused_unread(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = Bucket(server)
    bucket.write(f"{TENANT}/large", os.urandom(MOST_BYTES + 1))
    monkeypatch.delattr(s3fs.S3FileSystem, "_get_file")
    with pytest.raises(TooLargeError, match="more than 3,000,000 bytes"):
        content_of(bucket.storage, f"{TENANT}/large")


def test_an_object_that_is_not_what_was_stored_is_refused(server: S3Server, source: Path) -> None:
    bucket = Bucket(server)
    key = bucket.storage.put(TENANT, source).key
    bucket.write(key, b"other")
    with pytest.raises(BrokenFileError, match="not what was stored"):
        content_of(bucket.storage, key)


def test_a_storage_that_is_away_or_refuses_is_asked_again(server: S3Server, source: Path) -> None:
    nobody = server.options | {"endpoint_url": "http://127.0.0.1:1"}
    stranger = server.options | {"secret": "wrong"}
    for options, says in ((nobody, "does not answer"), (stranger, "refuses")):
        storage = RemoteStorage(f"s3://{BUCKET}/x", options, most_bytes=MOST_BYTES)
        looks = (partial(storage.size, TENANT, f"{TENANT}/a"), storage.check)
        for act in (
            partial(storage.put, TENANT, source),
            *looks,
            partial(next, storage.walk()),
            partial(storage.erase, TENANT, 10),
        ):
            with pytest.raises(UnavailableError, match=says) as raised:
                act()
            assert "127.0.0.1" not in str(raised.value)
            assert raised.value.__cause__ is None, "what a library says may hold addresses and keys"


def test_a_bucket_that_is_missing_is_no_file_that_is_missing(server: S3Server, source: Path) -> None:
    storage = RemoteStorage("s3://no-such-bucket/x", server.options, most_bytes=MOST_BYTES)
    key = f"{TENANT}/aa/bb"
    for act in (
        partial(storage.put, TENANT, source),
        partial(storage.size, TENANT, key),
        partial(storage.delete, TENANT, key),
        partial(storage.erase, TENANT, 10),
        storage.folders,
        lambda: list(storage.walk()),
    ):
        with pytest.raises(UnavailableError, match="bucket does not exist"):
            act()


def test_a_check_writes_and_leaves_nothing(place: Place) -> None:
    place.storage.check()
    assert place.names() == []
    assert "secret" not in place.storage.place


def test_settings_choose_the_storage(server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(storage_of(load_settings(_env_file=None, home=tmp_path)), LocalStorage)
    monkeypatch.setenv("GREENROOM_STORAGE_URL", f"s3://{BUCKET}/a/folder/")
    monkeypatch.setenv("GREENROOM_STORAGE_OPTIONS", server.options_json)
    settings = load_settings(_env_file=None)
    assert "a secret" not in repr(settings)
    source = tmp_path / "file"
    source.write_bytes(b"x")
    stored = storage_of(settings).put(TENANT, source)
    assert server.files().cat_file(f"{BUCKET}/a/folder/{stored.key}") == b"x"


@pytest.mark.parametrize(
    ("url", "says"),
    [("nothing://bucket", "storage.url"), ("gs://bucket", "install|Install"), ("hdfs://x/y", "storage")],
)
def test_a_url_that_cannot_be_opened_says_what_to_do(url: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        storage_of(load_settings(_env_file=None, storage={"url": url}))


@pytest.mark.parametrize("options", ["{", "[]", "secret words"])
def test_options_that_are_no_object_are_refused_without_being_shown(options: str) -> None:
    with pytest.raises(SettingsError, match="no JSON object") as raised:
        load_settings(_env_file=None, storage={"options": options})
    assert "secret words" not in str(raised.value)
