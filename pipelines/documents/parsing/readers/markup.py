"""Markdown and HTML by unstructured's partitioners, the only importer of it and of spaCy."""

import html
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from pipelines.documents.errors import BrokenFileError
from pipelines.documents.parsing.headings import Headings
from pipelines.documents.parsing.readers.rows import table_text
from pipelines.documents.parsing.types import Block, BlockKind, Reading, Source, normalise

_TITLE: Final = re.compile(r"<title[^>]*>(.{0,2000}?)</title>", re.I | re.S)
_CLASSIFIED_CHARACTERS: Final = 4_000
_LONG_LINE: Final = 20_000
_PIECE: Final = 50_000
# unstructured and lxml go down by recursion: at 400 lists or 1,000 tables in one another they fail, or lose the text.
_MAX_DEPTH: Final = 300
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
    """What is used of unstructured, and of the library by which it reads Markdown: as HTML."""

    html: Partition
    render: Callable[[str], str]


def read(source: Source) -> Reading:
    """Read HTML: what a browser would show, in its order."""
    return Reading(html_title(source.text), html_blocks(source.text, Headings()))


def read_markdown(source: Source) -> Reading:
    """Read Markdown; lines of an absurd length pass by its parser, as text."""
    return Reading(None, _markdown_blocks(source.text))


def html_blocks(text: str, headings: Headings) -> Iterator[Block]:
    """Yield the blocks of a page, or of a part of a book that has several; raises BrokenFileError for a deep one."""
    _check_depth(text)
    return _blocks(partitioners().html(text), headings)


def _check_depth(text: str) -> None:
    from lxml import etree

    class Depth:
        now = 0

        def start(self, _tag: str, _attributes: object) -> None:
            self.now += 1
            if self.now > _MAX_DEPTH:
                raise BrokenFileError(
                    f"The page is nested deeper than {_MAX_DEPTH} levels; close its elements and ingest it again."
                )

        def end(self, _tag: str) -> None:
            self.now -= 1

        def close(self) -> None:
            pass

    etree.fromstring(
        text.encode("utf-8", "replace"), etree.HTMLParser(target=Depth(), encoding="utf-8", huge_tree=True)
    )


def _markdown_blocks(text: str) -> Iterator[Block]:
    headings = Headings()
    for piece, is_long in _pieces(text):
        if is_long:
            yield Block(piece.strip(), "text", None, headings.path)
        elif piece.strip():
            page = partitioners().render(piece)
            _check_depth(page)
            yield from _blocks(partitioners().html(page), headings)


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
        elif kind == "table":
            text = _table(element.metadata.text_as_html) or text
        yield Block(text, kind, None, headings.path)


def _table(markup: str | None) -> str:
    """Return a table's caption and rows as lines; unstructured's own text of it is one line of all its words."""
    from lxml import html as parser

    if not markup:
        return ""
    table = parser.fragment_fromstring(markup, create_parent=True)
    captions = [caption.text_content() for caption in table.iter("caption")]
    rows = ([cell.text_content() for cell in row.iter("td", "th")] for row in table.iter("tr"))
    return normalise("\n".join([*captions, table_text(rows)]).strip("\n"))


@cache
def partitioners() -> Partitioners:
    """Import unstructured with its language model replaced; 5 to 6 s, once a process."""
    import markdown
    import spacy
    from unstructured.nlp import tokenize
    from unstructured.partition.html import parser, partition, partition_html

    # unstructured would download en_core_web_sm. It uses it to tell narrative text from other text, a difference that
    # no Block keeps: titles, lists, code and tables came out the same from a blank pipeline, two to nine times as fast.
    language = spacy.blank("en")
    language.add_pipe("sentencizer")
    # Longer texts are cut for this classification only; their elements keep every character.
    language.max_length = _CLASSIFIED_CHARACTERS
    tokenize._get_nlp = lambda: language  # type: ignore[assignment]

    # What it takes for boilerplate, and a browser shows. Some sites wrap the whole page in a form.
    shown = dict.fromkeys(("details", "figcaption", "figure", "form", "legend", "summary"), parser.Flow)
    parser.element_class_lookup.get_namespace(None).update({**shown, "label": parser.Phrasing})
    # Its parser drops a text of some 10 million characters, and what is nested very deep, without a word.
    patient = type(parser.html_parser)(remove_comments=True, remove_pis=True, huge_tree=True)
    patient.set_element_class_lookup(parser.element_class_lookup)
    partition.html_parser = patient  # type: ignore[attr-defined]

    # languages=[""] switches language detection off: two thirds of the time, and its result is not kept.
    return Partitioners(
        html=lambda source: partition_html(text=source, languages=[""]),
        render=lambda source: str(markdown.markdown(source, extensions=["tables", "fenced_code"])),
    )


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
