"""Pages that are pictures of text: read where that is asked for, refused with a hint where it is not."""

import importlib.util
import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pypdfium2
import pytest
from fpdf import FPDF
from PIL import Image, ImageOps

from core.errors import SettingsError
from core.settings import load_settings
from pipelines.documents import errors, tasks
from pipelines.documents.parsing import ParserProcess, media_type_of
from pipelines.documents.parsing.types import ParsedDocument
from pipelines.registry import provide_resources
from pipelines.resources import Resources
from tests.integration.documents.parsed import limits_of
from tests.integration.documents.shared import Shared

LINES = ("The keeper trims the wick at dusk.", "In fog the horn sounds twice a minute.", "Die Lampe brennt über Nacht.")


@pytest.fixture(scope="module")
def parser() -> Iterator[ParserProcess]:
    process = ParserProcess(reads_pictures=True)
    yield process
    process.close()


def page_of(lines: tuple[str, ...]) -> bytes:
    """Return a PDF of one page with lines of text, no larger than what is looked at without being scaled up."""
    pdf = FPDF(format=(130, 130))
    pdf.add_page()
    pdf.set_font("Helvetica", size=14)
    for line in lines:
        pdf.cell(0, 10, line, new_x="LMARGIN", new_y="NEXT")
    return bytes(pdf.output())


def scan_of(lines: tuple[str, ...], kind: str = "PNG") -> bytes:
    """Return a picture of such a page."""
    document = pypdfium2.PdfDocument(page_of(lines))
    picture = document[0].render(scale=2).to_pil().convert("RGB")
    document.close()
    content = BytesIO()
    picture.save(content, kind)
    return content.getvalue()


def parse(parser: ParserProcess, folder: Path, name: str, content: bytes) -> ParsedDocument:
    (folder / name).write_bytes(content)
    return parser.parse(folder / name, media_type=media_type_of(name), limits=limits_of())


@pytest.mark.parametrize(("name", "kind"), [("scan.png", "PNG"), ("scan.jpg", "JPEG")])
def test_a_picture_s_lines_are_its_text(parser: ParserProcess, tmp_path: Path, name: str, kind: str) -> None:
    assert parse(parser, tmp_path, name, scan_of(LINES, kind)).text.split("\n") == list(LINES)


def test_pages_that_are_scans_are_read_beside_those_that_are_not(parser: ParserProcess, tmp_path: Path) -> None:
    pdf = FPDF()
    pdf.set_font("Helvetica", size=14)
    pdf.add_page()
    pdf.cell(0, 10, "Of lamps and lenses.")
    pdf.add_page()
    pdf.image(BytesIO(scan_of(LINES)), 0, 0, 210)
    pdf.add_page()
    document = parse(parser, tmp_path, "mixed.pdf", bytes(pdf.output()))
    assert [(block.page, block.text) for block in document.blocks] == [
        (1, "Of lamps and lenses."),
        (2, "\n".join(LINES)),
    ]


def test_a_picture_is_read_as_it_would_be_shown(parser: ParserProcess, tmp_path: Path) -> None:
    shown = Image.open(BytesIO(scan_of(LINES[:1]))).convert("L")
    ink = ImageOps.invert(shown)
    clear = Image.merge("LA", (Image.new("L", shown.size, 0), ink))
    deep = shown.convert("I").point(lambda value: value * 256).convert("I;16")
    turned, exif = shown.rotate(90, expand=True), Image.Exif()
    exif[0x0112] = 6
    for name, picture, more in (
        ("clear.png", clear, {}),
        ("deep.png", deep, {}),
        ("turned.jpg", turned, {"exif": exif}),
    ):
        content = BytesIO()
        picture.save(content, "JPEG" if name.endswith("jpg") else "PNG", **more)
        assert parse(parser, tmp_path, name, content.getvalue()).text == LINES[0], name


def test_scans_are_read_after_pages_in_the_same_process(parser: ParserProcess, tmp_path: Path) -> None:
    parse(parser, tmp_path, "page.html", b"<!doctype html><html><body><p>A page.</p></body></html>")
    process = parser._process
    assert parse(parser, tmp_path, "scan.png", scan_of(LINES)).text.split("\n") == list(LINES)
    assert parser._process is process


def test_a_page_that_is_drawn_is_no_scan(parser: ParserProcess, tmp_path: Path) -> None:
    pdf = FPDF()
    pdf.set_font("Helvetica", size=14)
    pdf.add_page()
    pdf.cell(0, 10, "Of lamps and lenses.")
    for _ in range(200):
        pdf.add_page()
        pdf.line(10, 10, 100, 100)
    document = parse(parser, tmp_path, "plots.pdf", bytes(pdf.output()))
    assert document.text == "Of lamps and lenses."


def test_without_it_a_scan_is_refused_with_a_hint(shared: Shared, tmp_path: Path) -> None:
    pdf = FPDF()
    pdf.add_page()
    pdf.image(BytesIO(scan_of(LINES)), 0, 0, 210)
    with pytest.raises(errors.NoTextError, match="GREENROOM_DOCUMENTS_OCR"):
        parse(shared.parser, tmp_path, "scan.pdf", bytes(pdf.output()))
    with pytest.raises(errors.WrongTypeError, match="a PNG image"):
        parse(shared.parser, tmp_path, "scan.png", scan_of(LINES))


def huge() -> bytes:
    """Return a PNG that says it has 900 million pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("blank.png", scan_of(()), errors.NoTextError),
        ("cut.png", scan_of(LINES)[:2_000], errors.BrokenFileError),
        ("mark.jpg", b"\xff\xd8\xff\xe0" + bytes(300), errors.BrokenFileError),
        ("huge.png", huge(), errors.TooLargeError),
    ],
    ids=["blank", "cut", "mark", "huge"],
)
def test_pictures_without_text_or_sense_are_refused(
    parser: ParserProcess, tmp_path: Path, name: str, content: bytes, error: type[Exception]
) -> None:
    with pytest.raises(error):
        parse(parser, tmp_path, name, content)
    assert parse(parser, tmp_path, "next.png", scan_of(LINES[:1])).text == LINES[0]


def test_who_wants_scans_read_and_has_nothing_to_read_them_is_told_at_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = load_settings(_env_file=None, documents={"ocr": True})
    provide_resources(Resources(), settings).close()
    monkeypatch.setattr(tasks, "find_spec", lambda name: None if name == "rapidocr" else importlib.util.find_spec(name))
    with pytest.raises(SettingsError, match=r"greenroom\[ocr\]"):
        provide_resources(Resources(), settings)
