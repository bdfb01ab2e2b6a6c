"""Presentations (pptx) by python-pptx: a slide is a page, its title a heading; tables, groups and notes included."""

from collections.abc import Iterator
from io import BytesIO
from typing import Any, Final

from pptx import Presentation
from pptx.opc.constants import CONTENT_TYPE as CT

from pipelines.documents.parsing.archive import CORE_PROPERTIES, Archive, as_main_type
from pipelines.documents.parsing.headings import Headings
from pipelines.documents.parsing.readers.rows import table_text
from pipelines.documents.parsing.types import Block, BlockKind, Reading, Source, check_pages, normalise

_ALIKE: Final = (
    "application/vnd.openxmlformats-officedocument.presentationml.slideshow.main+xml",
    "application/vnd.openxmlformats-officedocument.presentationml.template.main+xml",
    "application/vnd.ms-powerpoint.slideshow.macroEnabled.main+xml",
    "application/vnd.ms-powerpoint.presentation.macroEnabled.main+xml",
)


def read(source: Source) -> Reading:
    """Read a pptx."""
    presentation = Presentation(BytesIO(as_main_type(source.data, CT.PML_PRESENTATION_MAIN, _ALIKE)))
    check_pages("presentation", "slides", len(presentation.slides), source.limits)
    # Where there are none, the library makes some, with a title of its own.
    has_title = CORE_PROPERTIES in Archive(source.data, source.limits).names
    return Reading(presentation.core_properties.title if has_title else None, _blocks(presentation))


def _blocks(presentation: Any) -> Iterator[Block]:
    for number, slide in enumerate(presentation.slides, 1):
        headings = Headings()
        title = slide.shapes.title
        if title is not None and title.has_text_frame and title.text_frame.text.strip():
            text = normalise(title.text_frame.text).strip()
            headings.enter(0, text)
            yield Block(text, "title", number, headings.path)
        for shape in slide.shapes:
            if title is None or shape.shape_id != title.shape_id:
                yield from _shape(shape, number, headings.path)
        if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
            notes = normalise(slide.notes_slide.notes_text_frame.text).strip()
            if notes:
                yield Block(notes, "text", number, headings.path)


def _shape(shape: Any, number: int, section: str | None) -> Iterator[Block]:
    if hasattr(shape, "shapes"):  # a group
        for member in shape.shapes:
            yield from _shape(member, number, section)
    elif getattr(shape, "has_table", False):
        text = normalise(table_text([cell.text for cell in row.cells] for row in shape.table.rows)).strip()
        if text:
            yield Block(text, "table", number, section)
    elif shape.has_text_frame:
        paragraphs = [paragraph for paragraph in shape.text_frame.paragraphs if paragraph.text.strip()]
        kind: BlockKind = "list_item" if len(paragraphs) > 1 else "text"
        for paragraph in paragraphs:
            yield Block(normalise(paragraph.text).strip(), kind, number, section)
