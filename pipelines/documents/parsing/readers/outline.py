"""Marked-up plain text: Org by orgparse, reStructuredText by docutils. Nothing is included, run or fetched."""

import re
from collections.abc import Iterator
from typing import Any, Final

from pipelines.documents.parsing.headings import Headings
from pipelines.documents.parsing.readers.plain import plain_blocks
from pipelines.documents.parsing.readers.rows import table_text
from pipelines.documents.parsing.types import Block, BlockKind, Reading, Source, normalise

_ORG_CODE: Final = re.compile(
    r"^[ \t]*#\+begin_(src|example)\b[^\n]*\n(.*?)^[ \t]*#\+end_\1[^\n]*$", re.M | re.S | re.I
)
_ORG_KEYWORDS: Final = re.compile(r"^[ \t]*#\+\w+:[^\n]*$", re.M)
_HEADLINE: Final = re.compile(r"^\*+ ", re.M)
_DRAWER: Final = re.compile(
    r"[ \t]*:PROPERTIES:[ \t]*\n(?:(?![ \t]*:END:)[ \t]*(?::\S+:(?:[ \t][^\n]*)?)?\n)*[ \t]*:END:[ \t]*(?:\n|\Z)"
)
_QUIET: Final[dict[str, Any]] = {
    "file_insertion_enabled": False,
    "raw_enabled": False,
    "report_level": 5,
    "halt_level": 5,
    "_disable_config": True,
    "smart_quotes": False,
}


def read(source: Source) -> Reading:
    """Read an Org file: its headlines are sections. One with dates or drawers that are none is read as plain text."""
    import orgparse

    if not _hides_text(source.text):
        try:
            root = orgparse.loads(source.text)
            return Reading(next(iter(root.get_file_property_list("TITLE")), None), tuple(_org_blocks(root)))
        except ValueError:  # of a date that no calendar has
            pass
    return Reading(None, plain_blocks(source.text, Headings()))


def _hides_text(text: str) -> bool:
    """Tell whether orgparse would take text for properties, and keep none of it.

    It has the first drawer of a section begin and end with any line that has `:PROPERTIES:` or `:END:` in it.
    """
    for section in _HEADLINE.split(text):
        begin = section.find(":PROPERTIES:")
        if begin >= 0 and _DRAWER.match(section, section.rfind("\n", 0, begin) + 1) is None:
            return True
    return False


def _org_blocks(root: Any) -> Iterator[Block]:
    headings = Headings()
    for node in root[0:]:
        heading = normalise(node.get_heading(format="plain")).strip() if node.level else ""
        if heading:
            headings.enter(node.level, heading)
            yield Block(heading, "title", None, headings.path)
        yield from _org_body(normalise(node.get_body(format="plain")), headings)


def _org_body(text: str, headings: Headings) -> Iterator[Block]:
    position = 0
    for found in _ORG_CODE.finditer(text):
        yield from plain_blocks(_ORG_KEYWORDS.sub("", text[position : found.start()]), headings)
        yield from _block(found[2], "code", headings)
        position = found.end()
    yield from plain_blocks(_ORG_KEYWORDS.sub("", text[position:]), headings)


def read_rst(source: Source) -> Reading:
    """Read reStructuredText; roles and directives that are Sphinx's own keep their text."""
    from docutils.core import publish_doctree

    # A longer line makes it read nothing at all.
    tree = publish_doctree(source.text, settings_overrides=_QUIET | {"line_length_limit": len(source.text)})
    return Reading(tree.get("title"), _rst_blocks(tree, Headings(), 0))


def _rst_blocks(parent: Any, headings: Headings, depth: int) -> Iterator[Block]:
    from docutils import nodes

    for node in parent.children:
        if isinstance(node, nodes.title | nodes.subtitle):
            headings.enter(depth if isinstance(node, nodes.title) else depth + 1, _text(node))
            yield from _block(_text(node), "title", headings)
        elif isinstance(node, nodes.section):
            yield from _rst_blocks(node, headings, depth + 1)
        elif isinstance(node, nodes.comment | nodes.substitution_definition | nodes.target):
            continue
        elif (leaf := _leaf(node)) is not None:
            yield from _block(*leaf, headings)
        else:
            yield from _rst_blocks(node, headings, depth)


def _leaf(node: Any) -> tuple[str, BlockKind] | None:
    """Return the text and kind of what is one block, None for what holds others."""
    from docutils import nodes

    match node:
        case nodes.table():
            return table_text([_text(entry) for entry in row.children] for row in node.findall(nodes.row)), "table"
        case nodes.literal_block() | nodes.doctest_block():
            return node.astext(), "code"
        case nodes.system_message():
            # What docutils does not know, it quotes: the text of a directive stays.
            return "\n\n".join(quoted.astext() for quoted in node.findall(nodes.literal_block)), "text"
        case nodes.list_item() | nodes.definition_list_item() | nodes.field():
            return _text(node), "list_item"
        case nodes.TextElement():
            return _text(node), "text"
        case _:
            return None


def _block(text: str, kind: BlockKind, headings: Headings) -> Iterator[Block]:
    text = normalise(text).strip("\n").rstrip()
    if text.strip():
        yield Block(text, kind, None, headings.path)


def _text(node: Any) -> str:
    return "\n".join(" ".join(line.split()) for line in normalise(node.astext()).split("\n")).strip()
