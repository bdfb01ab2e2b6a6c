"""PDF to blocks by pypdfium2: one block a page and outline section, with the page's number.

Pages are those of the file, counted from 1. Sections come from the PDF's own outline: a line that equals the next
entry's title starts that section; an entry whose title is not found starts with the page after its own.
"""

import re
from collections import deque
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import pypdfium2
from pypdfium2.raw import FPDF_PAGEOBJ_IMAGE

from pipelines.documents.errors import EncryptedFileError, TruncatedFileError
from pipelines.documents.parsing.formats import check_pdf_ends, too_odd
from pipelines.documents.parsing.headings import Headings
from pipelines.documents.parsing.types import Block, Reading, Source, check_pages, normalise

_LOCKED: Final = (4, 5)  # FPDF_ERR_PASSWORD, and FPDF_ERR_SECURITY for a lock that it does not know
# pdfium marks a hyphen that the typesetter put in by U+0002 or U+FFFE: the word goes on after it.
_SOFT_HYPHEN: Final = re.compile("[\x02\ufffe](?:\r?\n)?")
_NUMBERING: Final = re.compile(r"^(?:chapter|appendix)?\s*[\dA-Z]{0,3}(?:\.\d+)*[.:]?\s+", re.I)
_MAX_OUTLINE_DEPTH: Final = 8
# Of 72 dots an inch: a scan is read at 144, as well as at 216 and in half the time.
_SCALE: Final = 2.0
# How deep pictures are looked for in forms in one another.
_FORMS: Final = 3


class _Entry(NamedTuple):
    page: int
    depth: int
    title: str


def read(source: Source) -> Reading:
    """Read a whole PDF. Raises TruncatedFileError, EncryptedFileError, BrokenFileError, TooManyPagesError."""
    # pdfium mends files without an end and hands out what is left of them: a silent loss, so it is refused first.
    if not check_pdf_ends(source.data):
        raise TruncatedFileError("The PDF is cut off before its end; transfer or save it again.")
    document = _open(source.data)
    try:
        check_pages("PDF", "pages", len(document), source.limits)
        outline = deque(_outline(document))
        return Reading(_title(document), tuple(_blocks(document, outline, reads_pictures=source.reads_pictures)))
    except pypdfium2.PdfiumError:
        raise too_odd("PDF") from None
    finally:
        document.close()


def _open(data: bytes) -> Any:
    try:
        return pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        if error.err_code in _LOCKED:
            raise EncryptedFileError("The PDF is encrypted; remove its password and ingest it again.") from None
        raise too_odd("PDF") from None


def _title(document: Any) -> str | None:
    return " ".join(normalise(document.get_metadata_value("Title")).split()) or None


def _outline(document: Any) -> Iterator[_Entry]:
    for bookmark in document.get_toc(max_depth=_MAX_OUTLINE_DEPTH):
        target = bookmark.get_dest()
        page = target.get_index() if target is not None else None
        title = " ".join(normalise(bookmark.get_title()).split())
        if page is not None and title:
            yield _Entry(page, bookmark.level, title)


def _blocks(document: Any, outline: deque[_Entry], *, reads_pictures: bool) -> Iterator[Block]:
    headings = Headings()
    for index in range(len(document)):
        while outline and outline[0].page < index:
            entry = outline.popleft()
            headings.enter(entry.depth, entry.title)
        lines = _page_lines(document, index)
        if reads_pictures and not any(lines):
            lines = _lines_in_picture(document, index)
        yield from _page_blocks(lines, index, outline, headings)


def _page_lines(document: Any, index: int) -> list[str]:
    page = document[index]
    try:
        text_page = page.get_textpage()
        try:
            text = text_page.get_text_bounded()
        finally:
            text_page.close()
    finally:
        page.close()
    return [line.rstrip() for line in normalise(_SOFT_HYPHEN.sub("", text)).split("\n")]


def _lines_in_picture(document: Any, index: int) -> list[str]:
    """Return the lines of a page that is a scan; none of one that is blank, or drawn."""
    from pipelines.documents.parsing.readers.pictures import MOST_SIDE, lines_of

    page = document[index]
    try:
        if not any(drawn.type == FPDF_PAGEOBJ_IMAGE for drawn in page.get_objects(max_depth=_FORMS)):
            return []
        scale = min(_SCALE, MOST_SIDE / max(*page.get_size(), 1.0))
        return lines_of(page.render(scale=scale).to_pil().convert("RGB"))
    finally:
        page.close()


def _page_blocks(lines: list[str], index: int, outline: deque[_Entry], headings: Headings) -> Iterator[Block]:
    width = max((len(line) for line in lines), default=0)
    body: list[str] = []
    for line in lines:
        if not (outline and outline[0].page == index and _same_title(line, outline[0].title)):
            body.append(line)
            continue
        yield from _body_block(body, width, index, headings)
        body = []
        entry = outline.popleft()
        headings.enter(entry.depth, entry.title)
        yield Block(line.strip(), "title", index + 1, headings.path)
    yield from _body_block(body, width, index, headings)


def _body_block(lines: list[str], width: int, index: int, headings: Headings) -> Iterator[Block]:
    text = _unwrap(lines, width).strip("\n")
    if text.strip():
        yield Block(text, "text", index + 1, headings.path)


def _unwrap(lines: list[str], width: int) -> str:
    """Join lines that run to the margin, so that a line break is left where a paragraph, item or heading ends."""
    parts: list[str] = []
    for line in lines:
        full = len(line) * 4 > width * 3 and len(line) > 40
        parts.append(line + (" " if full else "\n"))
    return "".join(parts).rstrip()


def _same_title(line: str, title: str) -> bool:
    return _plain_title(line) == _plain_title(title)


def _plain_title(text: str) -> str:
    words = " ".join(text.split())
    return (_NUMBERING.sub("", words, count=1) or words).casefold()
