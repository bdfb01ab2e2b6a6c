"""Word documents (docx) by python-docx: paragraphs, headings, lists and tables in order, the notes at the end.

The tree is walked here and not by the library's own properties: those leave out what stands in content controls and
in insertions that nobody has accepted yet.
"""

from collections.abc import Iterator
from io import BytesIO
from typing import Any, Final

import docx
from docx.opc.constants import CONTENT_TYPE as CT
from docx.oxml.ns import qn

from pipelines.documents.parsing.archive import CORE_PROPERTIES, Archive, as_main_type
from pipelines.documents.parsing.headings import Headings
from pipelines.documents.parsing.readers.rows import table_text
from pipelines.documents.parsing.types import Block, BlockKind, Reading, Source, normalise

_PARAGRAPH, _TABLE = qn("w:p"), qn("w:tbl")
_TEXT, _TAB, _BREAKS = qn("w:t"), qn("w:tab"), (qn("w:br"), qn("w:cr"))
# Removed but not yet accepted as such; and the second rendering of a drawing, for old programs.
_LEFT_OUT: Final = (
    qn("w:del"),
    qn("w:moveFrom"),
    "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback",
)
_MAIN: Final = "application/vnd.ms-word"
_ALIKE: Final = (
    f"{_MAIN}.document.macroEnabled.main+xml",
    f"{_MAIN}.template.macroEnabledTemplate.main+xml",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.template.main+xml",
)
_NOTES: Final = ("footnotes", "endnotes")


def read(source: Source) -> Reading:
    """Read a docx."""
    data = as_main_type(source.data, CT.WML_DOCUMENT_MAIN, _ALIKE)
    document = docx.Document(BytesIO(data))
    # Where there are none, the library makes some, with a title of its own.
    has_title = CORE_PROPERTIES in Archive(source.data, source.limits).names
    return Reading(document.core_properties.title if has_title else None, _blocks(document))


def _blocks(document: Any) -> Iterator[Block]:
    headings = Headings()
    depths = _heading_depths(document)
    yield from _walk(document.element.body, depths, headings)
    for part in document.part.package.iter_parts():
        if any(str(part.partname).endswith(f"/{name}.xml") for name in _NOTES):
            yield from _notes(part)


def _walk(parent: Any, depths: dict[str, int], headings: Headings) -> Iterator[Block]:
    for child in parent:
        if child.tag == _PARAGRAPH:
            yield from _paragraph(child, depths, headings)
        elif child.tag == _TABLE:
            text = normalise(table_text(map(_cells, _below(child, qn("w:tr"))))).strip()
            if text:
                yield Block(text, "table", None, headings.path)
        elif isinstance(child.tag, str) and child.tag not in _LEFT_OUT:
            yield from _walk(child, depths, headings)


def _paragraph(element: Any, depths: dict[str, int], headings: Headings) -> Iterator[Block]:
    text = normalise("".join(_pieces(element))).strip()
    if not text:
        return
    named = element.find(f"{qn('w:pPr')}/{qn('w:pStyle')}")
    style = named.get(qn("w:val"), "") if named is not None else ""
    kind: BlockKind = "text"
    if style in depths:
        headings.enter(depths[style], text)
        kind = "title"
    elif style.startswith("List") or element.find(f"{qn('w:pPr')}/{qn('w:numPr')}") is not None:
        kind = "list_item"
    yield Block(text, kind, None, headings.path)


def _cells(row: Any) -> list[str]:
    """Return the texts of a row's cells; a table inside of one is part of its text."""
    return ["".join(_pieces(cell)) for cell in _below(row, qn("w:tc"))]


def _below(parent: Any, tag: str) -> Iterator[Any]:
    """Yield the rows of a table or the cells of a row, also those in content controls, and none of a table inside."""
    for child in parent:
        if child.tag == tag:
            yield child
        elif child.tag in (qn("w:sdt"), qn("w:sdtContent"), qn("w:ins"), qn("w:customXml")):
            yield from _below(child, tag)


def _pieces(element: Any) -> Iterator[str]:
    """Yield the text below an element, in its order."""
    for child in element:
        if child.tag == _TEXT:
            yield child.text or ""
        elif child.tag == _TAB:
            yield "\t"
        elif child.tag in _BREAKS:
            yield "\n"
        elif isinstance(child.tag, str) and child.tag not in _LEFT_OUT:
            if child.tag == _PARAGRAPH:
                yield "\n"  # of a cell, or of a text box in a paragraph
            yield from _pieces(child)


def _heading_depths(document: Any) -> dict[str, int]:
    """Return the depth of each style that is a heading, by its id: the title is outermost."""
    depths: dict[str, int] = {}
    for style in document.styles.element.iter(qn("w:style")):
        name = style.find(qn("w:name"))
        called = (name.get(qn("w:val")) if name is not None else "").casefold()
        level = style.find(f"{qn('w:pPr')}/{qn('w:outlineLvl')}")
        if called == "title":
            depths[style.get(qn("w:styleId"))] = 0
        elif called.startswith("heading ") and called[8:].isdecimal():
            depths[style.get(qn("w:styleId"))] = int(called[8:])
        elif level is not None and (level.get(qn("w:val")) or "").isdecimal() and int(level.get(qn("w:val"))) < 9:
            depths[style.get(qn("w:styleId"))] = int(level.get(qn("w:val"))) + 1
    return depths


def _notes(part: Any) -> Iterator[Block]:
    from lxml import etree

    root = etree.fromstring(part.blob, etree.XMLParser(resolve_entities=False, no_network=True))
    for note in root:
        text = normalise("".join(_pieces(note))).strip()
        if text:
            yield Block(text, "text", None, None)
