"""One behaviour, two storages: what holds in a local folder holds in a bucket of a real S3 server."""

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from uuid import UUID, uuid4

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


# ------------------------------------------------------------------------------------------------- a bucket alone


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
        for act in (partial(storage.put, TENANT, source), *looks, partial(storage.erase, TENANT, 10)):
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
