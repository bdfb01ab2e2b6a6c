"""OpenDocument texts and presentations (odt, odp): headings, paragraphs, lists and tables of content.xml, in order.

Spreadsheets of the family are read with the others, by calamine.
"""

from collections.abc import Iterator
from typing import Any, Final

from pipelines.documents.parsing.archive import Archive, xml_root
from pipelines.documents.parsing.headings import Headings
from pipelines.documents.parsing.readers.rows import table_text
from pipelines.documents.parsing.types import Block, BlockKind, Reading, Source, normalise

_TEXT: Final = "{urn:oasis:names:tc:opendocument:xmlns:text:1.0}"
_TABLE: Final = "{urn:oasis:names:tc:opendocument:xmlns:table:1.0}"
_DRAW: Final = "{urn:oasis:names:tc:opendocument:xmlns:drawing:1.0}"
_OFFICE: Final = "{urn:oasis:names:tc:opendocument:xmlns:office:1.0}"
_DC: Final = "{http://purl.org/dc/elements/1.1/}"
_LEFT_OUT: Final = (f"{_TEXT}tracked-changes", f"{_OFFICE}annotation", f"{_TEXT}note-citation")
_GROUPS: Final = tuple(f"{_TABLE}{name}" for name in ("table-header-rows", "table-rows", "table-row-group"))
# One cell may stand for a million empty ones.
_MAX_REPEATED: Final = 100


def read(source: Source) -> Reading:
    """Read an odt or odp."""
    archive = Archive(source.data, source.limits)
    title = None
    if "meta.xml" in archive.names:
        found = xml_root(archive.read("meta.xml")).find(f".//{_DC}title")
        title = normalise("".join(found.itertext()) if found is not None else "").strip() or None
    return Reading(title, _Content().walk(xml_root(archive.read("content.xml")), is_item=False))


class _Content:
    """A walk over content.xml: on which page it is, and below which headings."""

    def __init__(self) -> None:
        self._headings = Headings()
        self._page = 0

    def walk(self, parent: Any, *, is_item: bool) -> Iterator[Block]:
        """Yield the blocks below an element; `is_item` inside of a list."""
        for child in parent:
            if child.tag == f"{_TEXT}h":
                yield from self._heading(child)
            elif child.tag == f"{_TEXT}p":
                yield from self._block(_text(child), "list_item" if is_item else "text")
                for frame in child.iter(f"{_DRAW}text-box"):
                    yield from self.walk(frame, is_item=False)
            elif child.tag == f"{_TABLE}table":
                yield from self._block(table_text(map(_cells, _rows(child))), "table")
            elif isinstance(child.tag, str) and child.tag not in _LEFT_OUT:
                if child.tag == f"{_DRAW}page":
                    self._page, self._headings = self._page + 1, Headings()
                yield from self.walk(child, is_item=is_item or child.tag == f"{_TEXT}list-item")

    def _heading(self, element: Any) -> Iterator[Block]:
        text = normalise(_text(element)).strip()
        if text:
            level = element.get(f"{_TEXT}outline-level") or "1"
            self._headings.enter(int(level) if level.isdecimal() else 1, text)
            yield from self._block(text, "title")

    def _block(self, text: str, kind: BlockKind) -> Iterator[Block]:
        text = normalise(text).strip()
        if text:
            yield Block(text, kind, self._page or None, self._headings.path)


def _rows(table: Any) -> Iterator[Any]:
    """Yield the rows of a table, and none of a table inside."""
    for child in table:
        if child.tag == f"{_TABLE}table-row":
            yield child
        elif child.tag in _GROUPS:
            yield from _rows(child)


def _cells(row: Any) -> list[str]:
    cells: list[str] = []
    for cell in row:
        if cell.tag in (f"{_TABLE}table-cell", f"{_TABLE}covered-table-cell"):
            repeated = cell.get(f"{_TABLE}number-columns-repeated") or "1"
            count = min(int(repeated), _MAX_REPEATED) if repeated.isdecimal() else 1
            cells += [_text(cell)] * count
    return cells


def _text(element: Any) -> str:
    return "".join(_pieces(element))


def _pieces(element: Any) -> Iterator[str]:
    yield element.text or ""
    for child in element:
        if child.tag == f"{_TEXT}s":
            count = child.get(f"{_TEXT}c") or "1"
            yield " " * (min(int(count), _MAX_REPEATED) if count.isdecimal() else 1)
        elif child.tag == f"{_TEXT}tab":
            yield "\t"
        elif child.tag == f"{_TEXT}line-break":
            yield "\n"
        elif isinstance(child.tag, str) and child.tag not in _LEFT_OUT and child.tag != f"{_DRAW}frame":
            is_paragraph = child.tag in (f"{_TEXT}p", f"{_TEXT}h")
            yield "\n" if is_paragraph else ""  # of a cell or a note
            yield from _pieces(child)
            yield "\n" if is_paragraph else ""
        yield child.tail or ""
