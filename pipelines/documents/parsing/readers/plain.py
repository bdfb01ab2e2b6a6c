"""Plain text to blocks: paragraphs as they stand, headings only where they are underlined.

unstructured is not asked here: it reads 0.3 MB/s and guesses titles, 626 where 340 are underlined (see ADR 0004).
"""

import re
from collections.abc import Iterator

from pipelines.documents.parsing.headings import Headings
from pipelines.documents.parsing.types import Block, BlockKind, Reading, Source

_BLANK_LINES = re.compile(r"\n(?:[^\S\n]*\n)+")
_UNDERLINE = re.compile(r"([=\-~^*#\"'+.])\1{2,}\s*")
_LIST_ITEM = re.compile(r"\s*(?:[-*+\u2022]|\d{1,3}[.)])\s+\S")
_MAX_HEADING = 200


def read(source: Source) -> Reading:
    """Read plain text."""
    return Reading(None, plain_blocks(source.text, Headings()))


def plain_blocks(text: str, headings: Headings) -> Iterator[Block]:
    """Yield the paragraphs of a normalised text. Nothing but blank lines and trailing blanks is dropped."""
    depths: dict[str, int] = {}
    for paragraph in _BLANK_LINES.split(text):
        content = paragraph.strip("\n").rstrip()
        if not content.strip():
            continue
        title = _underlined(content)
        if title is not None:
            # Underlines rank by order of appearance, as in reStructuredText.
            headings.enter(depths.setdefault(content[-1], len(depths)), title)
        yield Block(content, "title" if title is not None else _kind(content), None, headings.path)


def _underlined(content: str) -> str | None:
    lines = content.split("\n", 3)
    if len(lines) == 3 and _UNDERLINE.fullmatch(lines[0]):
        lines = lines[1:]  # an overline
    if len(lines) != 2 or not _UNDERLINE.fullmatch(lines[1]) or not 1 <= len(lines[0].strip()) <= _MAX_HEADING:
        return None
    return lines[0].strip() if _UNDERLINE.fullmatch(lines[0]) is None else None


def _kind(content: str) -> BlockKind:
    return "list_item" if _LIST_ITEM.match(content) else "text"
