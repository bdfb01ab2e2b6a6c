"""Files in, hits out: by `ingest`, by a foreign INSERT, from good files and bad ones."""

import json
import subprocess
from pathlib import Path
from uuid import uuid4

import pytest
from fpdf import FPDF

from console.addresses import Place
from core.settings import Settings
from db.embedded import binary, running_url
from tests.support.command import Greenroom, Inline
from tests.support.site import Site
from tests.support.waiting import eventually


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """A folder with two good documents."""
    (tmp_path / "ferrets.md").write_text("# Ferrets\n\nA ferret sleeps for eighteen hours a day.\n")
    (tmp_path / "kites.txt").write_text("A box kite flies steadily because it has two cells and no tail.\n")
    (tmp_path / ".hidden.md").write_text("hidden")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return tmp_path


def test_ingested_files_are_found_beside_up(greenroom: Greenroom, shelf: Path) -> None:
    done = greenroom.json("ingest", str(shelf))
    assert done["counts"] == {"completed": 2}
    assert {Path(document["path"]).name for document in done["documents"]} == {"ferrets.md", "kites.txt"}
    assert all(document["chunks"] == 1 for document in done["documents"])

    found = greenroom.json("search", "how long does a ferret sleep", "--limit", "1")
    [hit] = found["hits"]
    assert (hit["document_name"], hit["section"]) == ("ferrets.md", "Ferrets")
    assert "eighteen hours" in hit["highlight"].replace("\x02", "").replace("\x03", "")
    shown = greenroom.ok("search", "how long does a ferret sleep", "--limit", "1")
    assert shown.startswith("1. ferrets.md, section “Ferrets”  (score 1.000")

    again = greenroom.json("ingest", str(shelf / "*.md"), str(shelf / "kites.txt"))
    assert again["counts"] == {"unchanged": 2}

    (shelf / "kites.txt").write_text("A box kite was invented by Lawrence Hargrave in 1893.\n")
    assert greenroom.json("ingest", str(shelf))["counts"] == {"completed": 1, "unchanged": 1}
    [hit] = greenroom.json("search", "who invented the box kite", "--limit", "1")["hits"]
    assert "Hargrave" in hit["text"]


def test_a_collection_is_made_and_searched_by_itself(inline: Inline, shelf: Path) -> None:
    done = inline.run("ingest", str(shelf / "ferrets.md"), "--collection", "zoo")
    assert done.returncode == 0
    assert "made the collection zoo" in done.stderr
    hits = inline.json("search", "box kite", "--collection", "zoo")["hits"]
    assert {hit["document_name"] for hit in hits} == {"ferrets.md"}
    refused = inline.run("ingest", str(shelf / "ferrets.md"), "--collection", "No Zoo")
    assert refused.returncode == 2
    assert "cannot be a collection" in refused.stderr
    assert inline.run("search", "box kite", "--collection", "nowhere").returncode == 1


def test_bad_files_fail_clearly_and_harm_no_other(inline: Inline, tmp_path: Path) -> None:
    good = _write_bad_files(tmp_path)
    done = inline.run("ingest", *(str(path) for path in sorted(tmp_path.iterdir())), "--json")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    by_name = {document["name"]: document for document in json.loads(done.stdout)["documents"]}
    assert {name for name, document in by_name.items() if document["status"] == "completed"} == good
    for name in set(by_name) - good:
        assert by_name[name]["status"] == "failed"
        listed = inline.json("documents", "show", by_name[name]["document_id"])
        assert listed["status"] == "failed"
        assert listed["error_message"] == by_name[name]["error"]
    assert "is empty" in by_name["empty.txt"]["error"]
    assert "password" in by_name["encrypted.pdf"]["error"]
    assert "PNG" in by_name["lies.txt"]["error"]
    assert "bytes" in by_name["huge.txt"]["error"] or "large" in by_name["huge.txt"]["error"]

    told = inline.run("ingest", str(tmp_path / "empty.txt"))
    assert told.returncode == 1
    assert "empty.txt" in told.stdout
    assert "is empty" in told.stdout


def _write_bad_files(folder: Path) -> set[str]:
    """Write a file of every bad kind; return the names of those that are to be ingested all the same."""
    pdf = FPDF()
    pdf.add_page()
    pdf.set_font("helvetica")
    pdf.cell(text="A page that nobody shall read.")
    whole = bytes(pdf.output())
    pdf = FPDF()
    pdf.set_encryption(owner_password="owner", user_password="user")
    pdf.add_page()
    pdf.set_font("helvetica")
    pdf.cell(text="A secret page.")
    (folder / "encrypted.pdf").write_bytes(bytes(pdf.output()))
    (folder / "truncated.pdf").write_bytes(whole[: len(whole) // 2])
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7\n" + b"nonsense " * 50 + b"\n%%EOF\n")
    (folder / "empty.txt").write_bytes(b"")
    (folder / "lies.txt").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)))
    (folder / "scripts.html").write_text("<html><body><script>let a = 1;</script></body></html>")
    with (folder / "huge.txt").open("wb") as huge:
        huge.truncate(50_000_001)  # a hole: it costs no disk
    (folder / "end.txt").write_text("The token <|endoftext|> is only text here.\n")
    (folder / "nul.txt").write_bytes(b"A text about \x00 bytes that strayed into it, and no more than that.\n")
    (folder / "surrogate.txt").write_bytes(b"An unpaired \xed\xa0\x80 surrogate of UTF-16, encoded anyway.\n")
    return {"end.txt", "nul.txt", "surrogate.txt"}


