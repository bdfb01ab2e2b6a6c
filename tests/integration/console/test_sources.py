"""`greenroom ingest` of archives, by persona, by force, and of folders that change."""

import io
import json
import signal
import tarfile
import zipfile
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from console import sources
from console.sources import File, Watch, find_files, sources_of
from core.errors import UsageError
from db.embedded import running_url
from tests.support.command import Greenroom, Inline, Running
from tests.support.waiting import eventually

KNOT = "# Knots\n\nA bowline makes a loop that does not slip.\n"


def zip_of(path: Path, members: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return path


def tar_of(path: Path, members: dict[str, str], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]  # the mode is a word of many
        for name, text in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
        link = tarfile.TarInfo("link.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return path


def test_what_an_archive_holds_is_found_and_known_by_its_place(inline: Inline, tmp_path: Path) -> None:
    packed = zip_of(tmp_path / "pack.zip", {"sea/knots.md": KNOT, "sea/logo.png": "x", ".git/a.md": "x"})
    done = inline.json("ingest", str(packed), "--collection", "packed")
    [document] = done["documents"]
    assert (document["status"], document["name"]) == ("completed", "knots.md")
    assert document["path"] == f"{packed}!/sea/knots.md"
    [hit] = inline.json("search", "a loop that does not slip", "--collection", "packed")["hits"]
    assert hit["document_name"] == "knots.md"
    assert inline.json("ingest", str(packed), "--collection", "packed")["counts"] == {"unchanged": 1}
    assert inline.json("ingest", str(packed), "--collection", "packed", "--force")["counts"] == {"completed": 1}


@pytest.mark.parametrize(("ending", "mode"), [(".tar", "w"), (".tar.gz", "w:gz"), (".tbz2", "w:bz2"), (".txz", "w:xz")])
def test_members_of_a_tar_lead_nowhere(tmp_path: Path, ending: str, mode: str) -> None:
    folder = tmp_path / "into"
    folder.mkdir()
    packed = tar_of(tmp_path / f"pack{ending}", {"../../../out.txt": KNOT, "/etc/in.md": "b", "a.txt": "c"}, mode)
    found, refused = sources_of(find_files([str(packed)]), folder)
    assert refused == {}
    assert [(file.name, file.path.read_text()) for file in found if isinstance(file, File)] == [
        ("in.md", "b"),
        ("a.txt", "c"),
    ], "a name that begins with a dot is hidden, two dots among them"
    assert all(file.path.is_relative_to(folder) for file in found if isinstance(file, File))


def test_an_archive_that_is_none_fails_alone(inline: Inline, tmp_path: Path) -> None:
    (tmp_path / "good.md").write_text(KNOT)
    for name, content in (("a.zip", b"none"), ("a.tar.gz", b"\x1f\x8b none"), ("cut.zip", b"PK\x03\x04")):
        (tmp_path / name).write_bytes(content)
    odd = zip_of(tmp_path / "odd.zip", {"a.txt": "x"})
    odd.write_bytes(
        odd.read_bytes().replace(b"a.txt", b"\xff\xfe.txt"[:5]).replace(b"\x14\x00\x00\x00", b"\x14\x00\x00\x08")
    )
    done = inline.run("ingest", str(tmp_path / "*"), "--collection", "some", "--json")
    assert done.returncode == 1
    by_name = {document["name"]: document for document in json.loads(done.stdout)["documents"]}
    assert by_name.pop("good.md")["status"] == "completed"
    assert sorted(by_name) == ["a.tar.gz", "a.zip", "cut.zip", "odd.zip"]
    assert {document["status"] for document in by_name.values()} == {"failed"}
    assert all("cannot be unpacked" in document["error"] for document in by_name.values())


def test_archives_that_are_locked_endless_or_of_nothing_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = zip_of(tmp_path / "locked.zip", {"a.txt": "x"})
    content = bytearray(locked.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    locked.write_bytes(content)
    large = zip_of(tmp_path / "large.zip", {f"{n}.txt": "x" * 100 for n in range(5)})
    unread = tar_of(tmp_path / "unread.tgz", {"a.bin": "x" * 1_000, "b.txt": "y"})
    links = tmp_path / "links.tgz"
    with tarfile.open(links, "w:gz") as archive:
        for number in range(20):
            link = tarfile.TarInfo(f"{number}.txt")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(link)
    nothing = zip_of(tmp_path / "nothing.zip", {"a.png": "x"})
    found, refused = sources_of([locked, nothing, links], tmp_path)
    assert found == []
    assert "password" in refused[locked]
    assert "no file that can be" in refused[nothing]
    assert "no file that can be" in refused[links]
    monkeypatch.setattr(sources, "_MOST_BYTES", 450)
    monkeypatch.setattr(sources, "_MOST_MEMBERS", 12)
    small = zip_of(tmp_path / "small.zip", {"a.txt": "x" * 300})
    again = zip_of(tmp_path / "again.zip", {"a.txt": "x" * 300})
    for given, says in (
        ([large], "more than 450 bytes"),
        ([unread], "more than 450 bytes"),
        ([links], "more than 12 members"),
        ([small, again], "more than 450 bytes"),
    ):
        _, refused = sources_of(given, tmp_path)
        assert says in refused[given[-1]]


def test_documents_are_a_persona_s(inline: Inline, home: Path, tmp_path: Path) -> None:
    (tmp_path / "hers.md").write_text(KNOT)
    with psycopg.connect(running_url(home) or "") as owner:
        [persona] = owner.execute(
            "INSERT INTO assistants.personas (tenant_id, name, system_prompt)"
            " VALUES (identity.default_tenant_id(), 'Ada', 'You are Ada.')"
            " RETURNING id::text"
        ).fetchone() or [""]
    inline.json("ingest", str(tmp_path / "hers.md"), "--persona", persona, "--collection", "personas")
    asked = ("search", "a loop", "--collection", "personas", "--persona")
    assert len(inline.json(*asked, persona)["hits"]) == 1
    assert inline.json(*asked, str(uuid4()))["hits"] == []
    assert inline.run("ingest", str(tmp_path), "--persona", "nobody").returncode == 2
    stranger = inline.run("ingest", str(tmp_path), "--persona", str(uuid4()))
    assert stranger.returncode == 1
    assert "has no persona with the id" in stranger.stderr
    assert inline.run("ingest", str(tmp_path), "--persona", str(uuid4()), "--collection", "typo").returncode == 1
    assert "typo" not in {each["slug"] for each in inline.json("collections", "list")}


def test_documents_have_metadata_that_searches_go_by(inline: Inline, tmp_path: Path) -> None:
    (tmp_path / "rope.md").write_text(KNOT)
    given = ("--collection", "tagged", "--meta")
    inline.json("ingest", str(tmp_path), *given, "kind=rope", "--meta", "year=2026")
    assert len(inline.json("search", "a loop", *given, "kind=rope", "--meta", "year=2026")["hits"]) == 1
    assert inline.json("search", "a loop", *given, "kind=chain")["hits"] == []
    inline.json("ingest", str(tmp_path), *given, "kind=chain")
    assert len(inline.json("search", "a loop", *given, "kind=chain", "--meta", "year=2026")["hits"]) == 1


def test_documents_are_listed_by_collection_printed_whole_and_searches_judged(inline: Inline, tmp_path: Path) -> None:
    (tmp_path / "bends.md").write_text(KNOT)
    inline.json("ingest", str(tmp_path), "--collection", "bends")
    listed = inline.json("documents", "list", "--collection", "bends")["documents"]
    assert [document["name"] for document in listed] == ["bends.md"]
    assert inline.json("documents", "list", "--collection", "none")["documents"] == []
    assert "A bowline makes a loop that does not slip." in inline.ok("documents", "text", "bends.md")
    assert inline.json("documents", "text", "bends.md")["text"].startswith("Knots")
    query = inline.json("search", "a loop", "--collection", "bends")["query_id"]
    kept = inline.json("feedback", query, "helpful", "--comment", "at last")
    assert kept["feedback"] == {"rating": "helpful", "comment": "at last"}
    unknown = inline.run("feedback", str(uuid4()), "helpful")
    assert unknown.returncode == 1
    assert "no query has the id" in unknown.stderr


def test_a_watch_tells_what_stands_still_once_and_what_changed_again(tmp_path: Path) -> None:
    watch = Watch([str(tmp_path)])
    assert watch.look() == []
    file = tmp_path / "a.md"
    file.write_text("one")
    assert watch.look() == [], "it may still be written to"
    file.write_text("one and more")
    assert watch.look() == []
    assert watch.look() == [file]
    assert watch.look() == [file], "nobody has said that it is done"
    watch.done([file])
    assert watch.look() == []
    file.write_text("two, and more than before")
    watch.look()
    assert watch.look() == [file]
    watch.done([file])
    moved = file.rename(tmp_path.parent / "elsewhere.md")
    assert watch.look() == []
    moved.rename(file)
    watch.look()
    assert watch.look() == [file], "it may have been deleted meanwhile"
    for wrong, says in (("https://example.org/a", "URL"), (str(tmp_path / "none"), "nothing to follow")):
        with pytest.raises(UsageError, match=says):
            Watch([wrong])


def test_a_folder_that_is_followed_is_searched_as_it_changes(greenroom: Greenroom, up: Running, tmp_path: Path) -> None:
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    (shelf / "first.md").write_text("# First\n\nA halyard hoists the sail.\n")

    def found() -> set[str]:
        hits = greenroom.json("search", "sail halyard sheet", "--collection", "shelf")["hits"]
        return {hit["text"] for hit in hits}

    with greenroom.running("ingest", "--follow", str(shelf), "--collection", "shelf", "--json") as following:
        eventually(lambda: "completed" in following.said(), 60)
        (shelf / "gone").mkdir()
        (shelf / "gone").rmdir()
        (shelf / "second.md").write_text("# Second\n\nA sheet trims it.\n")
        eventually(lambda: following.said().count("completed") >= 2 * 2, 60)
        assert {"A halyard hoists the sail.", "A sheet trims it."} <= {text.split("\n")[-1] for text in found()}
        assert following.process.poll() is None
        assert following.stop(signal.SIGINT) == 0
        assert "Traceback" not in following.said()
