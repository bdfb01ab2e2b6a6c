"""Where archives stand: what holds in a folder holds in a bucket of a real S3 server, a run's archive as well."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from core.errors import SettingsError, UnavailableError
from core.settings import load_settings
from pipelines.retention.archive.errors import ChangedArchiveError
from pipelines.retention.archive.store import ArchiveStore, LocalArchives, RemoteArchives, archive_store
from pipelines.storage.base import hash_of
from tests.support.archives import HISTORY, archiving, printed
from tests.support.database import Database
from tests.support.months import old_tasks
from tests.support.s3_server import BUCKET, S3Server, s3_server

KEY = "queue.tasks_history/2020-02/0001-x/00-queue.tasks_history-rows.parquet"


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> ArchiveStore:
    if request.param == "folder":
        return LocalArchives(tmp_path / "archives")
    server: S3Server = request.getfixturevalue("server")
    return RemoteArchives(f"s3://{BUCKET}/{uuid4()}", server.options)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"PAR1" + bytes(range(256)) * 100)
    return path


def test_what_was_put_comes_back(place: ArchiveStore, file: Path, tmp_path: Path) -> None:
    place.put(KEY, file)
    back = place.fetch(KEY, tmp_path / "back", hash_of(file)[1].hex())
    assert back.read_bytes() == file.read_bytes()
    place.write("a/b/manifest.json", b"{}")
    assert place.read("a/b/manifest.json") == b"{}"
    assert place.keys("queue.tasks_history") == [KEY]
    assert place.keys("a") == ["a/b/manifest.json"]
    assert place.keys("") == ["a/b/manifest.json", KEY]


def test_other_bytes_are_refused(place: ArchiveStore, file: Path, tmp_path: Path) -> None:
    place.put(KEY, file)
    with pytest.raises(ChangedArchiveError, match="other bytes") as told:
        place.fetch(KEY, tmp_path / "back", "0" * 64)
    assert told.value.key == KEY


def test_what_is_not_there_is_told(place: ArchiveStore, tmp_path: Path) -> None:
    with pytest.raises(ChangedArchiveError, match="is gone"):
        place.get(KEY, tmp_path / "back")
    place.delete(KEY)
    assert place.keys("nothing") == []


def test_a_part_is_cleared_and_no_other(place: ArchiveStore, file: Path) -> None:
    for key in ("t/2020-02/1/a", "t/2020-02/1/b", "t/2020-02/10/a"):
        place.put(key, file)
    place.clear("t/2020-02/1")
    assert place.keys("t") == ["t/2020-02/10/a"]


@pytest.mark.parametrize("folder", ["", "/"])
def test_all_there_is_is_never_cleared(place: ArchiveStore, file: Path, folder: str) -> None:
    place.put(KEY, file)
    with pytest.raises(ValueError, match="not all of it"):
        place.clear(folder)
    assert place.keys("queue.tasks_history") == [KEY]


def test_a_store_that_is_away_is_unavailable(server: S3Server, file: Path, tmp_path: Path) -> None:
    away = RemoteArchives(f"s3://{BUCKET}", server.options | {"endpoint_url": "http://127.0.0.1:9"})
    with pytest.raises(UnavailableError, match="does not answer") as told:
        away.put(KEY, file)
    assert told.value.retry_after is not None
    nowhere = RemoteArchives("s3://no-such-bucket", server.options)
    with pytest.raises(UnavailableError, match="bucket does not exist"):
        nowhere.get(KEY, tmp_path / "back")


def test_a_month_goes_to_a_bucket(database: Database, server: S3Server) -> None:
    old_tasks(database, 20)
    before = printed(database, HISTORY)
    away = RemoteArchives(f"s3://{BUCKET}", server.options | {"endpoint_url": "http://127.0.0.1:9"})
    run = archiving(database, away)
    with pytest.raises(UnavailableError):
        run.work()
    assert printed(database, HISTORY) == before
    run.store = RemoteArchives(f"s3://{BUCKET}/{uuid4()}", server.options)
    assert run.work() is None
    assert run.archived() == before
    assert printed(database, HISTORY).total() == 0
    assert len(run.store.keys(HISTORY)) == 2


def test_archives_stand_where_the_settings_say(tmp_path: Path) -> None:
    def place(**given: object) -> str:
        return archive_store(load_settings(_env_file=None, **given)).place

    assert place(storage={"root": tmp_path}) == str(tmp_path / "archives")
    assert place(archive={"url": f"file://{tmp_path}/cold%20store"}) == f"{tmp_path}/cold store"
    assert place(storage={"url": "memory://bucket"}).endswith("/bucket/archives")
    assert place(archive={"url": "memory://cold"}, storage={"root": tmp_path}).endswith("/cold")


@pytest.mark.parametrize("url", ["archives", "file://server/archives", "nonsense://x"])
def test_a_place_that_cannot_be_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match=r"archive\.url"):
        archive_store(load_settings(_env_file=None, archive={"url": url}))