def test_a_foreign_insert_makes_a_file_searchable_and_a_rollback_does_nothing(
    inline: Inline, home: Path, storage: Path
) -> None:
    (storage / "axolotl.txt").write_text("The axolotl keeps its gills for life and regrows a lost leg.\n")
    insert = (
        """INSERT INTO queue.outbox_tasks (task_type, payload) VALUES ('document.ingest', '{"path": "axolotl.txt"}')"""
    )
    owner = running_url(home)
    assert owner is not None
    producer = Place(owner, Settings(home=home), is_embedded=True).login("producer")

    _psql(producer, f"BEGIN; {insert}; ROLLBACK;")
    assert "axolotl.txt" not in inline.ok("tasks", "list", "--limit", "100", "--json")
    assert inline.run("documents", "show", "axolotl.txt").returncode == 1

    _psql(producer, insert)
    eventually(lambda: '"completed"' in inline.run("documents", "show", "axolotl.txt", "--json").stdout, 60)
    [hit] = inline.json("search", "which animal regrows its leg", "--limit", "1")["hits"]
    assert hit["document_name"] == "axolotl.txt"


def test_a_deleted_document_leaves_nothing(inline: Inline, shelf: Path, storage: Path) -> None:
    (shelf / "gnus.txt").write_text(f"Gnus migrate in circles around the Serengeti, {uuid4()}.\n")
    [document] = inline.json("ingest", str(shelf / "gnus.txt"))["documents"]
    stored = inline.json("documents", "show", document["document_id"])["file_path"]
    assert (storage.parent / stored).is_file()
    assert inline.ok("documents", "delete", str(shelf / "gnus.txt")) == "1 deleted\n"
    assert inline.run("documents", "show", document["document_id"]).returncode == 1
    eventually(lambda: not (storage.parent / stored).exists())
    hits = inline.json("search", "where do gnus migrate")["hits"]
    assert "gnus.txt" not in {hit["document_name"] for hit in hits}


def test_no_wait_only_enqueues(inline: Inline, tmp_path: Path) -> None:
    (tmp_path / "newts.txt").write_text("Newts walk to their pond in spring.\n")
    done = inline.json("ingest", str(tmp_path / "newts.txt"), "--no-wait")
    assert done["counts"] == {"queued": 1}
    eventually(lambda: '"completed"' in inline.run("documents", "show", "newts.txt", "--json").stdout, 30)


def test_names_that_are_no_utf8_or_would_steer_a_terminal(inline: Inline, tmp_path: Path) -> None:
    path = Path(str(tmp_path) + "/odd\udcff\x1b[31m.txt")
    path.write_text("The odd file speaks of wombats.\n")
    done = inline.run("ingest", str(tmp_path))
    assert done.returncode == 0, done.stderr
    listed = inline.ok("documents", "list", "--limit", "5")
    assert "odd\\xff" in listed
    assert "\x1b" not in listed


def _psql(url: str, statement: str) -> None:
    command = [str(binary("psql")), "--no-psqlrc", "--quiet", "-v", "ON_ERROR_STOP=1", url, "-c", statement]
    subprocess.run(command, check=True, capture_output=True, timeout=30)


def test_what_stands_at_a_url_is_ingested(greenroom: Greenroom, site: Site) -> None:
    site.pages["/otters.md"] = (200, {"Content-Type": "text/markdown"}, b"# Otters\n\nAn otter holds hands asleep.\n")
    done = greenroom.json("ingest", site.url("/otters.md"))
    assert done["counts"] == {"completed": 1}
    [hit] = greenroom.json("search", "otters", "--limit", "1")["hits"]
    assert hit["document_name"] == "otters.md"

    failed = greenroom.run("ingest", site.url("/otters.md"), site.url("/none.md"), "--json")
    assert failed.returncode == 1
    told = {document["path"]: document for document in json.loads(failed.stdout)["documents"]}
    assert told[site.url("/otters.md")]["status"] == "completed"
    assert "answered 404" in told[site.url("/none.md")]["error"]


def test_a_search_is_confined_and_shows_its_neighbours(greenroom: Greenroom, tmp_path: Path) -> None:
    (tmp_path / "badgers.md").write_text("# Badgers\n\nA badger digs its sett at night.\n")
    (tmp_path / "gliders.txt").write_text("A glider soars in rising air, and badgers do not.\n")
    greenroom.ok("ingest", str(tmp_path))
    query = ("search", "badgers", "--strategy", "lexical")
    assert {hit["document_name"] for hit in greenroom.json(*query)["hits"]} == {"badgers.md", "gliders.txt"}
    found = greenroom.json(*query, "--document", "gliders.txt", "--around", "1", "--uploaded-since", "-3600")["hits"]
    assert [hit["context"] for hit in found] == ["A glider soars in rising air, and badgers do not."]
    assert greenroom.json(*query, "--meta", "team=ops")["hits"] == []
    assert greenroom.json(*query, "--kind", "curated")["hits"] == []
    assert greenroom.run("search", "x", "--document", "nothing.md").returncode == 1


def test_failed_documents_are_retried_by_name_or_all(greenroom: Greenroom, tmp_path: Path) -> None:
    broken = tmp_path / "broken retry.pdf"
    broken.write_bytes(b"%PDF-1.7\nnothing more")
    assert greenroom.run("ingest", str(broken)).returncode == 1
    [task_id] = greenroom.json("documents", "retry", "broken retry.pdf")["tasks"]
    eventually(lambda: greenroom.json("tasks", "show", task_id)["status"] == "failed", 30)
    assert task_id in greenroom.json("documents", "retry", "--failed")["tasks"]
    neither = greenroom.run("documents", "retry")
    assert (neither.returncode, "--failed" in neither.stderr) == (2, True)
