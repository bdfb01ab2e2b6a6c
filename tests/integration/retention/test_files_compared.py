"""`files.check` compares storage and rows both ways; `files.expire` takes temporary files by their age alone."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from core.settings import load_settings
from db import files
from db.embedded import EmbeddedServer
from pipelines.enqueue import enqueue
from pipelines.registry import Registry
from pipelines.resources import Resources
from pipelines.retention import files as retention
from pipelines.retention import orphans
from pipelines.retention.files import ExpireFiles, TemporaryFiles
from pipelines.retention.orphans import CheckFiles
from pipelines.storage import Found, LocalStorage
from tests.support.database import Database, cloned
from tests.support.engine import publish
from tests.support.stored import ATTACHMENTS, CHECK, DOCUMENTS, EXPIRE, TEXTS, Site, sited
from tests.support.tenants import new_tenant
from workers.testing import drain

DAY, MINUTE = timedelta(hours=24), timedelta(minutes=1)
OLD = DAY + MINUTE
LONG_AGO = "2026-01-02 00:00+00"


@pytest.fixture(scope="module")
def shared(server_without_fsync: EmbeddedServer, template_database: str) -> Iterator[Database]:
    with cloned(server_without_fsync, template_database) as database:
        publish(database, Registry([CHECK, EXPIRE]))
        yield database


@pytest.fixture
def site(shared: Database, tmp_path: Path) -> Iterator[Site]:
    with sited(shared, tmp_path) as site:
        yield site


def check(site: Site, **given: Any) -> dict[str, Any]:
    run = site.run(CheckFiles(**given))
    assert run.status == "done", run.error
    result: dict[str, Any] = run.result
    return result


# ------------------------------------------------------------------------------------------------ both ways


def test_orphans_and_what_is_missing_are_found_among_what_is_well(site: Site) -> None:
    well = [site.put(f"well {number}") for number in range(6)]
    for number, key in enumerate(well):
        site.row((DOCUMENTS, TEXTS, ATTACHMENTS)[number % 3], key)
        site.grow_old(key, OLD)
    orphaned = [site.write(f"{site.tenant_id}/{name}", age=OLD) for name in ("0/a", "odd ü", "zz/日本")]
    missing = [f"{site.tenant_id}/{name}" for name in ("00", "mm/gone", "zzz")]
    for table, key in zip((DOCUMENTS, TEXTS, ATTACHMENTS), missing, strict=True):
        site.row(table, key)
    found = check(site)
    assert found["orphans"] == {"count": 3, "bytes": 15, "first": orphaned}
    assert found["missing"] == {"count": 3, "bytes": 0, "first": missing}
    assert (found["objects"], found["bytes"]) == (9, 15 + 6 * len("well 0"))
    assert found["removed"]["count"] == found["elsewhere"] == found["failed"] == 0
    assert all(site.has(key) for key in orphaned)
    told, age = files.last_check(site.database.connect("operator")) or ({}, 99.0)
    assert (told["orphans"], told["orphan_bytes"], told["missing"], told["objects"]) == (3, 15, 3, 9)
    assert age < 60


@pytest.mark.parametrize(("age", "count"), [(DAY - MINUTE, 0), (DAY + MINUTE, 1)])
def test_a_file_is_no_orphan_until_it_is_a_day_old(site: Site, age: timedelta, count: int) -> None:
    site.write(f"{site.tenant_id}/new", age=age)
    assert check(site)["orphans"]["count"] == count


def test_what_is_about_to_be_removed_or_to_expire_is_no_orphan(site: Site) -> None:
    key = site.put("released")
    site.row(DOCUMENTS, key)
    site.grow_old(key, OLD)
    site.write(f"{site.tenant_id}/temporary/speech.mp3", age=OLD)
    site.database.rows("DELETE FROM knowledge.documents WHERE tenant_id = %s RETURNING 1", (site.tenant_id,))
    assert check(site)["orphans"]["count"] == 0
    site.database.rows("DELETE FROM ops.released_files RETURNING 1")
    assert check(site)["orphans"]["first"] == [key]


def test_orphans_are_removed_when_that_is_asked_for_and_nothing_else(site: Site) -> None:
    named = site.write(f"{site.tenant_id}/named", age=OLD)
    site.row(DOCUMENTS, named)
    young = site.write(f"{site.tenant_id}/young")
    foreign = [site.write(path, age=OLD) for path in ("backup.tar", "logs/1", f"{site.tenant_id}".upper() + "/x")]
    nobodys = site.write(f"{uuid4()}/of-no-tenant", age=OLD)
    orphan = site.write(f"{site.tenant_id}/orphan", age=OLD)
    gone = site.row(DOCUMENTS, f"{site.tenant_id}/gone")
    found = check(site, remove=True)
    assert sorted(found["removed"]["first"]) == sorted([orphan, nobodys])
    assert found["elsewhere"] == 3
    assert [site.has(key) for key in (named, young, *foreign, orphan, nobodys)] == [True] * 5 + [False] * 2
    assert found["missing"]["count"] == 1
    assert site.database.value("SELECT count(*) FROM knowledge.documents WHERE id = %s", (gone["id"],)) == 1
    again = check(site)
    assert again["orphans"]["count"] == 0
    assert (files.last_check(site.database.connect("operator")) or ({}, 0.0))[0]["orphans"] == 0


def test_one_tenant_is_checked_alone(site: Site) -> None:
    with new_tenant(site.database) as other:
        site.write(f"{other.tenant_id}/theirs", age=OLD)
        other.row(DOCUMENTS, file_path=f"{other.tenant_id}/gone")
    site.row(DOCUMENTS, f"{site.tenant_id}/gone")
    orphan = site.write(f"{site.tenant_id}/orphan", age=OLD)
    before = files.last_check(site.database.connect("operator"))
    found = check(site, tenant_id=site.tenant_id, remove=True)
    assert found["removed"]["first"] == [orphan]
    assert found["missing"]["first"] == [f"{site.tenant_id}/gone"]
    assert site.has(f"{other.tenant_id}/theirs")
    after = files.last_check(site.database.connect("operator"))
    assert [each and each[0] for each in (before, after)] == [before and before[0]] * 2, "it is no check of all"


def test_a_row_that_names_anothers_file_misses_its_own(site: Site) -> None:
    key = site.put("tea")
    with new_tenant(site.database) as other:
        other.row(DOCUMENTS, file_path=key)
    found = check(site)
    assert (found["missing"]["first"], found["orphans"]["count"]) == ([key], 0)


def test_a_name_that_is_no_text_is_an_orphans(site: Site) -> None:
    key = site.write(f"{site.tenant_id}/\udcff\udcfe", age=OLD)
    found = check(site, remove=True)
    assert found["removed"]["first"] == [f"{site.tenant_id}/\\xff\\xfe"]
    assert not site.has(key)


def test_it_goes_on_page_by_page_and_counts_each_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orphans, "_PAGE", 2)
    monkeypatch.setattr(orphans, "_SECONDS", 0.0)
    monkeypatch.setattr(files, "_PAGE", 2)
    monkeypatch.setattr(orphans, "_LISTED", 3)
    for number in range(5):
        site.write(f"{site.tenant_id}/orphan {number}", age=OLD)
        for name in ("gone", "well"):
            site.row(DOCUMENTS, f"{site.tenant_id}/{name} {number}")
        site.write(f"{site.tenant_id}/well {number}", age=OLD)
    task_id = enqueue(site.database.connect(), CheckFiles())
    drained = drain(site.database, Registry([CHECK]), resources=site.resources)
    assert drained.outcomes["files.check", "snooze"] > 5
    found = site.database.value("SELECT result FROM queue.outbox_tasks WHERE id = %s", (task_id,))
    assert (found["objects"], found["orphans"]["count"], found["missing"]["count"]) == (10, 5, 5)
    assert found["missing"]["first"] == [f"{site.tenant_id}/gone {number}" for number in range(3)]


def test_an_order_of_the_stores_own_calls_nothing_wrong(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "a-b", "a/c", "b"):
        key = f"{site.tenant_id}/dir/{name}" if name != "a" else f"{site.tenant_id}/dir/a.d"
        site.write(key, age=OLD)
        site.row(DOCUMENTS, key)
    walk = LocalStorage.walk

    def backwards(storage: LocalStorage, folder: str = "", after: str = "") -> Iterator[Found]:
        yield from reversed(list(walk(storage, folder, after)))

    monkeypatch.setattr(LocalStorage, "walk", backwards)
    found = check(site)
    assert (found["objects"], found["orphans"]["count"], found["missing"]["count"]) == (4, 0, 0)


def test_what_comes_while_it_looks_is_not_called_wrong(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    late = [f"{site.tenant_id}/{name}" for name in ("aa", "zz")]
    site.write(f"{site.tenant_id}/old", age=OLD)
    going = site.row(DOCUMENTS, f"{site.tenant_id}/gone")
    named = files.named

    def afterwards(*given: Any) -> Iterator[files.Named]:
        """Name the file that no row named, store one that was named, delete a row: once both lists were read."""
        listed = list(named(*given))
        site.database.rows("DELETE FROM knowledge.documents WHERE id = %s RETURNING 1", (going["id"],))
        site.row(DOCUMENTS, f"{site.tenant_id}/old")
        for key in late:
            site.write(key)
        yield from listed

    for key in late:
        site.row(DOCUMENTS, key)
    walk = LocalStorage.walk
    monkeypatch.setattr(LocalStorage, "walk", lambda *given: iter(list(walk(*given))))
    monkeypatch.setattr(files, "named", afterwards)
    found = check(site)
    assert (found["objects"], found["orphans"]["count"], found["missing"]["count"]) == (1, 0, 0)


def test_what_cannot_be_removed_is_counted(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.write(f"{site.tenant_id}/orphan", age=OLD)

    def refuse(_storage: LocalStorage, _tenant_id: UUID, _key: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(LocalStorage, "delete", refuse)
    found = check(site, remove=True)
    assert (found["failed"], found["removed"]["count"], found["orphans"]["count"]) == (1, 0, 1)


# ------------------------------------------------------------------------------------------------ archives


def archived(site: Site, name: str, *, status: str = "verified", writes: bool = True) -> list[str]:
    """Make a part of an archive, and the files that it names."""
    archive_id = uuid4()
    folder = f"identity.sessions/2026-01/0001-{archive_id}"
    keys = [f"{folder}/{file}" for file in (f"{name}.parquet", "manifest.json")]
    if writes:
        for key in keys:
            site.write(f"archives/{key}", age=OLD)
    whole = {"since": LONG_AGO, "until": LONG_AGO, "verified_at": "now()"} if status != "writing" else {}
    site.factory.row(
        "ops.archives",
        id=archive_id,
        status=status,
        files=[] if status == "writing" else [{"key": keys[0]}],
        manifest_key=None if status == "writing" else keys[1],
        **({"manifest_sha256": "0" * 64} if whole else {}),
        **{"table_schema": "identity", "table_name": f"t{archive_id.hex}", "month": "2026-01-01", "part": 1},
        **whole,
    )
    return [f"archives/{key}" for key in keys]


def test_archives_are_compared_with_their_parts_both_ways(site: Site) -> None:
    well = archived(site, "well")
    writing = archived(site, "writing", status="writing")
    missing = archived(site, "gone", writes=False)
    erased = archived(site, "erased", status="erased")
    folder = f"archives/identity.sessions/2026-01/0001-{uuid4()}"
    orphan, young = site.write(f"{folder}/a.parquet", age=OLD), site.write(f"{folder}/b.parquet")
    foreign = site.write("archives/identity.sessions/readme.txt", age=OLD)
    found = check(site)
    assert sorted(found["orphans"]["first"]) == sorted([orphan, *erased])
    assert found["missing"]["first"] == sorted(missing)
    assert (found["objects"], found["elsewhere"]) == (8, 1)
    assert check(site, tenant_id=site.tenant_id)["orphans"]["count"] == 0
    check(site, remove=True)
    kept = [*well, *writing, young, foreign]
    assert [key for key in [*kept, orphan, *erased] if site.has(key)] == kept


# ------------------------------------------------------------------------------------------------ temporary files


def test_a_temporary_file_goes_by_its_age_and_nothing_else_does(site: Site) -> None:
    temporary = f"{site.tenant_id}/temporary"
    stays = [
        site.write(f"{temporary}/new.mp3"),
        site.write(f"{temporary}/young.mp3", age=DAY - MINUTE),
        site.write(f"{temporary}/named.mp3", age=OLD),
        site.write(f"{site.tenant_id}/temporary.mp3", age=OLD),
        site.write(f"{site.tenant_id}/aa/temporary/file", age=OLD),
        site.write("temporary/file", age=OLD),
        site.write("logs/temporary/file", age=OLD),
    ]
    site.row(ATTACHMENTS, stays[2])
    goes = [site.write(f"{temporary}/{name}", age=DAY + MINUTE) for name in ("old.mp3", "deep/er/old.wav")]
    with new_tenant(site.database) as other:
        goes.append(site.write(f"{other.tenant_id}/temporary/old.mp3", age=OLD))
    assert site.run(ExpireFiles()).result == {"removed": 3, "kept": 1, "refused": 0}
    assert [site.has(key) for key in stays + goes] == [True] * 7 + [False] * 3


def test_no_link_leads_out_of_the_temporary_folder(site: Site, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    theirs = site.write(f"{site.tenant_id}/kept/file", age=OLD)
    (outside / "file").write_text("x")
    site.grow_old(str(outside / "file"), OLD)
    folder = site.root / str(site.tenant_id) / "temporary"
    folder.mkdir()
    (folder / "file").symlink_to(outside / "file")
    (folder / "folder").symlink_to(outside)
    (folder / "kept").symlink_to(site.root / str(site.tenant_id) / "kept")
    (site.root / str(uuid4())).mkdir()
    whole = site.root / str(uuid4())
    whole.mkdir()
    (whole / "temporary").symlink_to(outside)
    assert site.run(ExpireFiles()).result["removed"] == 0
    assert (outside / "file").exists()
    assert site.has(theirs)
    assert (folder / "file").is_symlink()


def test_expiry_goes_on_page_by_page(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "_PAGE", 2)
    monkeypatch.setattr(retention, "_SECONDS", 0.0)
    for number in range(5):
        site.write(f"{site.tenant_id}/temporary/{number}", age=OLD if number % 2 else MINUTE)
    task_id = enqueue(site.database.connect(), ExpireFiles())
    outcomes = drain(site.database, Registry([EXPIRE]), resources=site.resources).outcomes
    assert outcomes == {("files.expire", "snooze"): 3, ("files.expire", "done"): 1}
    result = site.database.value("SELECT result FROM queue.outbox_tasks WHERE id = %s", (task_id,))
    assert result == {"removed": 2, "kept": 0, "refused": 0}


def test_a_file_of_no_known_age_stays(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    key = site.write(f"{site.tenant_id}/temporary/old", age=OLD)
    monkeypatch.setattr(LocalStorage, "walk", lambda *_given: iter([Found(key, 5, None)]))
    assert site.run(ExpireFiles()).result == {"removed": 0, "kept": 0, "refused": 0}
    assert check(site)["orphans"]["count"] == 0


@pytest.mark.parametrize(("hours", "age"), [(None, 24.0), ("1.5", 1.5)])
def test_the_setting_says_how_old_temporary_files_become(
    monkeypatch: pytest.MonkeyPatch, hours: str | None, age: float
) -> None:
    if hours is not None:
        monkeypatch.setenv("GREENROOM_STORAGE_TEMPORARY_HOURS", hours)
    resources = Resources()
    retention.provide(resources, load_settings(_env_file=None))
    assert resources.get(TemporaryFiles).age == timedelta(hours=age)
