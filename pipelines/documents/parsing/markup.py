"""Markdown and HTML to blocks, from the elements that unstructured's partitioners yield.

The partitioners are passed in: unstructured itself is imported by the child alone.
"""

import html
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from pipelines.documents.parsing.plain import Headings
from pipelines.documents.parsing.types import Block, BlockKind, normalise

_TITLE: Final = re.compile(r"<title[^>]*>(.{0,2000}?)</title>", re.I | re.S)
_LONG_LINE: Final = 20_000
_PIECE: Final = 50_000
_FENCE: Final = re.compile(r" {0,3}(?:```|~~~)")
_KINDS: Final[dict[str, BlockKind]] = {
    "Title": "title",
    "ListItem": "list_item",
    "Table": "table",
    "CodeSnippet": "code",
}

Partition = Callable[[str], Iterable[Any]]
"""From source text to unstructured's elements (`text`, `category`, `metadata.category_depth`)."""


@dataclass(frozen=True)
class Partitioners:
    """The two functions of unstructured that are used."""

    html: Partition
    markdown: Partition


def blocks_of_html(source: str, partition: Partition) -> Iterator[Block]:
    """Yield what a browser would show, in its order."""
    return _blocks(partition(source), Headings())


def blocks_of_markdown(source: str, partition: Partition) -> Iterator[Block]:
    """Yield the document's blocks; lines of an absurd length pass by the Markdown parser, as text."""
    headings = Headings()
    for piece, is_long in _pieces(source):
        if is_long:
            yield Block(piece.strip(), "text", None, headings.path)
        elif piece.strip():
            yield from _blocks(partition(piece), headings)


def html_title(source: str) -> str | None:
    """Return the page's own title, in one line."""
    found = _TITLE.search(source[: 1 << 16])
    return " ".join(html.unescape(found[1]).split()) or None if found else None


def _blocks(elements: Iterable[Any], headings: Headings) -> Iterator[Block]:
    for element in elements:
        text = normalise(element.text or "").strip("\n").rstrip()
        if not text.strip():
            continue
        depth = element.metadata.category_depth
        # Only what is marked up as a heading is one; a title that was guessed from its wording is text.
        kind = _KINDS.get(element.category, "text")
        if kind == "title" and depth is None:
            kind = "text"
        if kind == "title":
            text = text.rstrip("\u00b6 ") or text  # the link to itself that documentation tools hang on a heading
            headings.enter(depth, text)
        yield Block(text, kind, None, headings.path)


def _pieces(source: str) -> Iterator[tuple[str, bool]]:
    """Split before headings into pieces of bounded length, and set lines of an absurd length apart (second value).

    Partitioning is not linear: 5 MB took 40 s in one piece and 27 s in these (loaded machine, 2026-11).
    """
    piece: list[str] = []
    length = 0
    fenced = False
    for line in source.split("\n"):
        fenced ^= _FENCE.match(line) is not None
        is_long = len(line) > _LONG_LINE
        if is_long or (length > _PIECE and not fenced and line.startswith("#")):
            yield "\n".join(piece), False
            piece, length = [], 0
        if is_long:
            yield line, True
        else:
            piece.append(line)
            length += len(line) + 1
    yield "\n".join(piece), False
