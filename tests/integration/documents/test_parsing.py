"""The real parser on good files and on every kind of bad one: a clear error, nothing lost, nothing left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from fpdf import FPDF
from fpdf.enums import AccessPermission

from core.errors import PermanentError, RetryableError
from pipelines.documents import errors
from pipelines.documents.parsing import ParsedDocument, ParserProcess
from pipelines.documents.parsing.types import normalise
from pipelines.storage.errors import FileRefusedError, FileVanishedError
from tests.integration.documents.parsed import Parse, limits_of, texts

SECRET = "quetzalcoatl"
LINE = 10_000_000


def make_pdf(pages: int = 3, *, password: str | None = None, sections: bool = False) -> bytes:
    pdf = FPDF()
    pdf.set_font("helvetica")
    if password is not None:
        pdf.set_encryption(owner_password="owner", user_password=password, permissions=AccessPermission.none())
    for number in range(1, pages + 1):
        pdf.add_page()
        if sections:
            pdf.start_section(f"Chapter {number}")
            pdf.cell(text=f"Chapter {number}", new_x="LMARGIN", new_y="NEXT")
        pdf.multi_cell(0, text=f"Page {number} tells about {SECRET}. " * 20)
    return bytes(pdf.output())


def _check_offsets(document: ParsedDocument) -> None:
    assert document.text
    for placed in document.placed_blocks:
        assert document.text[placed.start : placed.end] == placed.block.text
    assert normalise(document.text) == document.text


def test_plain_text_keeps_every_word_and_takes_underlined_headings(parse: Parse) -> None:
    text = (
        "My Guide\r\n========\r\n\r\nFirst steps\n-----------\n\nShort line\n\n  - an item\n\n"
        "More\n----\n\nAnd the end."
    )
    document = parse("guide.txt", text)
    assert document.media_type == "text/plain"
    assert document.title == "My Guide"
    assert document.text.split() == text.split()
    assert [(block.kind, block.section) for block in document.blocks] == [
        ("title", "My Guide"),
        ("title", "My Guide \u203a First steps"),
        ("text", "My Guide \u203a First steps"),
        ("list_item", "My Guide \u203a First steps"),
        ("title", "My Guide \u203a More"),
        ("text", "My Guide \u203a More"),
    ]
    _check_offsets(document)


def test_markdown_has_sections_code_tables_and_lists(parse: Parse) -> None:
    document = parse(
        "a.md",
        "# Top\n\nIntro text.\n\n## Deep\n\n* one\n* two\n\n```python\ndef f():\n    return 1\n```\n\n"
        "| a | b |\n|---|---|\n| c | d |\n\n# Next\n\nbye",
    )
    assert document.media_type == "text/markdown"
    assert document.title == "Top"
    found = [(block.kind, block.section, block.text) for block in document.blocks]
    assert ("code", "Top \u203a Deep", "def f():\n    return 1") in found
    assert ("list_item", "Top \u203a Deep", "two") in found
    assert ("table", "Top \u203a Deep", "a | b\nc | d") in found
    assert found[-1] == ("text", "Next", "bye")
    _check_offsets(document)


def test_html_is_what_a_reader_sees(parse: Parse) -> None:
    document = parse(
        "a.html",
        "<!doctype html><html><head><title>A &amp; B</title><style>p{}</style></head><body><h1>Top\u00b6</h1>"
        "<p>Some <b>bold</b> text</p><script>evil()</script><h2>Low</h2><pre>a\n  b</pre></body></html>",
    )
    assert document.title == "A & B"
    assert [(block.kind, block.section, block.text) for block in document.blocks] == [
        ("title", "Top", "Top"),
        ("text", "Top", "Some bold text"),
        ("title", "Top \u203a Low", "Low"),
        ("code", "Top \u203a Low", "a\n  b"),
    ]


def test_html_keeps_what_stands_in_forms_figures_and_details(parse: Parse) -> None:
    page = """
    <form action="/ask"><p>The page stands in a form.</p>
    <fieldset><legend>Who you are</legend><label>Your name <input value="no"></label></fieldset></form>
    <figure><img src="a.png" alt="A green room"><figcaption>Where one waits.</figcaption></figure>
    <details><summary>More of it</summary><p>Until somebody looks.</p></details>
    <table><caption>Seats by room</caption><tr><th>room</th><th>seats</th></tr><tr><td>green</td><td>4</td></tr></table>
    <nav><a href="/">Home</a></nav><button>Press</button><select><option>Choose</option></select>
    """
    assert texts(parse("page.html", f"<html><body>{page}</body></html>")) == [
        "The page stands in a form.",
        "Who you are",
        "Your name",
        "A green room",
        "Where one waits.",
        "More of it",
        "Until somebody looks.",
        "Seats by room\nroom | seats\ngreen | 4",
    ]


def test_pdf_has_pages_and_the_sections_of_its_outline(parse: Parse) -> None:
    document = parse("a.pdf", make_pdf(3, sections=True))
    assert document.media_type == "application/pdf"
    assert [(block.kind, block.page, block.section) for block in document.blocks] == [
        (kind, page, f"Chapter {page}") for page in (1, 2, 3) for kind in ("title", "text")
    ]
    _check_offsets(document)


@pytest.mark.parametrize(
    ("name", "content", "media_type"),
    [
        ("lies.txt", make_pdf(1), "application/pdf"),
        ("lies.md", "<!DOCTYPE html><p>hello</p>", "text/html"),
        ("noending", "hello", "text/plain"),
        ("utf16.txt", "h\u00e9llo".encode("utf-16"), "text/plain"),
        ("bom.html", b"\xef\xbb\xbf<p>hi</p>", "text/html"),
    ],
)
def test_content_decides_the_type(parse: Parse, name: str, content: bytes | str, media_type: str) -> None:
    assert parse(name, content).media_type == media_type


def test_legacy_encodings_keep_their_letters(parse: Parse) -> None:
    assert parse("latin.txt", "caf\u00e9 cr\u00e8me".encode("cp1252")).text == "caf\u00e9 cr\u00e8me"
    page = '<html><head><meta charset="iso-8859-2"></head><body>\u0159\u00ed\u010d</body></html>'
    assert parse("latin2.html", page.encode("iso-8859-2")).text == "\u0159\u00ed\u010d"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"a<|endoftext|>b", "a<|endoftext|>b"),
        (b"a\0b", "a\ufffdb"),
        (b"a\xed\xa0\x80b", "a\ufffdb"),
        (b"good \xc3\xa4\xc3\xb6 bad \xff end", "good \u00e4\u00f6 bad \ufffd end"),
        ("cafe\u0301".encode(), "caf\u00e9"),
    ],
)
def test_odd_characters_are_ingested(parse: Parse, content: bytes, text: str) -> None:
    for name in ("odd.txt", "odd.md", "odd.html"):
        assert parse(name, content).text == text


@pytest.mark.parametrize(
    ("name", "content", "error", "says"),
    [
        ("a.txt", b"", errors.EmptyFileError, "empty"),
        ("a.txt", b" \n\t\r\n ", errors.EmptyFileError, "blank"),
        ("a.html", f"<html><script>{SECRET}()</script><style>p{{}}</style></html>", errors.NoTextError, "no text"),
        ("a.pdf", f"no pdf but {SECRET}", errors.WrongTypeError, "says PDF, but its content is plain text"),
        ("a.pdf", f"<html>{SECRET}</html>", errors.WrongTypeError, "says PDF, but its content is HTML"),
        ("a.md", b"\x89PNG\r\n\x1a\n" + bytes(range(256)), errors.WrongTypeError, "PNG"),
        ("a.txt", b"PK\x03\x04" + SECRET.encode() * 9, errors.WrongTypeError, "ZIP"),
        ("a.docx", b"PK\x03\x04" + SECRET.encode() * 9, errors.BrokenFileError, "cut off or damaged"),
        ("a.png", f"just {SECRET}", errors.WrongTypeError, "image/png"),
        ("a.txt", bytes(range(256)) * 40, errors.WrongTypeError, "binary"),
        ("a.pdf", b"%PDF-1.7\n" + SECRET.encode() * 99 + b"\n%%EOF", errors.BrokenFileError, "damaged"),
        ("a.pdf", make_pdf(5)[:-300], errors.TruncatedFileError, "cut off"),
        ("a.pdf", make_pdf(5)[:700], errors.TruncatedFileError, "cut off"),
        ("a.pdf", make_pdf(2, password="geheim"), errors.EncryptedFileError, "encrypted"),
    ],
)
def test_bad_files_are_refused_with_a_clear_error(
    parse: Parse, name: str, content: bytes | str, error: type[PermanentError], says: str
) -> None:
    with pytest.raises(error, match=says) as raised:
        parse(name, content)
    assert SECRET not in str(raised.value)


def test_limits_are_named_in_the_error(parse: Parse) -> None:
    with pytest.raises(errors.TooManyPagesError, match=r"3 pages, 2 are allowed"):
        parse("a.pdf", make_pdf(3), max_pages=2)
    with pytest.raises(errors.TooLargeError, match=r"11 bytes, 10 are allowed"):
        parse("a.txt", "hello world", max_bytes=10)
    with pytest.raises(errors.TooLargeError, match="10 characters"):
        parse("a.txt", "hello world", max_characters=10)


def test_a_200_mb_file_is_refused_without_reading_it(tmp_path: Path) -> None:
    path = tmp_path / "huge.txt"
    with path.open("wb") as writing:
        writing.truncate(200_000_000)
    unused = ParserProcess()
    begin = time.monotonic()
    with pytest.raises(errors.TooLargeError, match="200000000 bytes"):
        unused.parse(path, limits=limits_of())
    assert time.monotonic() - begin < 0.5
    assert unused._process is None


def test_vanished_files_and_folders_and_pipes(parser: ParserProcess, tmp_path: Path) -> None:
    with pytest.raises(FileVanishedError):
        parser.parse(tmp_path / "gone.txt", limits=limits_of())
    os.mkfifo(tmp_path / "pipe.txt")
    for path in (tmp_path, tmp_path / "pipe.txt"):
        with pytest.raises(FileRefusedError, match="not that of a regular file"):
            parser.parse(path, limits=limits_of())


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [("a.txt", "", ""), ("a.md", "# T\n\n", "\n\nend"), ("a.html", "<html><body><p>", "</p></body></html>")],
)
def test_a_line_of_ten_million_characters_is_whole(parse: Parse, name: str, before: str, after: str) -> None:
    line = ("lorem ipsum dolor sit amet " * (LINE // 27 + 1))[:LINE].strip()
    assert line in parse(name, before + line + after).text


def test_a_parser_that_takes_too_long_or_too_much_is_ended_and_replaced(parser: ParserProcess, parse: Parse) -> None:
    long_page = "<p>some words to read here</p>" * 100_000
    parse("warm.html", "<p>warm</p>")
    with pytest.raises(errors.ParserTimeoutError, match=r"longer than 0\.5 s"):
        parse("slow.html", long_page, max_seconds=0.5)
    assert parse("next.txt", "fine").text == "fine"
    with pytest.raises(errors.ParserOutOfMemoryError, match="memory"):
        parse("fat.txt", "word " * 8_000_000, max_memory_bytes=180_000_000)
    assert parse("next.txt", "fine").text == "fine"


def test_a_parser_that_was_killed_is_replaced(parser: ParserProcess, parse: Parse) -> None:
    parse("a.txt", "one")
    assert parser._process is not None
    parser._process.kill()
    parser._process.wait()
    assert parse("a.txt", "two").text == "two"


def test_a_parser_that_dies_while_it_works_may_be_tried_again(parser: ParserProcess, parse: Parse) -> None:
    parse("a.txt", "one")
    process = parser._process
    assert process is not None
    os.kill(process.pid, signal.SIGSTOP)  # it cannot answer before the kill
    killer = subprocess.Popen(["/bin/sh", "-c", f"sleep 0.3; kill -9 {process.pid}"])
    with pytest.raises(errors.ParserDiedError, match="SIGKILL") as raised:
        parse("a.txt", "two")
    killer.wait()
    assert isinstance(raised.value, RetryableError)
    assert parse("a.txt", "three").text == "three"


def test_processes_are_recycled_and_closing_leaves_none(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("hello")
    recycled = ParserProcess(documents_per_process=1)
    recycled.parse(path, limits=limits_of())
    assert recycled._process is None
    kept = ParserProcess()
    kept.parse(path, limits=limits_of())
    assert kept._process is not None
    child = psutil.Process(kept._process.pid)
    kept.close()
    kept.close()
    assert not child.is_running()


PARENT = """
import os, sys
from pathlib import Path
from pipelines.documents.parsing import ParseLimits, ParserProcess
parser = ParserProcess()
inherited = os.open(sys.argv[1], os.O_RDONLY)
os.set_inheritable(inherited, True)
limits = ParseLimits(1000, 1, 60.0, 2_000_000_000, 1000)
parser.parse(Path(sys.argv[1]), limits=limits)
print(parser._process.pid, flush=True)
sys.stdin.read()
"""


def test_the_child_inherits_nothing_and_does_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("hello")
    environment = {**os.environ, "GREENROOM_DATABASE_URL": "postgresql://user:secret@host/name"}
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    with parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        assert child.open_files() == []
        assert not [name for name in child.environ() if name.startswith("GREENROOM")]
        parent.kill()
        psutil.wait_procs([child], timeout=5)
        assert not child.is_running()
